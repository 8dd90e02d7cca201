"""The loop of ``ismgr worker``: carries out units of runs that others coordinate, and takes runs over whose coordinator
is gone. It works for a run only while the lease of its coordinator certainly lasts; what a unit does is not known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineError, IsmgrError, LeaseLost
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.runs import Run, RunState, Unit
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.runs.desk import Desk, Orders, Seat, Server, Tally
from ismgr_automation.runs.keeper import clock_ns
from ismgr_automation.runs.watch import Watch

LOOK_S = 1.0
"""How often the loop looks at runs and leases."""
AGAIN_S = 60.0
"""How long a run rests that could not be taken over, or whose estate could not be opened here."""
PATIENCE_S = 300.0
"""How long a database that is away is waited for."""
PAUSE_S = 1.0
"""How long a unit is held that is given back, so that it does not come back at once."""


@dataclass(slots=True)
class _Bench:
    """An estate that is open for one run under one token."""

    work: Work
    seat: Seat
    close: Callable[[], None]


class Worker:
    """One worker. ``run`` is its whole life."""

    def __init__(self, desk: Desk, orders: Orders) -> None:
        self.tally = Tally()
        self._desk = desk
        self._orders = orders
        self._stop = threading.Event()
        self._pausing = False
        self._next: Run | None = None
        self._trouble_since: float | None = None
        self._server: Server | None = None
        self._known: dict[str, Run] = {}
        self._watches: dict[tuple[str, int], Watch] = {}
        self._benches: dict[tuple[str, int], _Bench] = {}
        self._resting: dict[str, float] = {}
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> Tally:
        """Work until ``stop`` is set, or with ``once`` until nothing is left. Then units in hand are waited for; those
        that do not end within ``grace`` are stopped and given up, and their coordinator goes on with them.

        An exception that comes from outside (a second Ctrl-C) stops and gives up at once. Raises ``EngineError`` when
        the database fails, and ``InputError`` when ``only`` names no run.
        """
        self._stop = stop
        if self._orders.only:
            self._desk.runs.run(self._orders.only)
        runs = self._orders.only or "runs"
        self._desk.emit(
            StepReported(step="waiting", detail=f"for {runs} of {self._orders.environment or 'every environment'}")
        )
        while True:
            with self._desk.serving(self._work, self._may_begin) as server:
                self._server = server
                self._pausing = False
                try:
                    due = self._serve(server)
                    self._pausing = True
                    self._drain(server, self._orders.grace)
                except BaseException:
                    stop.set()
                    self._drain(server, timedelta())
                    raise
                finally:
                    self._close_benches(everything=True)
            if due is None:
                return self.tally
            self._take_over(due)

    def _serve(self, server: Server) -> Run | None:
        """Work until there is a run to take over, or until the end (None)."""
        while not self._stop.is_set():
            if self._patiently(lambda: self._turn(server)):
                return self._next
            server.wait(LOOK_S)
        return None

    def _turn(self, server: Server) -> bool:
        """One look at everything; True when this server has nothing more to do, and ``_next`` says what has."""
        self._look()
        self._tend(server)
        self._next = self._due(server)
        if self._next is not None:
            return True
        wanted = [run for run in self._alive() if server.takes_work(run)]
        if set(wanted) != set(server.listening):
            self._listen(server, wanted)
        return self._orders.once and self._idle(server, wanted)

    def _patiently(self, turn: Callable[[], bool]) -> bool:
        """A database that is away is waited for, for a while. Leashes are not renewed then, so that nothing runs on
        here when others may begin."""
        try:
            ended = turn()
        except EngineError as problem:
            now = time.monotonic()
            if self._trouble_since is None:
                self._trouble_since = now
                self._desk.emit(StepReported(step="waits", detail=str(problem)))
            if now - self._trouble_since > PATIENCE_S:
                raise
            return False
        self._trouble_since = None
        return ended

    def _listen(self, server: Server, wanted: Sequence[str]) -> None:
        """Change the runs that are listened to, when no unit is in hand."""
        self._pausing = True
        try:
            if server.in_hand():
                return
            server.listen(wanted)
            self._close_benches(everything=False)
        finally:
            self._pausing = False
        words = ", ".join(f"{run} ({self._known[run].environment})" for run in wanted)
        self._desk.emit(StepReported(step="listening", detail=words or "no run wants work"))

    def _look(self) -> None:
        """See which runs there are, and how the leases of their coordinators stand."""
        orders = self._orders
        found = self._desk.runs.runs(orders.environment, limit=200)
        self._known = {one.id: one for one in found if one.state is RunState.RUNNING and orders.only in {"", one.id}}
        watches = {}
        for run in self._known.values():
            asked_ns = clock_ns()
            before = self._watches.get((run.id, run.token), Watch(token=run.token))
            watches[run.id, run.token] = before.seen(
                self._desk.leases.look(f"{run.estate}/{run.environment}"), asked_ns
            )
        self._watches = watches

    def _alive(self) -> list[str]:
        """Runs that somebody coordinates, and that can be worked for here."""
        now = time.monotonic()
        return [
            run
            for (run, _), watch in sorted(self._watches.items())
            if watch.lasts(clock_ns()) and self._resting.get(run, 0.0) <= now
        ]

    def _due(self, server: Server) -> Run | None:
        """A run whose coordinator is gone, once no unit is in hand."""
        if server.in_hand():
            return None
        now = time.monotonic()
        gone = [run for (run, _), watch in sorted(self._watches.items()) if watch.over]
        return next((self._known[run] for run in gone if self._resting.get(run, 0.0) <= now), None)

    def _idle(self, server: Server, wanted: Sequence[str]) -> bool:
        now = time.monotonic()
        unproven = any(
            not watch.over
            and not watch.lasts(clock_ns())
            and self._resting.get(run, 0.0) <= now
            and server.waiting(run)
            for (run, _), watch in self._watches.items()
        )
        return not unproven and not server.in_hand() and not any(map(server.waiting, wanted))

    def _tend(self, server: Server) -> None:
        """Keep the leashes of benches as long as the leases certainly last, and stop units that must not go on."""
        with self._lock:
            benches = dict(self._benches)
        for key, bench in benches.items():
            watch = self._watches.get(key)
            until = min(watch.until_ns, server.until_ns) if watch is not None and not watch.over else 0
            _write(bench.seat.leash, until)
            if until <= clock_ns():
                self._give_up(server, key)
            elif server.is_cancelled(key[0]):
                bench.seat.cancelled.set()

    def _give_up(self, server: Server, key: tuple[str, int]) -> None:
        bench = self._benches[key]
        for unit in server.in_hand():
            if unit.run == key[0] and unit.id not in self.tally.given_up:
                server.give_up(unit)
                self.tally.given_up.append(unit.id)
                self._desk.emit(StepReported(step="gave up", detail=f"{unit.key} of run {unit.run}"))
        bench.seat.cancelled.set()

    def _drain(self, server: Server, grace: timedelta) -> None:
        """Wait for units in hand; stop those that take too long."""
        end = time.monotonic() + grace.total_seconds()
        told = False
        while server.in_hand():
            if not told and self._stop.is_set():
                told = True
                words = ", ".join(unit.key for unit in server.in_hand())
                self._desk.emit(StepReported(step="stopping", detail=f"waiting for {words}"))
            self._patiently(lambda: self._look_after(server))
            if time.monotonic() >= end:
                for key in list(self._benches):
                    self._give_up(server, key)
            server.wait(LOOK_S)

    def _look_after(self, server: Server) -> bool:
        self._look()
        self._tend(server)
        return False

    def _may_begin(self, unit: Unit) -> bool:
        """Asked in the unit's own thread, right before it: may it be done, and can it be done here?"""
        if self._ready(unit):
            return True
        if not self._pausing:
            self._stop.wait(PAUSE_S)
        return False

    def _ready(self, unit: Unit) -> bool:
        server = self._server
        key = self._key(unit.run)
        if server is None or key is None or self._pausing or self._stop.is_set() or not self._lasts(key):
            return False
        if not server.takes_work(unit.run):
            return False
        return self._bench(server, key) is not None and self._lasts(key)

    def _lasts(self, key: tuple[str, int]) -> bool:
        watch = self._watches.get(key)
        return watch is not None and watch.lasts(clock_ns())

    def _key(self, run: str) -> tuple[str, int] | None:
        known = self._known.get(run)
        return (known.id, known.token) if known is not None else None

    def _bench(self, server: Server, key: tuple[str, int]) -> _Bench | None:
        """The open estate for a run; opened once. None when it cannot be opened here, which is told."""
        with self._lock:
            if key in self._benches:
                return self._benches[key]
            run = self._known[key[0]]
            folder = self._desk.folder / f"{run.id}-{run.token}"
            folder.mkdir(parents=True, exist_ok=True)
            seat = Seat(executor=server.name, cancelled=threading.Event(), leash=folder / "leash")
            _write(seat.leash, min(self._watches[key].until_ns, server.until_ns))
            try:
                with ExitStack() as stack:
                    work = stack.enter_context(self._desk.open(run, seat))
                    self._benches[key] = _Bench(work, seat, stack.pop_all().close)
            except IsmgrError as problem:
                self._rest(run, f"cannot be worked for here: {problem}")
                return None
            return self._benches[key]

    def _work(self, unit: Unit) -> JsonObject:
        key = self._key(unit.run)
        bench = self._benches.get(key) if key is not None else None
        if bench is None:
            raise LeaseLost(
                f"Run {unit.run} goes on under another lease.", next_step="Look with `ismgr lease` who has it."
            )
        self._desk.emit(StepReported(step="began", detail=f"{unit.key} of run {unit.run}"))
        outcome = bench.work(unit)
        self.tally.done += 1
        self._desk.emit(StepReported(step="ended", detail=f"{unit.key} of run {unit.run}"))
        return outcome

    def _close_benches(self, *, everything: bool) -> None:
        with self._lock:
            over = [key for key in self._benches if everything or not self._lasts(key)]
            closing = [self._benches.pop(key) for key in over]
        for bench in closing:
            bench.close()

    def _take_over(self, run: Run) -> None:
        """Go on with a run whose coordinator is gone. A refusal is told, and tried again later."""
        if self._stop.is_set():
            return
        self._desk.emit(StepReported(step="takes over", detail=f"run {run.id}, which {run.holder} left"))
        try:
            words = self._desk.resume(run)
        except IsmgrError as problem:
            self._rest(run, f"was not taken over: {problem}")
            return
        self.tally.resumed.append(run.id)
        self._desk.emit(StepReported(step="took over", detail=f"run {run.id}: {words}"))

    def _rest(self, run: Run, why: str) -> None:
        self._resting[run.id] = time.monotonic() + AGAIN_S
        self._desk.emit(StepReported(step="waits", detail=f"run {run.id} {why}"))


def _write(leash: Path, until_ns: int) -> None:
    fresh = leash.with_name(f"{leash.name}.new")
    fresh.write_text(str(until_ns), encoding="ascii")
    fresh.replace(leash)
