"""Runs: the durable record of what was begun, what landed and what is left. The truth that resume and reports read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.leases import Holder


class RunState(StrEnum):
    """Where a run is."""

    RUNNING = "running"
    """Begun and not closed: somebody works on it, or its holder died and it waits for ``resume``."""
    DONE = "done"
    STOPPED = "stopped"
    """It ended with part of it applied, or with nothing applied."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one plan. ``plan`` is the text of the plan file (it holds no secret)."""

    id: str
    """Sorts by time: ``20261122T081500-3f9a``."""
    estate: str
    environment: str
    digest: str
    purpose: str
    commit: str
    plan: str
    token: int
    """Fencing token of the lease that it runs under now."""
    holder: Holder
    started_at: datetime
    whole: bool = False
    """Whether it applies all that its commit asks (``planning.plan.Plan.whole``)."""
    state: RunState = RunState.RUNNING
    finished_at: datetime | None = None
    report: JsonObject | None = None
    """The report's JSON, once it is closed."""
    rest: str = ""
    """Text of the plan file that holds what was left when the run stopped; empty when nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which runs are looked for; what is None may be anything."""

    estate: str | None = None
    state: RunState | None = None
    digest: str | None = None
    whole: bool | None = None

    def fits(self, run: Run) -> bool:
        """Whether a run is looked for."""
        asked = (
            (self.estate, run.estate),
            (self.state, run.state),
            (self.digest, run.digest),
            (self.whole, run.whole),
        )
        return all(wanted in (None, found) for wanted, found in asked)


ANY = Sought()
"""Every run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round does: changes as JSON (``planning.plan.change_json``) and their waves, as keys."""

    number: int
    changes: tuple[JsonObject, ...]
    waves: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What an executor is given in one piece: one change of one round of one run. A new attempt is a new unit."""

    run: str
    round: int
    key: str
    attempt: int = 1

    @property
    def id(self) -> str:
        """Its identity everywhere: a unit is executed under this name at most once to its end."""
        return f"{self.run}/{self.round}/{self.key}/{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What is known of one unit. ``outcome`` is None until it ended; ``token`` is the lease it was begun under.
    ``post_state`` is the digest that a stack's state had afterwards: our own work never makes our plan stale."""

    unit: Unit
    executor: str
    token: int
    started_at: datetime
    finished_at: datetime | None = None
    outcome: JsonObject | None = None
    post_state: str = ""


class RunLedger(Protocol):
    """Runs of all environments of one estate's database. Raises ``EngineError``."""

    def begin(self, run: Run, nonces: Sequence[str]) -> None:
        """Write the run and use up its approvals, in one transaction. Raises ``NotApproved`` naming a nonce that an
        earlier run has used."""
        ...

    def take_over(self, run: str, token: int, holder: Holder, nonces: Sequence[str] = ()) -> None:
        """The run goes on under another lease; approvals that were given anew are used up in the same transaction.
        Raises ``NotApproved`` naming a nonce that another run has used."""
        ...

    def close(self, run: Run) -> None:
        """Write state, ``finished_at``, report and rest of a run that ended."""
        ...

    def run(self, run: str) -> Run:
        """One run; raises ``InputError`` when there is none, with the nearest names."""
        ...

    def runs(self, environment: str | None = None, limit: int | None = 50, sought: Sought = ANY) -> tuple[Run, ...]:
        """The newest of the runs that are sought, the newest first; without a limit all of them."""
        ...

    def nonces(self, run: str) -> tuple[str, ...]:
        """The approvals that a run used up."""
        ...


class StepJournal(Protocol):
    """The steps of runs: written before and after each effect. Raises ``EngineError``."""

    def open_round(self, run: str, round_: Round) -> None:
        """Write what a round will do, before it begins. Writing the same round again is no mistake."""
        ...

    def rounds(self, run: str) -> tuple[Round, ...]:
        """The rounds that were opened, in order."""
        ...

    def started(self, unit: Unit, executor: str, token: int) -> None:
        """The unit is about to be done. Raises ``LeaseLost`` when the run belongs to a larger token by now."""
        ...

    def finished(self, unit: Unit, token: int, outcome: JsonObject, post_state: str = "") -> None:
        """The unit has ended. Raises ``LeaseLost`` when the run belongs to a larger token by now."""
        ...

    def steps(self, run: str) -> tuple[StepRecord, ...]:
        """Every unit of a run that was started, in order."""
        ...


class Executors(Protocol):
    """Who executes units now: the process of ``apply`` itself, and workers."""

    def beat(self, executor: str, holder: Holder, ttl: timedelta) -> None:
        """Say that this executor lives, for ``ttl``, by the store's clock."""
        ...

    def living(self) -> tuple[str, ...]:
        """Executors whose time is not over."""
        ...

    def gone(self, executor: str) -> None:
        """This executor ends on purpose."""
        ...
