"""Whether a plan may still be applied: not too old, and nothing that it was made from has moved. Pure: it compares two
plans, the signed one and one that was composed now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ismgr_automation.planning.change import Change
from ismgr_automation.planning.plan import Plan, change_json


def expired(plan: Plan, now: datetime) -> str | None:
    """Why a plan is too old to be applied, or None. At the moment of its expiry it is too old."""
    until = plan.beside.expires_at
    if until is None or now < until:
        return None
    made = plan.beside.created_at.isoformat(timespec="seconds")
    return f"it expired at {until.isoformat(timespec='seconds')} (it was made at {made})"


def overdue(plan: Plan, begun: datetime, now: datetime) -> str | None:
    """Why a run of a plan that was begun in time may not go on any more, or None. From its beginning it has as long as
    the plan was to last: who has just begun is not stopped by the clock, and nobody goes on with what is forgotten."""
    if plan.beside.expires_at is None:
        return None
    until = begun + (plan.beside.expires_at - plan.beside.created_at)
    if now < until:
        return None
    begin, end = begun.isoformat(timespec="seconds"), until.isoformat(timespec="seconds")
    return f"its run was begun at {begin}, and could go on until {end}"


def other_engine(planned: str, now: str) -> str:
    """What would do the work now that it was not planned with, in words; empty when there is nothing. What is half done
    may need fewer providers than the whole."""
    other = set(now.split("; ")) - set(planned.split("; ")) if planned else set()
    return f"{', '.join(sorted(other))} would do it now; it was planned with {planned}" if other else ""


def moved(planned: Plan, now: Plan) -> Iterable[str]:
    """What differs between two plans, one line each, the inputs first; nothing when their digests are the same."""
    if planned.format != now.format:
        yield f"it was made by an older version of ismgr (its format is {planned.format}, today's is {now.format})"
    yield from _moved_inputs(planned, now)
    yield from _moved_changes(planned, now)
    for differs, words in (
        (_keys(planned) == _keys(now) and planned.waves != now.waves, "the order of the changes differs"),
        (planned.deferred != now.deferred, "what is deferred differs"),
        (_whose(planned) != _whose(now), "it is a plan for something else"),
    ):
        if differs:
            yield words


def _moved_inputs(planned: Plan, now: Plan) -> Iterable[str]:
    before, after = planned.inputs, now.inputs
    tables: tuple[tuple[str, Mapping[str, str], Mapping[str, str]], ...] = (
        ("document", before.documents, after.documents),
        ("content of", before.content, after.content),
        ("state of", before.states, after.states),
        ("engine of", before.engines, after.engines),
        ("policy", before.policies, after.policies),
        ("secret", before.secrets, after.secrets),
    )
    for what, old, new in tables:
        # a first plan says nothing of policies and secrets; that it is old has been said
        if old or planned.format == now.format:
            yield from (f"{what} {key} changed" for key in sorted({*old, *new}) if old.get(key) != new.get(key))
    if before.inventory != after.inventory:
        yield "the inventory changed"
    if before.selection != after.selection:
        yield "targets or exclusions differ"


def _moved_changes(planned: Plan, now: Plan) -> Iterable[str]:
    old = {one.key: one for one in planned.changes}
    new = {one.key: one for one in now.changes}
    for key in sorted({*old, *new}):
        if key not in new:
            yield f"{key} has nothing to do any more"
        elif key not in old:
            yield f"{key} would change now"
        elif not _same(old[key], new[key], planned.format):
            yield f"{key} would do something else now"
        elif planned.format == now.format and old[key].batch != new[key].batch:
            yield f"{key} would run in another wave now"
        elif planned.format == now.format and old[key].constraint != new[key].constraint:
            yield f"the engine's own plan of {key} would be another now"


def _same(old: Change, new: Change, format_: str) -> bool:
    """Whether two changes do the same; when and bound by what is told apart, in words of their own."""
    ours, theirs = change_json(old, format_), change_json(new, format_)
    apart = ("batch", "constraint")
    return {key: ours[key] for key in ours if key not in apart} == {
        key: theirs[key] for key in theirs if key not in apart
    }


def _keys(plan: Plan) -> set[str]:
    return {key for wave in plan.waves for key in wave}


def _whose(plan: Plan) -> tuple[str, str, str]:
    return plan.estate, plan.environment, plan.purpose
