"""A process of a test over a real database: ``apply`` coordinates a run of a few units under a lease, ``worker`` is the
loop of `ismgr worker`. A unit writes lines into a file; a slow one waits for a gate in its first attempt."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ismgr_automation.core.errors import LeaseLost
from ismgr_automation.core.events import Event
from ismgr_automation.core.json import JsonObject
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.engines.steps.rows import beside
from ismgr_automation.engines.steps.sequencer import DbosSequencer
from ismgr_automation.engines.steps.server import DbosServer
from ismgr_automation.ports.runs import Run, RunState, Unit
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.runs.desk import Desk, MayBegin, Orders, Seat
from ismgr_automation.runs.keeper import hold, this_process
from ismgr_automation.runs.worker import Worker

RUN = "20261122T081500-3f9a"
LEASE = "infra/lab"
PATIENCE_S = 60.0


class Process:
    """One process with its orders."""

    def __init__(self, orders: dict[str, str]) -> None:
        self.name = orders["name"]
        self.keys = orders["units"].split()
        self.folder = Path(orders["folder"])
        self.ttl = timedelta(seconds=float(orders["ttl"]))
        self.url = orders["url"]
        password = sys.stdin.readline().strip()
        self.password = Secret(password) if password else None
        self.database: Database = open_database(self.url, self.password, estate="infra")
        self.stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda _number, _frame: self.stop.set())

    def note(self, words: str) -> None:
        with (self.folder / "notes").open("a") as notes:
            notes.write(f"{words}\n")

    def work(self, unit: Unit, executor: str, token: int, ours: Callable[[], bool] = lambda: True) -> JsonObject:
        """The journal first, then the effect, which is done once."""
        journal = self.database.journal
        mine = [one for one in journal.steps(unit.run) if one.unit.key == unit.key]
        ended = next((one.outcome for one in mine if one.outcome is not None), None)
        if ended is not None:
            return ended
        journal.started(unit, executor, token)
        done = self.folder / f"done-{unit.key.replace('/', '-')}"
        if done.exists():
            self.note(f"found {unit.key} {self.name}")
        else:
            self.note(f"begin {unit.key} {self.name}")
            if unit.key.endswith("slow") and not mine:
                self._wait_for_the_gate()
            done.touch()
            self.note(f"effect {unit.key} {self.name}")
        outcome = {"key": unit.key, "who": self.name}
        if not ours():
            raise LeaseLost("It is somebody else's.")
        journal.finished(unit, token, outcome)
        return outcome

    def _wait_for_the_gate(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while not (self.folder / "gate").exists():
            assert time.monotonic() < end
            time.sleep(0.02)

    def apply(self) -> None:
        with hold(
            self.database.leases,
            LEASE,
            this_process("apply"),
            self.ttl,
            wait=None,
            leash=self.folder / "leash",
            emit=lambda _event: None,
            cancelled=self.stop,
        ) as kept:
            run = Run(
                id=RUN,
                estate="infra",
                environment="lab",
                digest="",
                purpose="apply",
                commit="c",
                plan="",
                token=kept.lease.token,
                holder=kept.lease.holder,
                started_at=datetime.now(UTC),
            )
            self.database.runs.begin(run, [])
            self._perform(run)

    def resume(self, run: Run) -> str:
        with hold(
            self.database.leases,
            LEASE,
            this_process("resume"),
            self.ttl,
            wait=None,
            leash=self.folder / "leash",
            emit=lambda _event: None,
            cancelled=self.stop,
        ) as kept:
            run = replace(run, token=kept.lease.token)
            self.database.runs.take_over(run.id, run.token, kept.lease.holder)
            self._perform(run)
        return "done"

    def _perform(self, run: Run) -> None:
        steps = self.database.journal.steps(run.id)
        ended = {one.unit.key for one in steps if one.outcome is not None}
        attempts = {one.unit.key: one.unit.attempt + 1 for one in steps}
        left = [
            Unit(run=run.id, round=1, key=key, attempt=attempts.get(key, 1)) for key in self.keys if key not in ended
        ]
        name = f"{self.name}-{os.getpid()}-{time.monotonic_ns()}"
        with DbosSequencer(
            beside(self.url, self.password, self.database.schema),
            executor=name,
            holder=this_process(),
            executors=self.database.executors,
            work=lambda unit: self.work(unit, name, run.token),
            at_once=1,
            ttl=self.ttl,
        ) as sequencer:
            for unit, _ in sequencer.perform(left, self.stop):
                self.note(f"outcome {unit.key} {self.name}")
        if not self.stop.is_set():
            self.database.runs.close(replace(run, state=RunState.DONE, finished_at=datetime.now(UTC), report={}))

    def worker(self, *, once: bool) -> None:
        def serving(work: Work, may_begin: MayBegin) -> DbosServer:
            return DbosServer(
                beside(self.url, self.password, self.database.schema),
                executor=f"{self.name}-{os.getpid()}-{time.monotonic_ns()}",
                holder=this_process("worker"),
                executors=self.database.executors,
                work=work,
                may_begin=may_begin,
                at_once=1,
                ttl=self.ttl,
            )

        @contextmanager
        def opened(run: Run, seat: Seat) -> Iterator[Work]:
            yield lambda unit: self.work(unit, seat.executor, run.token, seat.ours)

        desk = Desk(
            runs=self.database.runs,
            leases=self.database.leases,
            serving=serving,
            open=opened,
            resume=self.resume,
            folder=self.folder / self.name,
            emit=self.told,
        )
        tally = Worker(desk, Orders(once=once, grace=timedelta(seconds=2))).run(self.stop)
        self.note(f"tally {tally.done} {len(tally.given_up)} {len(tally.resumed)} {self.name}")

    def told(self, event: Event) -> None:
        self.note(f"said {getattr(event, 'step', '')}: {getattr(event, 'detail', '')}")


def main() -> None:
    orders = json.loads(sys.argv[1])
    process = Process(orders)
    match orders["do"]:
        case "apply":
            process.apply()
        case "worker":
            process.worker(once=False)
        case _:
            process.worker(once=True)


if __name__ == "__main__":
    main()
