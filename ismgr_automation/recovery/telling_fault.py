"""What a drill's journal and its client's log say of the fault: when it bit, who noticed it, when it was gone. Values
in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.estate.recovery import Fault
from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.recovery.faults import COME_BACK, DETECT, FAULT, WATCH, Course, course_of
from ismgr_automation.recovery.measure import longest_gap
from ismgr_automation.recovery.result import FaultTold
from ismgr_automation.recovery.waterfall import DETECT as DETECTED
from ismgr_automation.recovery.waterfall import Mark

CANCELLED = "canceling wait for synchronous replication"
"""How PostgreSQL begins its warning of a commit that is there, and that no standby has confirmed."""
BITE = "bite"
"""The time that it took to see that the fault bites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is left of a fault: the journal's ``entries``, the client's ``attempts``, what the database ``held``."""

    fault: Fault
    entries: Sequence[JsonObject]
    attempts: Sequence[Attempt]
    held: frozenset[int] | None


def marks_of_fault(entries: Sequence[JsonObject]) -> Iterator[Mark]:
    """The pieces of an outage before the first step of a move: the fault, the look that it bites, the detector's."""
    done = _last(entries, "task-ended", FAULT)
    if done is not None:
        yield Mark(name=FAULT, began_ns=_number(done["began_ns"]), ended_ns=_number(done["ended_ns"]))
    for what, name in (("fault-bitten", BITE), ("detected", DETECTED)):
        found = _last(entries, what)
        if found is not None:
            yield Mark(name=name, began_ns=_number(found["began_ns"]), ended_ns=_number(found["ended_ns"]))


def tell_fault(trace: Trace, start: int) -> FaultTold:
    """What became of it; times in milliseconds after ``start``."""
    bitten, lifted = _last(trace.entries, "fault-bitten"), _last(trace.entries, "fault-lifted")
    looked = _last(trace.entries, "detected") or _last(trace.entries, "watched")
    began = next(marks_of_fault(trace.entries), None)
    return FaultTold(
        name=trace.fault.name,
        kind=trace.fault.do,
        began_ms=(began.began_ns - start) / 1e6 if began is not None else None,
        bitten_ms=_moment(bitten, start),
        detected_ms=_moment(_last(trace.entries, "detected"), start),
        lifted_ms=_moment(lifted, start),
        looks=_number(looked["looks"]) if looked is not None else 0,
        misses=_number(looked["misses"]) if looked is not None else 0,
        way=str(looked["way"]) if looked is not None else "",
        words=str(bitten["words"]) if bitten is not None else "",
        gap_ms=_gap(trace),
        taken=_taken(trace),
    )


def faulty(trace: Trace) -> Iterator[str]:
    """Why the fault proves nothing, a sentence each."""
    if course_of(trace.fault) is Course.CLIENT:
        if not _misbehaved(trace):
            yield f"the fault {trace.fault.name} did not bite: no write of the client shows it"
        return
    done, bitten = _last(trace.entries, "task-ended", FAULT), _last(trace.entries, "fault-bitten")
    if done is not None and not done["ok"]:
        yield f"the fault {trace.fault.name} was not done: {done['words']}"
    elif bitten is not None and not bitten["ok"]:
        yield f"the fault {trace.fault.name} did not bite: {bitten['words']}"
    back = _last(trace.entries, "came-back")
    if back is not None and not back["ok"]:
        yield f"the return of the stale primary proves nothing: {back['words']}"
    lapsed = _last(trace.entries, "fault-lapsed")
    if lapsed is not None:
        yield str(lapsed["words"])
    if _last(trace.entries, "fault-undo") is not None:
        lifted = _last(trace.entries, "fault-lifted")
        if lifted is None or not lifted["ok"]:
            words = lifted["words"] if lifted is not None else "nobody has tried"
            yield f"the fault {trace.fault.name} was not seen to be lifted: {words}"


def unharmed(trace: Trace) -> bool:
    """Whether a fault was to be done, and nothing was begun after it did not bite or was gone too early."""
    if course_of(trace.fault) is Course.CLIENT or not any(faulty(trace)):
        return False
    return _last(trace.entries, "detected") is None and _last(trace.entries, "watched") is None


def _misbehaved(trace: Trace) -> bool:
    if trace.fault.do == "cancels-commits":
        return any(one.outcome is Outcome.UNKNOWN and CANCELLED in one.cause for one in trace.attempts)
    # it bites once the name leads elsewhere, and somebody still goes to where it led
    moved = [one for one in trace.entries if one["what"] == "task-ended" and one["action"] == "dns" and one["ok"]]
    since = min((_number(one["ended_ns"]) for one in moved), default=None)
    return since is not None and any(one.sent_ns > since and one.outcome is not Outcome.ACKED for one in trace.attempts)


def _gap(trace: Trace) -> float | None:
    began, watched = next(marks_of_fault(trace.entries), None), _last(trace.entries, "watched")
    if began is None or watched is None or not trace.attempts:
        return None
    gap = longest_gap(trace.attempts, began.began_ns, _number(watched["ended_ns"]))
    return gap / timedelta(milliseconds=1)


def _taken(trace: Trace) -> int | None:
    back = _last(trace.entries, "came-back")
    if back is None or not back["ok"] or trace.held is None:
        return None
    since = _number(back["began_ns"])
    lost = (one for one in trace.attempts if one.outcome is Outcome.ACKED and one.number not in (trace.held or ()))
    return sum(one.sent_ns >= since for one in lost)


def _last(entries: Sequence[JsonObject], what: str, leg: str = "") -> JsonObject | None:
    """The last entry of one kind; of a leg, that of the fault itself."""
    own = {DETECT, WATCH, COME_BACK}
    found = (one for one in reversed(entries) if one["what"] == what)
    return next((one for one in found if not leg or (one["leg"] == leg and one["action"] not in own)), None)


def _moment(entry: JsonObject | None, start: int) -> float | None:
    return (_number(entry["ended_ns"]) - start) / 1e6 if entry is not None and entry["ok"] else None


def _number(value: Json) -> int:
    return int(value) if isinstance(value, int | float | str) else 0
