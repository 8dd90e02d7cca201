"""Destroying stacks, in reverse order of their needs. Hosts go with their stacks."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime

from ismgr_automation.converge.observe import read_states
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.plan import announce, beside
from ismgr_automation.converge.report import Fate, Outcome, Report
from ismgr_automation.converge.requests import inventory_digest, stack_content, stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import Cancelled, EngineError, EngineTimedOut
from ismgr_automation.core.events import ChangeFinished, ChangeStarted, WaveFinished, WaveStarted
from ismgr_automation.planning.change import Action, Change, Reason, Step
from ismgr_automation.planning.graph import Graph, ancestors, graph_of, levels, selected
from ismgr_automation.planning.plan import Inputs, Plan, Purpose
from ismgr_automation.ports.stacks import StackState


def plan_destroy(scope: Scope, now: datetime) -> Plan:
    """The plan that deletes every resource of the covered stacks; what depends on a target goes with it."""
    graph = graph_of(scope.estate)
    covered = selected(graph, scope.selection.targets, scope.selection.excludes)
    states = read_states(scope)
    doomed = [one for one in sorted(covered) if one.kind is Kind.STACK and states[one].resources]
    changes = tuple(_change(one, states[one], scope) for one in doomed)
    composed = Plan(
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        purpose=Purpose.DESTROY,
        inputs=Inputs(
            documents=scope.documents,
            content={str(one): stack_content(scope, one.name) for one in doomed},
            inventory=inventory_digest(()),
            states={str(one): states[one].state_digest for one in doomed},
            engines={},
            selection=scope.selection.texts(),
        ),
        changes=changes,
        waves=_reverse(doomed, graph),
        deferred=(),
        drift=(),
        findings=(),
        complete=True,
        errored=False,
        beside=beside(scope, now),
    )
    announce(scope, composed)
    return composed


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


def _reverse(doomed: list[Address], graph: Graph) -> tuple[tuple[str, ...], ...]:
    edges = {one: [need for need in ancestors(graph, [one]) if need in doomed] for one in doomed}
    return tuple(tuple(map(str, level)) for level in reversed(levels(edges)))


def destroy(plan: Plan, scope: Scope) -> Report:
    """Do what ``plan_destroy`` planned, level by level from the last to the first."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    stopped = ""
    for number, keys in enumerate(plan.waves, start=1):
        addresses = [Address.parse(key) for key in keys]
        if stopped or scope.context.cancelled.is_set():
            outcomes += [Outcome(key=str(one), address=one, fate=Fate.NOT_STARTED) for one in addresses]
            continue
        scope.context.emit(WaveStarted(wave=number, addresses=tuple(addresses)))
        found = each(addresses, lambda one: _destroy(one, scope), workers=scope.workers)
        outcomes += found
        failed = [one for one in found if one.fate is not Fate.LANDED]
        stopped = "; ".join(f"{one.key} {one.fate}: {one.summary}" for one in failed)
        scope.context.emit(WaveFinished(wave=number, failed=len(failed)))
    return Report(
        digest=plan.digest,
        outcomes=tuple(outcomes),
        checks=(),
        rounds=1,
        seconds=time.monotonic() - began,
        stopped=stopped,
        cancelled=scope.context.cancelled.is_set(),
    )


def _destroy(address: Address, scope: Scope) -> Outcome:
    scope.context.emit(ChangeStarted(subject=address, action=str(Action.DELETE)))
    began = time.monotonic()
    outcome = Outcome(key=str(address), address=address, fate=Fate.LANDED)
    try:
        result = scope.engines.stacks.destroy(stack_request(scope, address.name), scope.context)
        outcome = replace(
            outcome,
            fate=Fate.FAILED if result.failed else Fate.LANDED,
            changed=len(result.steps),
            summary="; ".join(result.failed),
            touched=True,
        )
    except (EngineTimedOut, Cancelled) as problem:
        outcome = replace(outcome, fate=Fate.UNKNOWN, summary=problem.summary, touched=True)
    except EngineError as problem:
        outcome = replace(outcome, fate=Fate.FAILED, summary=problem.summary)
    if outcome.fate is Fate.LANDED:
        _forget_groups(address, scope)
    seconds = time.monotonic() - began
    scope.context.emit(
        ChangeFinished(
            subject=address,
            outcome=str(outcome.fate),
            changed=outcome.changed,
            seconds=seconds,
            summary=outcome.summary,
        )
    )
    return replace(outcome, seconds=seconds)


def _forget_groups(address: Address, scope: Scope) -> None:
    """Hosts went with their stack: what had been applied to groups is no longer anywhere to be found."""
    if scope.estate.stacks[address.name].hosts:
        for name in scope.estate.groups:
            scope.engines.ledger.forget(Address(Kind.GROUP, name))
