"""What may have changed since a run was begun, besides the inputs that Git holds: time, secrets, who the hosts are.
Touches nothing. Versions of engines are compared where an engine looks: a change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ismgr_automation.converge.ground import ground_of
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.secrets import moved as secrets_moved
from ismgr_automation.core.address import Kind
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.planning.freshness import overdue
from ismgr_automation.planning.plan import Plan, Purpose
from ismgr_automation.ports.runs import Run, StepRecord


def moved_meanwhile(
    planned: Plan, run: Run, steps: Sequence[StepRecord], scope: Scope, now: datetime
) -> tuple[str, ...]:
    """What stands against going on with a run, as lines for ``StalePlan``. ``steps`` are those that it has begun.

    Raises ``EngineError`` and ``InputError`` when a secret or an inventory cannot be looked at.
    """
    if planned.purpose is Purpose.DRILL and steps:
        # clients may be waiting: what was begun of a drill is brought to its end
        return ()
    late = overdue(planned, run.started_at, now)
    store, before = scope.engines.secrets, planned.inputs.secrets
    secrets = secrets_moved(before, {name: store.version(SecretRef.parse(name)) for name in before})
    return tuple(filter(None, [late, *secrets, _hosts_moved(planned, scope)]))


def _hosts_moved(planned: Plan, scope: Scope) -> str:
    """Whether the hosts are others than was planned. A run that changes stacks makes and moves hosts itself: there each
    shard is held to its own hosts, and deferred ones to their envelope."""
    places = [one.address for one in planned.changes] + [one.address for one in planned.deferred]
    if not planned.changes or any(one.kind is Kind.STACK for one in places):
        return ""
    now = ground_of(planned.changes, scope).fleet.digest
    return "" if now == planned.inputs.inventory else "the inventory changed"
