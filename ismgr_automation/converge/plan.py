"""Plan: observe every engine, compose, say so. Touches nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ismgr_automation.converge.observe import observe
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.core.events import PlanComposed
from ismgr_automation.planning.compose import compose
from ismgr_automation.planning.plan import Beside, Plan, change_json


def plan(scope: Scope, now: datetime) -> Plan:
    """What would have to change so that the world is as the estate says; ``now`` is stamped beside the plan."""
    composed = compose(
        observe(scope), estate=scope.estate.document.name, environment=scope.environment_name, beside=beside(scope, now)
    )
    announce(scope, composed)
    return composed


def announce(scope: Scope, composed: Plan) -> None:
    """Tell watchers that a plan is complete as a value."""
    scope.context.emit(
        PlanComposed(
            digest=composed.digest,
            changes=len(composed.changes),
            deferred=len(composed.deferred),
            drift=len(composed.drift),
        )
    )


def beside(scope: Scope, now: datetime) -> Beside:
    """What stands beside a plan's digest."""
    revision = scope.tree.revision
    return Beside(commit=revision.commit, ref=revision.ref, worktree=revision.worktree, created_at=now)


def refuse_if_stale(planned: Plan, now: Plan) -> None:
    """Raise ``StalePlan`` naming what moved, when the plan composed now is not the plan that was made."""
    if planned.digest != now.digest:
        raise StalePlan(moved=tuple(moved(planned, now)))


def moved(planned: Plan, now: Plan) -> Iterable[str]:
    """What differs between two plans, one line each, the inputs first."""
    before, after = planned.inputs, now.inputs
    for what, old, new in (
        ("document", before.documents, after.documents),
        ("content of", before.content, after.content),
        ("state of", before.states, after.states),
        ("engine of", before.engines, after.engines),
    ):
        yield from (f"{what} {key} changed" for key in sorted({*old, *new}) if old.get(key) != new.get(key))
    for differs, words in (
        (before.inventory != after.inventory, "the inventory changed"),
        (before.selection != after.selection, "targets or exclusions differ"),
    ):
        if differs:
            yield words
    yield from _moved_changes(planned, now)
    for differs, words in (
        (_keys(planned) == _keys(now) and planned.waves != now.waves, "the order of the changes differs"),
        (planned.deferred != now.deferred, "what is deferred differs"),
        (_whose(planned) != _whose(now), "it is a plan for something else"),
    ):
        if differs:
            yield words


def _moved_changes(planned: Plan, now: Plan) -> Iterable[str]:
    old = {one.key: one for one in planned.changes}
    new = {one.key: one for one in now.changes}
    for key in sorted({*old, *new}):
        if key not in new:
            yield f"{key} has nothing to do any more"
        elif key not in old:
            yield f"{key} would change now"
        elif change_json(old[key]) != change_json(new[key]):
            yield f"{key} would do something else now"


def _keys(plan: Plan) -> set[str]:
    return {key for wave in plan.waves for key in wave}


def _whose(plan: Plan) -> tuple[str, str, str]:
    return plan.estate, plan.environment, plan.purpose
