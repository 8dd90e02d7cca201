"""What a drill was, from its objectives to its verdicts, as one value: what reports show, what history keeps, and what
evidence signs. Its JSON has the names of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode, PaperMode
from ismgr_automation.ports.recovery import Reading, Standing
from ismgr_automation.recovery.isolated import IsolationTold
from ismgr_automation.recovery.particulars import Confirmed, Extent, Method, People, Scenario
from ismgr_automation.recovery.restore_told import RestoreTold
from ismgr_automation.recovery.waterfall import LIMIT

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = "ismgr.drill/1"


class Verdict(StrEnum):
    """How one part of a drill, or all of it, ended."""

    PASSED = "passed"
    FAILED = "failed"
    INVALID = "invalid"
    """It proves nothing: the probe was not steady, the fault did not bite, or the lost writes could not be counted."""
    ABORTED = "aborted"
    SKIPPED = "skipped"
    """It was due, and was not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """The objectives as they were before the drill began, in seconds; None where there is none."""

    rto: float | None
    rpo: float | None
    mtd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of time on the clock of the drill, in milliseconds after its first hot step began."""

    name: str
    began_ms: float
    ended_ms: float

    @property
    def took_ms(self) -> float:
        """Its length."""
        return self.ended_ms - self.began_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What became of one step. ``began_ms`` as in ``Span``; ``found`` says that it was done already when we came."""

    leg: str
    name: str
    action: str
    ok: bool
    began_ms: float
    ended_ms: float
    found: bool = False
    rule: str = ""
    """The safety rule that refused it."""
    words: str = ""
    readings: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What the probe's client saw of one move. ``outage_ms`` is the RTO of that move: from its last acknowledged write
    before to its first one after which service stayed; ``resolution_ms`` how far that may be off."""

    leg: str
    outage_ms: float
    resolution_ms: float
    waterfall: tuple[Span, ...] = ()
    unaccounted_ms: float = 0.0
    interruptions: int = 1

    @property
    def explained(self) -> bool:
        """Whether its pieces add up to it, but for the share that may be unaccounted for."""
        whole = sum(one.took_ms for one in self.waterfall)
        return max(self.unaccounted_ms, abs(whole - self.outage_ms)) <= LIMIT * self.outage_ms

    @property
    def by_name(self) -> Mapping[str, float]:
        """Milliseconds of all pieces of one name, in the order in which these first appear."""
        totals: dict[str, float] = {}
        for one in self.waterfall:
            totals[one.name] = totals.get(one.name, 0.0) + one.took_ms
        return totals

    @property
    def figure(self) -> str:
        """For people: ``91 ms ± 10 ms``."""
        return f"{self.outage_ms:.0f} ms ± {max(1.0, self.resolution_ms):.0f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """Every write of the probe, by what the client knows and what the database holds. None of it is estimated."""

    written: int
    acked: int
    lost: int
    """Acknowledged, and not there."""
    lost_span_ms: float
    """From the first lost write to the last, by when they were sent."""
    failed: int
    unknown_held: int
    unknown_gone: int
    contradictions: int
    """Refused, and there all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The members of the cluster as they were seen at one moment of the drill."""

    at: str
    """What had just happened: ``before``, or the name of a leg."""
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultTold:
    """What became of a fault. Times as in ``Span``; None for what did not happen, or was not seen."""

    name: str
    kind: str
    began_ms: float | None = None
    bitten_ms: float | None = None
    """When somebody else had seen it bite."""
    detected_ms: float | None = None
    """When the detector declared the site lost."""
    lifted_ms: float | None = None
    """When somebody had seen that nothing of it is left."""
    looks: int = 0
    misses: int = 0
    """Looks of the detector since the fault, and how many in a row at the end had found no primary."""
    way: str = ""
    """How it looked."""
    words: str = ""
    """Who saw it bite, and how."""
    gap_ms: float | None = None
    """The longest time without an acknowledged write while it stood, for a fault that the service was to survive."""
    taken: int | None = None
    """Acknowledged writes that a stale primary took once it was back, and that are lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What one person said of one step, ``LEG/STEP``; its times are those of the task of that name."""

    step: str
    person: str
    answer: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A paper run: which mode was rehearsed, from which paper (the digest that stands on it), by whom."""

    rehearsed: DrillMode
    paper: str
    people: tuple[str, ...]
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """One drill. ``verdicts`` has fault, recovery and cleanup apart; ``verdict`` is that of the whole: the worst."""

    run: str
    plan: str
    service: str
    mode: DrillMode | PaperMode
    estate: str
    environment: str
    commit: str
    digest: str
    began_at: datetime
    ended_at: datetime
    goals: Goals
    verdict: Verdict
    verdicts: Mapping[str, Verdict]
    reasons: tuple[str, ...]
    """Why a verdict is not ``passed``, one sentence each."""
    home: str = ""
    away: str = ""
    """The hosts of the two sides; empty for a drill that was skipped."""
    outages: tuple[Outage, ...] = ()
    writes: Writes | None = None
    tasks: tuple[TaskResult, ...] = ()
    readings: tuple[Readings, ...] = ()
    without_redundancy_s: float | None = None
    """From the first fence, stop or fault that cut replication until a standby was seen to stream again, in seconds;
    None where nobody measured that."""
    load_average: tuple[float, float, float] | None = None
    """Of the machine that measured, over 1, 5 and 15 minutes when the drill began."""
    resumed: int = 0
    """How often another process went on with it."""
    isolation: IsolationTold | None = None
    """What a drill in isolation was besides."""
    left: tuple[str, ...] = ()
    """What cleanup found left behind, one sentence each."""
    fault: FaultTold | None = None
    """What was broken; None for a loss that was only declared."""
    schedule: str = ""
    """The DrillSchedule that it was begun for, or that it was skipped of; empty where a person began it."""
    occurrence: datetime | None = None
    """Which time of the schedule, in UTC and without jitter."""
    table: Table | None = None
    """Who sat at the table of a paper run, and what they said."""
    people: People = field(default_factory=People)
    extent: Extent = field(default_factory=Extent)
    scenario: Scenario = field(default_factory=Scenario)
    method: Method | None = None
    """How was measured; None where no client was asked for."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what carried it out, by name."""
    confirmations: tuple[Confirmed, ...] = ()
    start_ns: int | None = None
    """The moment on the monotonic clock from which all spans are counted; it places the client's log beside them."""
    steady: bool | None = None
    """Whether every write was acknowledged for as long as the plan asks before anything was done."""
    restore: RestoreTold | None = None
    """What a drill of mode ``restore`` restored."""

    @property
    def outage_ms(self) -> float | None:
        """The client's outage in the first move: the RTO that was measured."""
        return self.outages[0].outage_ms if self.outages else None


@cache
def _adapter() -> TypeAdapter[DrillResult]:
    from pydantic import TypeAdapter

    return TypeAdapter(DrillResult)


def result_json(result: DrillResult) -> JsonObject:
    """The result as JSON, of format ``ismgr.drill/1``."""
    body: JsonObject = _adapter().dump_python(result, mode="json")
    return {"type": "drill", "format": FORMAT, **body}


def read_result(body: JsonObject) -> DrillResult:
    """The result that JSON was made from. Raises ``ValueError`` for anything else."""
    if body.get("format") != FORMAT:
        raise ValueError(f"this is not of format {FORMAT}: {body.get('format')!r}")
    return _adapter().validate_python({key: value for key, value in body.items() if key not in {"type", "format"}})
