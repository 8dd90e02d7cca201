"""The loop of ``ismgr worker``: carries out units of runs that others coordinate, and takes runs over whose coordinator
is gone. It works for a run only while the lease of its coordinator certainly lasts; what a unit does is not known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from ismgr_automation.core.errors import EngineError, IsmgrError, LeaseLost
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.runs import Run, RunState, Sought, Unit
from ismgr_automation.runs.bench import Benches, Key
from ismgr_automation.runs.desk import Desk, Orders, Server, Tally
from ismgr_automation.runs.keeper import clock_ns
from ismgr_automation.runs.watch import Watch

LOOK_S = 0.5
"""How often the loop looks at runs and leases."""
AGAIN_S = 60.0
"""How long a run rests that could not be taken over, or whose estate could not be opened here."""
PATIENCE_S = 300.0
"""How long a database that is away is waited for."""
PAUSE_S = 1.0
"""How long a unit is held that is given back, so that it does not come back at once."""


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
        self._watches: dict[Key, Watch] = {}
        self._benches = Benches(desk.open, desk.folder, self._until)
        self._resting: dict[str, float] = {}

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
                    self._benches.close(everything=True)
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
            self._benches.close(everything=False)
        finally:
            self._pausing = False
        words = ", ".join(f"{run} ({self._known[run].environment})" for run in wanted)
        self._desk.emit(StepReported(step="listening", detail=words or "no run wants work"))

    def _look(self) -> None:
        """See which runs there are, and how the leases of their coordinators stand."""
        orders = self._orders
        found = self._desk.runs.runs(orders.environment, None, Sought(state=RunState.RUNNING))
        self._known = {one.id: one for one in found if orders.only in {"", one.id}}
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
        for key in self._benches.tend():
            self._give_up(server, key)
        for key in self._benches.open_now():
            bench = self._benches.get(key)
            if bench is not None and server.is_cancelled(key[0]):
                bench.seat.cancelled.set()

    def _until(self, key: Key) -> int:
        """Until when this run may be worked for: while its lease certainly lasts, and we certainly count as living."""
        watch = self._watches.get(key)
        return min(watch.until_ns, self._server.until_ns) if watch and not watch.over and self._server else 0

    def _give_up(self, server: Server, key: Key) -> None:
        for unit in server.in_hand():
            if unit.run == key[0] and unit.id not in self.tally.given_up:
                server.give_up(unit)
                self.tally.given_up.append(unit.id)
                self._desk.emit(StepReported(step="gave up", detail=f"{unit.key} of run {unit.run}"))
        self._benches.spend(key)

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
                for key in self._benches.open_now():
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
        try:
            bench = self._benches.ready(self._known[unit.run], server.name)
        except IsmgrError as problem:
            self._rest(self._known[unit.run], f"cannot be worked for here: {problem}")
            return False
        return bench.seat.ours() and self._lasts(key)

    def _lasts(self, key: Key) -> bool:
        return clock_ns() < self._until(key)

    def _key(self, run: str) -> Key | None:
        known = self._known.get(run)
        return (known.id, known.token) if known is not None else None

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
