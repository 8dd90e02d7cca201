"""Estates that a worker has open for the runs it works for: opened once each, on a leash that is kept as long as the
run's lease certainly lasts. What a unit does is not known here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.ports.runs import Run
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.runs.desk import Opener, Seat
from ismgr_automation.runs.keeper import clock_ns

Key = tuple[str, int]
"""A run, and the token that its coordinator has."""
Until = Callable[[Key], int]
"""Until when units of a run may be worked on, in nanoseconds of ``CLOCK_BOOTTIME``; 0: not at all."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """One open estate. ``until_ns`` is what its leash holds."""

    key: Key
    work: Work
    seat: Seat
    close: Callable[[], None]
    until_ns: int = 0

    def extend(self, until_ns: int) -> bool:
        """Write the leash anew; False when it had been over already, so that engines on it were killed. Then the bench
        is of no use any more, and whatever is in hand on it is somebody else's."""
        lapsed = self.until_ns <= clock_ns() or until_ns <= clock_ns()
        if lapsed:
            self.seat.disowned.set()
            self.seat.cancelled.set()
        self._write(0 if lapsed else until_ns)
        return not lapsed

    def _write(self, until_ns: int) -> None:
        self.until_ns = until_ns
        fresh = self.seat.leash.with_name(f"{self.seat.leash.name}.new")
        fresh.write_text(str(until_ns), encoding="ascii")
        fresh.replace(self.seat.leash)


class Benches:
    """All of them. Safe in threads; opening one keeps nobody from tending the others."""

    def __init__(self, opener: Opener, folder: Path, until: Until) -> None:
        self._opener = opener
        self._folder = folder
        self._until = until
        self._open: dict[Key, Bench] = {}
        self._spent: list[Bench] = []
        self._count = 0
        self._lock = threading.Lock()
        self._opening: dict[Key, threading.Lock] = {}

    def get(self, key: Key) -> Bench | None:
        """The bench of a run; None when it is not open."""
        with self._lock:
            return self._open.get(key)

    def open_now(self) -> tuple[Key, ...]:
        """The runs that are open."""
        with self._lock:
            return tuple(self._open)

    def ready(self, run: Run, executor: str) -> Bench:
        """The bench of a run, opened when it is not yet. Raises ``IsmgrError`` when that cannot be done here."""
        key = (run.id, run.token)
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            found = self.get(key)
            if found is None:
                found = self._made(run, key, executor)
                with self._lock:
                    self._open[key] = found
            return found

    def tend(self) -> tuple[Key, ...]:
        """Keep every leash; returns the runs whose units are not ours any more."""
        lost = []
        for key in self.open_now():
            bench = self.get(key)
            if bench is not None and not bench.extend(self._until(key)):
                lost.append(key)
                self.spend(key)
        return tuple(lost)

    def spend(self, key: Key) -> None:
        """Work no more on this one: whatever is in hand on it is somebody else's, and is stopped."""
        with self._lock:
            bench = self._open.pop(key, None)
            if bench is not None:
                self._spent.append(bench)
        if bench is not None:
            bench.seat.disowned.set()
            bench.seat.cancelled.set()

    def close(self, *, everything: bool) -> None:
        """Close what is spent, or all. No unit may be in hand."""
        if everything:
            for key in self.open_now():
                self.spend(key)
        with self._lock:
            closing, self._spent = self._spent, []
        for bench in closing:
            bench.close()

    def _made(self, run: Run, key: Key, executor: str) -> Bench:
        with self._lock:
            self._count += 1
            folder = self._folder / f"{run.id}-{run.token}-{self._count}"
        folder.mkdir(parents=True)
        seat = Seat(executor=executor, cancelled=threading.Event(), disowned=threading.Event(), leash=folder / "leash")
        with ExitStack() as stack:
            work = stack.enter_context(self._opener(run, seat))
            bench = Bench(key=key, work=work, seat=seat, close=stack.pop_all().close, until_ns=self._until(key))
        bench.extend(self._until(key))
        return bench
