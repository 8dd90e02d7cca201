"""A client that measures, over ``MemoryRecoveryWorld``: whenever somebody looks at its log, time has passed. It writes
as the world's clients do; nothing runs beside the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut, Refused
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.recovery import TICK_NS, MemoryRecoveryWorld
from ismgr_automation.ports.recovery import Attempt, Outcome, ProbeRequest, Seen, Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWorldProbe:
    """``ports.recovery.ProbeClient``. Its writes are those of the world's clients while it is at work: let one write in
    each tick (``world.each_tick``)."""

    world: MemoryRecoveryWorld
    every: int = 5
    """Ticks between two writes while it is looked at; verbs let time pass tick by tick."""
    look: timedelta = timedelta(milliseconds=2100)
    """The time that passes at each look."""
    numbers: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """By run: the numbers of the first write and of the one after the last; None while it is at work."""
    faults: dict[str, BaseException] = field(default_factory=dict)
    """Raised when the call of this name is made: ``start``, ``resume``, ``held``; with ``sees`` a detector finds nobody
    who takes writes."""

    def start(self, request: ProbeRequest, context: Context) -> MemoryWorldRunning:
        """Begin, with a write that is acknowledged."""
        self._called("start", context)
        if request.run in self.numbers:
            raise Refused(f"The probe of run {request.run} has a log already.", next_step="Begin a new run.")
        first = len(self.world.attempts) + 1
        self.pass_time(self.every)
        if not self.world.attempts or self.world.attempts[-1].outcome is not Outcome.ACKED:
            raise EngineTimedOut(
                "No write of the probe was acknowledged.",
                engine="probe",
                subject=request.run,
                next_step="Mend the service.",
            )
        self.numbers[request.run] = (first, None)
        return MemoryWorldRunning(self, request.run)

    def resume(self, request: ProbeRequest, context: Context) -> MemoryWorldRunning:
        """It is still at work, or begins."""
        if request.run not in self.numbers:
            return self.start(request, context)
        self._called("resume", context)
        self.numbers[request.run] = (self.numbers[request.run][0], None)
        return MemoryWorldRunning(self, request.run)

    def sees(self, request: ProbeRequest, context: Context) -> Seen:
        """Whether a client's write would be taken; its time passes."""
        if context.cancelled.is_set():
            raise Cancelled("The probe's look was stopped.", next_step="Run it again.")
        found = "sees" not in self.faults and self.world.serves()
        self.pass_time(request.patience // timedelta(microseconds=TICK_NS // 1000))
        words = "it takes writes" if found else "no endpoint takes a write"
        return Seen(sight=Sight.DONE if found else Sight.NOT_DONE, words=words)

    def held(self, request: ProbeRequest, context: Context) -> frozenset[int]:
        """What the one writable primary has of its writes. Raises ``EngineFailed`` where there is none."""
        self._called("held", context)
        if len(self.world.writable()) != 1:
            raise EngineFailed(
                "Nobody takes writes.", engine="probe", subject=request.run, next_step="Mend the service."
            )
        made = {one.number for one in self.made(request.run)}
        return self.world.held() & made

    def made(self, run: str) -> tuple[Attempt, ...]:
        """Its log."""
        first, behind = self.numbers[run]
        return tuple(self.world.attempts[first - 1 : None if behind is None else behind - 1])

    def stopped(self, run: str) -> None:
        """It writes no more."""
        first, behind = self.numbers[run]
        self.numbers[run] = (first, len(self.world.attempts) + 1 if behind is None else behind)

    def pass_time(self, ticks: int) -> None:
        """Let time pass, with a write now and then."""
        for _ in range(max(1, ticks // self.every)):
            self.world.tick += self.every - 1
            self.world.advance()

    def _called(self, verb: str, context: Context) -> None:
        if context.cancelled.is_set():
            raise Cancelled(f"The probe's {verb} was stopped.", next_step="Run it again.")
        if verb in self.faults:
            raise self.faults[verb]


@dataclass(frozen=True, slots=True)
class MemoryWorldRunning:
    """``ports.recovery.RunningProbe``."""

    probe: MemoryWorldProbe
    run: str

    def attempts(self) -> Sequence[Attempt]:
        """Its log, after some more time."""
        self.probe.pass_time(self.probe.look // timedelta(microseconds=TICK_NS // 1000))
        return self.probe.made(self.run)

    def stop(self) -> Sequence[Attempt]:
        """End it."""
        self.probe.stopped(self.run)
        return self.probe.made(self.run)
