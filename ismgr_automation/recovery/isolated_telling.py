"""From what was written down while a drill in isolation ran - its journal and the client's log - to what is told of it.
Whoever has these two can do it again, and gets the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.recovery.isolated import LEG, CheckTold, IsolationTold, Step
from ismgr_automation.recovery.measure import longest_gap


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedRecord:
    """What is left of a drill, and where it took place."""

    entries: Sequence[JsonObject]
    attempts: Sequence[Attempt]
    network: str
    gateways: tuple[str, ...]
    spare: str
    source: str


def tell_isolated(record: IsolatedRecord) -> IsolationTold:
    """What the record says."""
    counted = _last(record, "counted") or {}
    whole = bool(counted.get("whole")) and _last(record, "breached") is None
    tried = [one for one in record.entries if one["what"] == "tried"]
    places = {name: str(met) for one in tried for name, met in _mapping(one["places"]).items()}
    copying, held = _last(record, "copying"), _last(record, "held")
    span = _span(record)
    gap = errors = None
    if span is not None and record.attempts:
        gap = longest_gap(record.attempts, *span) / timedelta(milliseconds=1)
        within = [one for one in record.attempts if one.ended_ns >= span[0] and one.sent_ns <= span[1]]
        errors = sum(one.outcome is not Outcome.ACKED for one in within)
    cloned = _readings(record, Step.CLONE)
    return IsolationTold(
        network=record.network,
        gateways=record.gateways,
        spare=record.spare,
        source=record.source,
        dropped_out=_number(counted["dropped_out"]) if whole else None,
        dropped_in=_number(counted["dropped_in"]) if whole else None,
        passed_out=_number(counted["passed_out"]) if whole else None,
        passed_in=_number(counted["passed_in"]) if whole else None,
        knocked=sum(_number(one["knocked"]) for one in tried),
        tried=places or None,
        database_bytes=_number(cloned.get("bytes", 0)),
        took_ms=(span[1] - span[0]) / 1e6 if span is not None else None,
        longest_gap_ms=gap,
        errors=errors or 0,
        expected_rows=_number(copying["acked"]) if copying is not None and held is not None else 0,
        held_rows=_number(held["rows"]) if held is not None else None,
        behind_ms=_behind(record, copying, held),
        checks=tuple(_checks(record).values()),
    )


def left_of(entries: Sequence[JsonObject]) -> tuple[str, ...]:
    """What was not seen to be taken away, a sentence each."""
    begun = {str(one["task"]) for one in entries if one["what"] == "task-began"}
    ended = {str(one["task"]): bool(one["ok"]) for one in entries if one["what"] == "task-ended"}
    found = []
    if Step.CLONE in begun and not ended.get(Step.REMOVE, False):
        found.append("the clone was not seen to be removed")
    if Step.ISOLATE in begun and not ended.get(Step.OPEN, False):
        found.append("the rules of the drill may still be on the gateways, which keeps their network closed")
    return tuple(found)


def _checks(record: IsolatedRecord) -> dict[str, CheckTold]:
    """The last word of each check, by its name: a drill that went on may have asked twice."""
    return {
        str(one["name"]): CheckTold(
            name=str(one["name"]),
            ok=bool(one["ok"]),
            expected=str(one["expected"]),
            found=str(one["found"]),
            words=str(one["words"]),
        )
        for one in record.entries
        if one["what"] == "checked"
    }


def _span(record: IsolatedRecord) -> tuple[int, int] | None:
    """From when the gateways began to be closed until the last step ended; None where nothing was begun."""
    began = [_number(one["ns"]) for one in record.entries if one["what"] == "task-began" and one.get("leg") == LEG]
    ended = [_number(one["ended_ns"]) for one in record.entries if one["what"] == "task-ended"]
    return (min(began), max(ended)) if began and ended else None


def _behind(record: IsolatedRecord, copying: JsonObject | None, held: JsonObject | None) -> float | None:
    """How long before the copy began the newest row that the clone has was acknowledged."""
    if copying is None or held is None:
        return None
    newest = next((one for one in record.attempts if one.number == _number(held["newest"])), None)
    return max(0.0, (_number(copying["ns"]) - newest.ended_ns) / 1e6) if newest is not None else None


def _readings(record: IsolatedRecord, step: Step) -> Mapping[str, Json]:
    ended = [one for one in record.entries if one["what"] == "task-ended" and one["task"] == step and one["readings"]]
    return _mapping(ended[-1]["readings"]) if ended else {}


def _last(record: IsolatedRecord, what: str) -> JsonObject | None:
    return next((one for one in reversed(record.entries) if one["what"] == what), None)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Json) -> int:
    return int(value) if isinstance(value, int | float | str) else 0
