"""A client that measures, in memory: its attempts are a script, and what the database holds follows from it, but for
what a test takes away or adds. Nothing is written anywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ismgr_automation.core.errors import Cancelled, EngineTimedOut, Refused
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Attempt, Outcome, ProbeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProbeWorld:
    """What the client will see."""

    script: list[Attempt] = field(default_factory=list)
    """All attempts of the run, in order; more may be added while it goes on."""
    now: Callable[[], int] = lambda: sys.maxsize
    """The monotonic clock: attempts that end later have not been made yet."""
    lost: set[int] = field(default_factory=set)
    """Acknowledged writes that the database does not hold."""
    kept: set[int] = field(default_factory=set)
    """Unknown or failed ones that it holds."""
    stopped: dict[str, int] = field(default_factory=dict)
    """When the probe of a run was stopped; it makes no more attempts."""
    begun: set[str] = field(default_factory=set)
    """Runs whose probe has begun."""
    faults: dict[str, BaseException] = field(default_factory=dict)
    """Raised when the call of this name is made: ``start``, ``resume``, ``held``."""
    calls: list[str] = field(default_factory=list)
    """Everything that was asked, in order: ``start RUN``."""

    def called(self, verb: str, run: str, context: Context) -> None:
        """Note a call and raise its fault, if it has one, or ``Cancelled``."""
        self.calls.append(f"{verb} {run}")
        if context.cancelled.is_set():
            raise Cancelled(f"{verb} {run} was stopped.", next_step="Run it again.")
        if verb in self.faults:
            raise self.faults[verb]

    def made(self, run: str) -> tuple[Attempt, ...]:
        """The attempts that have ended by now."""
        now = min(self.now(), self.stopped.get(run, sys.maxsize))
        return tuple(one for one in self.script if one.ended_ns <= now)


@dataclass(frozen=True, slots=True)
class MemoryRunningProbe:
    """``ports.recovery.RunningProbe``."""

    world: MemoryProbeWorld
    run: str

    def attempts(self) -> Sequence[Attempt]:
        """Those of the script that have ended."""
        return self.world.made(self.run)

    def stop(self) -> Sequence[Attempt]:
        """No more of them."""
        self.world.stopped.setdefault(self.run, self.world.now())
        return self.world.made(self.run)


@dataclass(frozen=True, slots=True)
class MemoryProbe:
    """``ports.recovery.ProbeClient``."""

    world: MemoryProbeWorld

    def start(self, request: ProbeRequest, context: Context) -> MemoryRunningProbe:
        """Begin; refuses a run that has begun, and times out when the first attempts of the script are not
        acknowledged."""
        self.world.called("start", request.run, context)
        if request.run in self.world.begun:
            raise Refused(
                f"The probe of run {request.run} has a log already.", next_step="Resume it, or begin a new run."
            )
        if not any(one.outcome is Outcome.ACKED for one in self.world.script):
            raise EngineTimedOut(
                "No write of the probe was acknowledged.",
                engine="probe",
                subject=request.run,
                next_step="Correct endpoints, user and table in the plan's probe, or mend the service.",
            )
        self.world.begun.add(request.run)
        return MemoryRunningProbe(self.world, request.run)

    def resume(self, request: ProbeRequest, context: Context) -> MemoryRunningProbe:
        """Go on with the script."""
        self.world.called("resume", request.run, context)
        self.world.begun.add(request.run)
        self.world.stopped.pop(request.run, None)
        return MemoryRunningProbe(self.world, request.run)

    def held(self, request: ProbeRequest, context: Context) -> frozenset[int]:
        """What was acknowledged so far, without ``lost``, and ``kept``."""
        self.world.called("held", request.run, context)
        made = self.world.made(request.run)
        acknowledged = {one.number for one in made if one.outcome is Outcome.ACKED}
        return frozenset((acknowledged - self.world.lost) | (self.world.kept & {one.number for one in made}))
