"""Plan: observe every engine, compose, say so. Touches nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ismgr_automation.converge.observe import observe
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.core.events import PlanComposed
from ismgr_automation.planning.compose import compose
from ismgr_automation.planning.plan import Beside, Plan


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
    if before.inventory != after.inventory:
        yield "the inventory changed"
    if before.selection != after.selection:
        yield "targets or exclusions differ"
    old_changes = {one.key: one for one in planned.changes}
    new_changes = {one.key: one for one in now.changes}
    for key in sorted({*old_changes, *new_changes}):
        if key not in new_changes:
            yield f"{key} has nothing to do any more"
        elif key not in old_changes:
            yield f"{key} would change now"
        elif old_changes[key].steps != new_changes[key].steps:
            yield f"{key} would do something else now"
    if planned.deferred != now.deferred:
        yield "what is deferred differs"
    if planned.purpose is not now.purpose or planned.environment != now.environment or planned.estate != now.estate:
        yield "it is a plan for something else"
