"""Planning to destroy stacks, in reverse order of their needs. Hosts go with their stacks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ismgr_automation.converge.fleet import meet
from ismgr_automation.converge.observe import graph_with
from ismgr_automation.converge.plan import announce, beside
from ismgr_automation.converge.requests import stack_content
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import digest
from ismgr_automation.planning.change import Action, Change, Reason, Step
from ismgr_automation.planning.graph import Graph, ancestors, doomed, levels
from ismgr_automation.planning.plan import Inputs, Plan, Purpose
from ismgr_automation.ports.stacks import StackState


def plan_destroy(scope: Scope, now: datetime) -> Plan:
    """The plan that deletes every resource of the covered stacks; what depends on a target goes with it, and what an
    excluded one needs stays. Raises ``InputError`` for hosts: they come and go with their stacks."""
    _refuse_hosts(scope)
    states = read_states(scope)
    graph = graph_with(scope.estate, meet(scope, {}, states))
    covered = doomed(graph, scope.selection.targets, scope.selection.excludes)
    chosen = [one for one in sorted(covered) if one.kind is Kind.STACK and states[one].resources]
    changes = tuple(_change(one, states[one], scope) for one in chosen)
    composed = Plan(
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        purpose=Purpose.DESTROY,
        inputs=Inputs(
            documents=scope.documents,
            content={str(one): stack_content(scope, one.name) for one in chosen},
            inventory=digest([]),
            states={str(one): states[one].state_digest for one in chosen},
            engines={},
            selection=scope.selection.texts(),
        ),
        changes=changes,
        waves=_reverse(chosen, graph),
        deferred=(),
        drift=(),
        findings=(),
        complete=True,
        errored=False,
        beside=beside(scope, now),
    )
    announce(scope, composed)
    return composed


def _refuse_hosts(scope: Scope) -> None:
    asked = [one for one in (*scope.selection.targets, *scope.selection.excludes) if one.kind is Kind.HOST]
    wrong = [Diagnostic(summary=f"{one} is a host", expected="stack/NAME or group/NAME") for one in asked]
    if wrong:
        raise InputError(
            "Hosts cannot be destroyed or kept one by one: they come and go with their stacks.", diagnostics=wrong
        )


def _change(address: Address, state: StackState, scope: Scope) -> Change:
    what = f"{state.resources} resource{'s' if state.resources != 1 else ''}"
    return Change(
        address=address,
        part=0,
        action=Action.DELETE,
        reason=Reason.ASKED,
        steps=(Step(target=address.name, what=what, action=Action.DELETE),),
        targets=(),
        inputs=stack_content(scope, address.name),
        precondition=state.state_digest,
    )


def _reverse(chosen: Sequence[Address], graph: Graph) -> tuple[tuple[str, ...], ...]:
    edges = {one: [need for need in ancestors(graph, [one]) if need in chosen] for one in chosen}
    return tuple(tuple(map(str, level)) for level in reversed(levels(edges)))
