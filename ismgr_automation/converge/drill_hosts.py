"""Which hosts a drill works on, as far as a fleet knows them. Touches nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ismgr_automation.converge.bubble_field import first_spare, gateways_of
from ismgr_automation.converge.drill_vault import seats_of
from ismgr_automation.converge.scope import Scope
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.recovery import Bubble, RecoveryPlan
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.ports.hosts import Host


def hosts_of(document: RecoveryPlan, mode: DrillMode, fleet: Fleet, scope: Scope) -> tuple[Host, ...]:
    """The hosts that the plan of such a drill would name. Nothing is refused: whom the fleet does not know is left
    out."""
    match mode:
        case DrillMode.SWITCHOVER | DrillMode.FAILOVER | DrillMode.RETURN:
            names = set(fleet.membership.get(document.cluster, ()))
        case DrillMode.ISOLATED:
            names = set(_of_bubble(document.bubble, fleet, scope)) if document.bubble is not None else set()
        case DrillMode.RESTORE:
            names = set(_of_vault(document, fleet))
    return tuple(one for one in fleet.hosts if one.name in names)


def _of_bubble(bubble: Bubble, fleet: Fleet, scope: Scope) -> Iterator[str]:
    spare = first_spare(fleet, bubble)
    if spare is not None:
        yield spare.name
        yield from gateways_of(scope, fleet, bubble, spare.site)


def _of_vault(document: RecoveryPlan, fleet: Fleet) -> Iterator[str]:
    seats = set(seats_of(document, document.backup)) if document.backup is not None else set()
    for one in fleet.hosts:
        if any(one.name in fleet.membership.get(group, ()) and one.site == site for group, site in seats):
            yield one.name
