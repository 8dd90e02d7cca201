"""Verification suites of host groups against their hosts. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.observe import graph_with
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.requests import suite_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.graph import selected
from ismgr_automation.ports.stacks import StackState
from ismgr_automation.ports.verification import CheckResult, SuiteRequest


def verify(scope: Scope) -> tuple[CheckResult, ...]:
    """Run the suites of every covered group against its hosts, as the states know them."""
    ground = whole_ground(scope)
    fleet, states = ground.fleet, ground.states
    covered = selected(graph_with(scope.estate, fleet), scope.selection.targets, scope.selection.excludes)
    names = sorted(one.name for one in covered if one.kind is Kind.GROUP)
    found = each(names, lambda name: verify_group(scope, name, fleet, states, None), workers=scope.workers)
    return tuple(check for checks in found for check in checks)


def verify_group(
    scope: Scope,
    name: str,
    fleet: Fleet,
    states: Mapping[Address, StackState],
    limit: Sequence[str] | None,
) -> tuple[CheckResult, ...]:
    """Run one group's suites, against the hosts in ``limit`` or all of its members; no suites, no results."""
    request = suites_of(scope, name, fleet, states, limit)
    return () if request is None else scope.engines.verifier.verify(request, scope.context)


def suites_of(
    scope: Scope,
    name: str,
    fleet: Fleet,
    states: Mapping[Address, StackState],
    limit: Sequence[str] | None,
) -> SuiteRequest | None:
    """What running one group's suites asks for; None where there is nothing to run."""
    members = fleet.membership[name] if limit is None else limit
    hosts = [one for one in members if scope.selection.takes_host(one)]
    if not hosts or not scope.estate.groups[name].verify:
        return None
    return suite_request(scope, name, fleet, hosts, states)
