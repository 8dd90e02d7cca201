"""From what was written down while a drill ran - its journal, the probe's log, what the database held - to its result.
Whoever has these three can do it again, and gets the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.estate.recovery import Fault
from ismgr_automation.ports.recovery import Attempt, Reading, Standing
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.faults import FAULT, Course, course_of, cuts_replication
from ismgr_automation.recovery.measure import downtime, longest_gap, losses, resolution
from ismgr_automation.recovery.particulars import Confirmed
from ismgr_automation.recovery.path import Leg
from ismgr_automation.recovery.result import FaultTold, Outage, Readings, Span, TaskResult, Writes
from ismgr_automation.recovery.telling_fault import Trace, faulty, marks_of_fault, tell_fault, unharmed
from ismgr_automation.recovery.waterfall import Mark, waterfall

if TYPE_CHECKING:
    from pydantic import TypeAdapter

JOURNAL = "journal"
"""The name of the time in which an entry was brought to the disk, before anything else could happen."""
AWAY = "no controller"
"""The name of the time in which the drill's process was dead."""
REDUNDANCY_ENDS = frozenset({"fence", "demote"})
"""The actions after which there is one side only, until ``rejoin``; some faults are others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is left of a drill. ``entries`` of its journal, ``attempts`` of its probe; ``held`` is None where the
    database could not be asked."""

    entries: Sequence[JsonObject]
    legs: Sequence[Leg]
    attempts: Sequence[Attempt]
    every: timedelta
    held: frozenset[int] | None
    fault: Fault | None = None

    @property
    def trace(self) -> Trace | None:
        """What is left of the fault, where there was to be one."""
        if self.fault is None:
            return None
        return Trace(fault=self.fault, entries=self.entries, attempts=self.attempts, held=self.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a record says. ``unmeasured`` has a sentence for each move whose outage could not be told."""

    tasks: tuple[TaskResult, ...]
    outages: tuple[Outage, ...]
    writes: Writes | None
    readings: tuple[Readings, ...]
    without_redundancy_s: float | None
    resumed: int
    unmeasured: tuple[str, ...]
    moves: bool
    """Whether any task was begun that clients wait for."""
    unserved: tuple[str, ...]
    """A sentence for each move after which service did not come back to stay while the client was looking."""
    unbitten: str
    left: tuple[str, ...]
    fault: FaultTold | None = None
    faulty: tuple[str, ...] = ()
    """Why the fault proves nothing."""
    unharmed: bool = False
    """Whether nothing was begun but a fault that did not bite."""
    stays: bool = False
    """Whether the service was to stay where it is."""
    start_ns: int = 0
    """The moment from which spans are counted."""
    confirmations: tuple[Confirmed, ...] = ()


def tell(record: Record) -> Told:
    """What the record says, in the order in which it happened."""
    start = _start(record)
    outages, unserved, unmeasured = _outages(record, start)
    trace = record.trace
    return Told(
        tasks=tuple(_tasks(record, start)),
        outages=outages,
        writes=_writes(record),
        readings=tuple(_readings(record)),
        without_redundancy_s=_without_redundancy(record),
        resumed=sum(one["what"] == "resumed" for one in record.entries),
        unmeasured=unmeasured,
        moves=any(_marks(record, one.name) for one in record.legs if one.kind.hot),
        unserved=unserved,
        unbitten=_unbitten(record),
        left=tuple(_left(record)),
        fault=tell_fault(trace, start) if trace is not None else None,
        faulty=tuple(faulty(trace)) if trace is not None else (),
        unharmed=trace is not None and unharmed(trace),
        stays=record.fault is not None and course_of(record.fault) is Course.SURVIVED,
        start_ns=start,
        confirmations=tuple(_confirmations(record, start)),
    )


def _of(record: Record, what: str, leg: str = "") -> Iterator[JsonObject]:
    return (one for one in record.entries if one["what"] == what and (not leg or one["leg"] == leg))


def _start(record: Record) -> int:
    """The moment from which spans are counted: when the first act on the hot path began; else the first entry."""
    acts = [one.began_ns for leg in record.legs if leg.kind.hot for one in _marks(record, leg.name)]
    acts += [one.began_ns for one in marks_of_fault(record.entries)]
    return min(acts, default=min((_number(one["ns"]) for one in record.entries), default=0))


def _tasks(record: Record, start: int) -> Iterator[TaskResult]:
    for one in _of(record, "task-ended"):
        readings = one.get("readings")
        yield TaskResult(
            leg=str(one["leg"]),
            name=str(one["task"]),
            action=str(one["action"]),
            ok=bool(one["ok"]),
            began_ms=_ms(_number(one["began_ns"]), start),
            ended_ms=_ms(_number(one["ended_ns"]), start),
            found=bool(one["found"]),
            rule=str(one["rule"]),
            words=str(one["words"]),
            readings=_plain(readings) if isinstance(readings, Mapping) else {},
        )


def _plain(readings: Mapping[str, Json]) -> dict[str, Reading]:
    return {name: value for name, value in readings.items() if isinstance(value, bool | int | float | str)}


def _marks(record: Record, leg: str) -> list[Mark]:
    """The times of a leg's acts, of the looks that confirmed them, and those in which nobody was there to act. None
    for a leg in which nothing was done."""
    acts = [
        Mark(name=str(one["task"]), began_ns=_number(one["began_ns"]), ended_ns=_number(one["ended_ns"]))
        for one in _of(record, "task-ended", leg)
        if not one["found"] and not one["rule"]
    ]
    looks = [
        Mark(name="confirm", began_ns=_number(one["began_ns"]), ended_ns=_number(one["ended_ns"]))
        for one in _of(record, "confirmed", leg)
    ]
    if not any(_of(record, "task-began", leg)):
        return []
    before = marks_of_fault(record.entries) if leg == "failover" else ()
    marks = sorted([*before, *acts, *looks, *_absences(record, leg)], key=lambda one: one.began_ns)
    return sorted([*marks, *_between(marks, _written(record))], key=lambda one: one.began_ns)


def _written(record: Record) -> Iterator[Mark]:
    """When entries were on their way to the disk, as each next one tells."""
    for one in record.entries:
        span = one.get("kept_ns")
        if isinstance(span, list) and len(span) == 2:  # noqa: PLR2004  from and to
            yield Mark(name=JOURNAL, began_ns=_number(span[0]), ended_ns=_number(span[1]))


def _between(marks: Sequence[Mark], more: Iterator[Mark]) -> Iterator[Mark]:
    """Those of more that lie between the first mark and the last: what was written before or after held nobody up."""
    if not marks:
        return
    begin, end = marks[0].began_ns, max(one.ended_ns for one in marks)
    yield from (one for one in more if begin <= one.began_ns and one.ended_ns <= end)


def _absences(record: Record, leg: str) -> Iterator[Mark]:
    """From the last entry of a process that died within a leg to the first one of the next."""
    within = False
    for before, one in pairwise(record.entries):
        if before.get("leg") == leg:
            within = before["what"] != "leg-ended"
        if within and one["what"] == "resumed":
            yield Mark(name=AWAY, began_ns=_number(before["ns"]), ended_ns=_number(one["ns"]))


class _NotBack(Exception):
    """Service had not come back to stay when the log ended."""


def _outages(record: Record, start: int) -> tuple[tuple[Outage, ...], tuple[str, ...], tuple[str, ...]]:
    """Those that were measured, those that did not end, and those that nobody saw."""
    found: list[Outage] = []
    unserved: list[str] = []
    wrong: list[str] = []
    moved = [(one.name, _marks(record, one.name)) for one in record.legs if one.kind.hot]
    if record.fault is not None and course_of(record.fault) is Course.SURVIVED:
        moved = [(FAULT, list(marks_of_fault(record.entries)))]
    moved = [(leg, marks) for leg, marks in moved if marks]
    for number, (leg, marks) in enumerate(moved):
        following = moved[number + 1][1] if number + 1 < len(moved) else []
        until = following[0].began_ns if following else None
        try:
            found.append(_outage(record, leg, marks, until, start))
        except _NotBack as problem:
            unserved.append(f"after {leg} {problem}")
        except ValueError as problem:
            wrong.append(f"the outage of {leg} is not known: {problem}")
    return tuple(found), tuple(unserved), tuple(wrong)


def _outage(record: Record, leg: str, marks: Sequence[Mark], until: int | None, start: int) -> Outage:
    """Raises ``_NotBack`` for one that did not end, ``ValueError`` for one that the client did not see."""
    seen = downtime(record.attempts, marks[0].began_ns, record.every, until_ns=until)
    fine = resolution(record.attempts, record.every) / 1e6
    if seen is None:
        # nothing failed: the longest wait is all that the client noticed
        end = until if until is not None else record.attempts[-1].ended_ns
        gap = longest_gap(record.attempts, marks[0].began_ns, end)
        return Outage(leg=leg, outage_ms=gap / timedelta(milliseconds=1), resolution_ms=fine, interruptions=0)
    if seen.ended_ns is None or not seen.settled:
        raise _NotBack(f"service did not come back to stay: clients waited {seen}")
    if until is not None and (seen.outages[0].ended_ns or until) > until:
        raise _NotBack(f"service did not come back by it: clients waited {seen}, for the next move")
    cut = waterfall(seen.began_ns, seen.ended_ns, marks)
    return Outage(
        leg=leg,
        outage_ms=(seen.ended_ns - seen.began_ns) / 1e6,
        resolution_ms=max(fine, seen.blind_ns / 1e6),
        waterfall=tuple(
            Span(name=one.name, began_ms=_ms(one.began_ns, start), ended_ms=_ms(one.ended_ns, start))
            for one in cut.pieces
        ),
        unaccounted_ms=cut.unaccounted * cut.lasted_ns / 1e6,
        interruptions=len(seen.outages),
    )


def _writes(record: Record) -> Writes | None:
    if record.held is None or not record.attempts:
        return None
    found = losses(record.attempts, record.held)
    return Writes(
        written=len(record.attempts),
        acked=found.acknowledged,
        lost=len(found.lost),
        lost_span_ms=found.lost_span / timedelta(milliseconds=1),
        failed=found.failed,
        unknown_held=len(found.unknown_held),
        unknown_gone=len(found.unknown_gone),
        contradictions=len(found.contradictions),
    )


def _readings(record: Record) -> Iterator[Readings]:
    for one in _of(record, "leg-began"):
        yield Readings(at=str(one["leg"]), standings=_standings().validate_python(one["standings"]))


@cache
def _standings() -> TypeAdapter[tuple[Standing, ...]]:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Standing, ...])


def _without_redundancy(record: Record) -> float | None:
    """All the time from a fence, a stop or a fault that cuts replication until somebody was seen to stream again; None
    where nobody saw that. Who gave the service back did not look whether it is followed again: the last look says."""
    total, since = 0, None
    struck = record.fault.do if record.fault is not None and cuts_replication(record.fault) else None
    for one in record.entries:
        # counted from its beginning: whoever died in the middle may have done it
        if one["what"] == "task-began" and one["action"] in {*REDUNDANCY_ENDS, struck} and since is None:
            since = _number(one["ns"])
        elif one["what"] == "task-ended" and one["action"] == "rejoin" and one["ok"]:
            if since is None and not one["found"]:
                return None  # it was gone before this began
            total, since = total + (_number(one["ended_ns"]) - since if since is not None else 0), None
        elif one["what"] == "looked" and one["ok"]:
            total, since = total + (_number(one["ns"]) - since if since is not None else 0), None
        elif one["what"] == "looked":
            since = since if since is not None else _number(one["ns"])
    return total / 1e9 if since is None else None


def _unbitten(record: Record) -> str:
    """Why the loss that was rehearsed was none: a fence that was raised, and that nobody else could confirm."""
    raised = [one for one in _of(record, "task-ended") if one["action"] == "fence" and one["ok"]]
    looks = list(_of(record, "confirmed"))
    if not raised or not looks or any(one["ok"] for one in looks):
        return ""
    return f"the old side was not lost: {looks[-1]['by']} does not confirm its fence: {looks[-1]['words']}"


def _confirmations(record: Record, start: int) -> Iterator[Confirmed]:
    for one in _of(record, "confirmed"):
        yield Confirmed(
            leg=str(one["leg"]),
            by=str(one["by"]),
            ok=bool(one["ok"]),
            at_ms=_ms(_number(one["ended_ns"]), start),
            words=str(one["words"]),
        )


def _left(record: Record) -> Iterator[str]:
    """What is still so that a drill made so."""
    fenced = ""
    for one in record.entries:
        if one.get("action") == "fence" and not one.get("rule"):
            fenced = str(one["leg"])
        lifted = one["what"] == "given-back" or (one["what"] == "task-ended" and one["action"] == "unfence")
        if lifted and one["ok"]:
            fenced = ""
    if fenced:
        yield f"the fence of {fenced} was not seen to be lifted"


def moved_home(standings: Sequence[Standing], home: str, away: str) -> bool:
    """Whether the primary role is at home, there alone, and the other side streams."""
    by_host = {one.host: one for one in standings}
    first, second = by_host.get(home), by_host.get(away)
    return bool(
        first is not None
        and second is not None
        and first.part is Part.PRIMARY
        and not second.writable
        and second.part is Part.STANDBY
        and second.streaming
    )


def _number(value: Json) -> int:
    return int(value) if isinstance(value, int | float | str) else 0


def _ms(moment: int, start: int) -> float:
    return (moment - start) / 1e6
