"""Units carried out in threads of this process, and ways to die at any boundary, to rehearse crashes. No unit outlives
the process, and nothing here is durable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import ANY, Round, Run, RunLedger, Sought, StepJournal, StepRecord, Unit
from ismgr_automation.ports.sequencer import Work


class Killed(BaseException):
    """Stands for ``kill -9``: the process ends here. A test catches it and resumes with new objects."""


class Boundary(StrEnum):
    """Where a process can die, by what has just been done or was about to be done. All are durable writes or the edges
    of a unit's work."""

    BEFORE_BEGIN = "before begin"
    AFTER_BEGIN = "after begin"
    BEFORE_TAKE_OVER = "before take over"
    AFTER_TAKE_OVER = "after take over"
    BEFORE_ROUND = "before round"
    AFTER_ROUND = "after round"
    BEFORE_UNIT = "before unit"
    BEFORE_STARTED = "before started"
    AFTER_STARTED = "after started"
    BEFORE_FINISHED = "before finished"
    AFTER_FINISHED = "after finished"
    AFTER_UNIT = "after unit"
    BEFORE_CLOSE = "before close"
    AFTER_CLOSE = "after close"


def _killed() -> None:
    raise Killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Dies at the ``nth`` boundary that is passed (counted from 1; 0: never), or at the nth passing of ``only``. After
    that every boundary kills, so that a thread that is still there writes nothing. ``passed`` lists the boundaries: a
    run that never dies tells how many there are.

    >>> death = Death(nth=2)
    >>> death.at(Boundary.BEFORE_UNIT)
    >>> death.at(Boundary.AFTER_UNIT)
    Traceback (most recent call last):
    ismgr_automation.ports.memory.sequencer.Killed
    """

    nth: int = 0
    only: Boundary | str = ""
    act: Callable[[], None] = _killed
    """What dying is: ``Killed`` is raised; with real processes, SIGKILL to oneself."""
    passed: list[str] = field(default_factory=list)
    _dead: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def dead(self) -> bool:
        """Whether it died."""
        return self._dead.is_set()

    def at(self, boundary: Boundary | str) -> None:
        """Pass a boundary, or die there."""
        with self._lock:
            if not self.dead:
                self.passed.append(str(boundary))
                counted = self.passed.count(str(self.only)) if self.only else len(self.passed)
                if counted == self.nth and self.only in {"", boundary}:
                    self._dead.set()
        if self.dead:
            self.act()

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """Two boundaries around anything: ``before WHAT`` and ``after WHAT``."""
        self.at(f"before {what}")
        yield
        self.at(f"after {what}")


@dataclass(frozen=True, slots=True)
class InlineSequencer:
    """``ports.sequencer.Sequencer``: units in the order given, ``workers`` at once, in threads. What ``work``
    raises is raised when the units in hand have ended."""

    work: Work
    workers: int = 2
    death: Death = field(default_factory=Death)

    def perform(self, units: Sequence[Unit], cancelled: threading.Event) -> Iterator[tuple[Unit, JsonObject]]:
        """Carry the units out, and give each outcome as it comes."""
        if not units:
            return
        with ThreadPoolExecutor(max_workers=max(1, self.workers), thread_name_prefix="ismgr-unit") as pool:
            failed = threading.Event()
            left: dict[Future[JsonObject | None], Unit] = {
                pool.submit(self._one, unit, cancelled, failed): unit for unit in units
            }
            try:
                problem: BaseException | None = None
                while left:
                    ended, _ = wait(left, return_when=FIRST_COMPLETED)
                    for future in sorted(ended, key=lambda one: units.index(left[one])):
                        unit, error = left.pop(future), future.exception()
                        outcome = future.result() if error is None else None
                        problem = problem or error
                        if outcome is not None:
                            yield unit, outcome
                if problem is not None:
                    raise problem
            finally:
                failed.set()  # also when whoever asked wants no more

    def _one(self, unit: Unit, cancelled: threading.Event, failed: threading.Event) -> JsonObject | None:
        if cancelled.is_set() or failed.is_set():
            return None
        try:
            self.death.at(Boundary.BEFORE_UNIT)
            outcome = self.work(unit)
            self.death.at(Boundary.AFTER_UNIT)
        except BaseException:
            failed.set()
            raise
        return outcome


@dataclass(frozen=True, slots=True)
class MortalJournal:
    """A ``ports.runs.StepJournal`` that dies before or after a write of the one below."""

    below: StepJournal
    death: Death

    def open_round(self, run: str, round_: Round) -> None:
        """Write a round."""
        self.death.at(Boundary.BEFORE_ROUND)
        self.below.open_round(run, round_)
        self.death.at(Boundary.AFTER_ROUND)

    def rounds(self, run: str) -> tuple[Round, ...]:
        """The rounds of the one below."""
        return self.below.rounds(run)

    def started(self, unit: Unit, executor: str, token: int) -> None:
        """Write that a unit begins."""
        self.death.at(Boundary.BEFORE_STARTED)
        self.below.started(unit, executor, token)
        self.death.at(Boundary.AFTER_STARTED)

    def finished(self, unit: Unit, token: int, outcome: JsonObject, post_state: str = "") -> None:
        """Write that a unit has ended."""
        self.death.at(Boundary.BEFORE_FINISHED)
        self.below.finished(unit, token, outcome, post_state)
        self.death.at(Boundary.AFTER_FINISHED)

    def steps(self, run: str) -> tuple[StepRecord, ...]:
        """The steps of the one below."""
        return self.below.steps(run)


@dataclass(frozen=True, slots=True)
class MortalLedger:
    """A ``ports.runs.RunLedger`` that dies before or after a write of the one below."""

    below: RunLedger
    death: Death

    def begin(self, run: Run, nonces: Sequence[str]) -> None:
        """Write a run."""
        self.death.at(Boundary.BEFORE_BEGIN)
        self.below.begin(run, nonces)
        self.death.at(Boundary.AFTER_BEGIN)

    def take_over(self, run: str, token: int, holder: Holder, nonces: Sequence[str] = ()) -> None:
        """Write that another lease goes on with it."""
        self.death.at(Boundary.BEFORE_TAKE_OVER)
        self.below.take_over(run, token, holder, nonces)
        self.death.at(Boundary.AFTER_TAKE_OVER)

    def close(self, run: Run) -> None:
        """Write a run's end."""
        self.death.at(Boundary.BEFORE_CLOSE)
        self.below.close(run)
        self.death.at(Boundary.AFTER_CLOSE)

    def run(self, run: str) -> Run:
        """A run of the one below."""
        return self.below.run(run)

    def runs(self, environment: str | None = None, limit: int | None = 50, sought: Sought = ANY) -> tuple[Run, ...]:
        """Runs of the one below."""
        return self.below.runs(environment, limit, sought)

    def nonces(self, run: str) -> tuple[str, ...]:
        """Approvals of the one below."""
        return self.below.nonces(run)
