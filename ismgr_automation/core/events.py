"""Facts in the past tense, in order. Watchers read them and cannot steer.

Every event turns into one JSON object: ``{"format": "ismgr.event/1", "type": ..., "at": ..., ...fields}``. Within
format 1 fields are only added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum

from ismgr_automation.core.address import Address
from ismgr_automation.core.json import Json, JsonObject

FORMAT = "ismgr.event/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events. It has no time: the face that prints it stamps it, so that values stay comparable."""

    def to_json(self, at: datetime) -> JsonObject:
        """The event as JSON, stamped with the given time in UTC."""
        body = {field.name: _json(getattr(self, field.name)) for field in fields(self)}
        kind = "".join(("-" if i and c.isupper() else "") + c.lower() for i, c in enumerate(type(self).__name__))
        return {"format": FORMAT, "type": kind, "at": at.astimezone(UTC).isoformat(), **body}


def _json(value: object) -> Json:
    if isinstance(value, Address | StrEnum):
        return str(value)
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"an event field cannot hold {type(value).__name__}")


Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateLoaded(Event):
    """The documents were read and hold together."""

    name: str
    commit: str
    documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationStarted(Event):
    """An engine began to look at something; ``how`` is its verb (preview, refresh, check, probe)."""

    subject: Address
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationFinished(Event):
    """An engine has looked; ``found`` is a short count such as ``3 to create`` or ``nothing to do``."""

    subject: Address
    how: str
    found: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanComposed(Event):
    """A plan is complete as a value."""

    digest: str
    changes: int
    deferred: int
    drift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAwaited(Event):
    """Somebody else holds the lease, and we wait for it: ``holder`` in words, ``until`` when its time is over unless it
    is renewed (ISO 8601, UTC)."""

    name: str
    holder: str
    until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTaken(Event):
    """The lease is ours, under this fencing token."""

    name: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(Event):
    """The lease is ours no longer, and ``why``: somebody broke it, or it could not be renewed in time."""

    name: str
    token: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run began: it is in the ledger and in the evidence, and nothing has been touched yet."""

    run: str
    digest: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """Somebody goes on with a run whose holder is gone; so many of its changes had begun and not ended."""

    run: str
    begun: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClosed(Event):
    """A run ended: ``state`` is done, stopped or cancelled. ``evidence`` says where the head of its records is
    remembered, empty where it is not."""

    run: str
    state: str
    exit_code: int
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTakenOver(Event):
    """An executor died in the middle of a change; another one looks at the world and goes on."""

    subject: Address
    executor: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillMeasured(Event):
    """A drill has ended and was measured. ``outage_ms`` is the client's outage in its first move, to within
    ``resolution_ms``; ``lost`` counts acknowledged writes that are not there. None where it could not be measured."""

    subject: Address
    run: str
    mode: str
    verdict: str
    outage_ms: float | None
    resolution_ms: float | None
    lost: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakStarted(Event):
    """A wave of a host group landed and is well; it must be so for so many seconds before the next one begins."""

    subject: Address
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakFinished(Event):
    """The time is over; the checks of the wave are made again."""

    subject: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent(Event):
    """More hosts and stacks failed, were unreachable or did not verify than the run may lose: it stops."""

    failed: int
    allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverFound(Event):
    """Something that a stopped run began may still be going on, on a host; ``killed`` is yes, no or unknown."""

    host: str
    process: str
    killed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStarted(Event):
    """A round of an apply began: the first does what could be previewed, later ones what had been deferred."""

    round: int
    waves: int
    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveStarted(Event):
    """A wave began."""

    wave: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFinished(Event):
    """A wave ended."""

    wave: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStarted(Event):
    """An engine began to apply a change."""

    subject: Address
    action: str
    targets: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFinished(Event):
    """A change ended: ``outcome`` is landed, failed, or unknown."""

    subject: Address
    outcome: str
    changed: int
    seconds: float
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStepped(Event):
    """A stack engine finished or began one resource; ``state`` is started, done or failed."""

    subject: Address
    resource: str
    operation: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished(Event):
    """One task ended on one host: ``status`` is ok, changed, failed, unreachable or skipped."""

    subject: Address
    host: str
    task: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSeen(Event):
    """An engine said something for people, secrets taken out."""

    subject: Address | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFinished(Event):
    """One verification check ended on one host: ``verdict`` is passed, failed, error or skipped."""

    host: str
    check: str
    verdict: str
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReported(Event):
    """A long job of ours (engine build, image build, lab) reached a step worth a line."""

    step: str
    detail: str = ""
    seconds: float | None = None


def ignore(_event: Event) -> None:
    """An ``Emit`` for callers who do not watch."""
