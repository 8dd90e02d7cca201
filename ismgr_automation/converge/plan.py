"""Plan: observe every engine, compose, say so. Touches nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ismgr_automation.converge.observe import observe
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.events import PlanComposed
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.compose import compose
from ismgr_automation.planning.plan import URGENT, Beside, Plan


def plan(scope: Scope, now: datetime, *, urgent: str = "") -> Plan:
    """What would have to change so that the world is as the estate says; ``now`` is stamped beside the plan. ``urgent``
    says why freezes should not hold it up."""
    seen = observe(scope)
    if urgent:
        seen = replace(seen, inputs=replace(seen.inputs, policies={**seen.inputs.policies, URGENT: urgent}))
    composed = compose(
        seen, estate=scope.estate.document.name, environment=scope.environment_name, beside=beside(scope, now)
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
    return Beside(
        commit=revision.commit,
        ref=revision.ref,
        worktree=revision.worktree,
        created_at=now,
        expires_at=now + duration(scope.environment.plan_lifetime),
    )
