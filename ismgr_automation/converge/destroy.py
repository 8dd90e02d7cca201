"""Destroying stacks, in reverse order of their needs. Hosts go with their stacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from ismgr_automation.converge.fleet import meet
from ismgr_automation.converge.observe import graph_with
from ismgr_automation.converge.outcome import Done, carry_out, told
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.plan import announce, beside
from ismgr_automation.converge.report import Fate, Outcome, Report
from ismgr_automation.converge.requests import inventory_digest, stack_content, stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stacks import read_states, state_moved
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.events import RoundStarted, WaveFinished, WaveStarted
from ismgr_automation.planning.change import Action, Change, Reason, Step
from ismgr_automation.planning.graph import Graph, ancestors, doomed, levels
from ismgr_automation.planning.plan import Inputs, Plan, Purpose
from ismgr_automation.ports.stacks import StackState
from ismgr_automation.ports.verification import CheckResult


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
            inventory=inventory_digest(()),
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


def destroy(plan: Plan, scope: Scope) -> Report:
    """Do what ``plan_destroy`` planned, level by level from the last to the first. As with ``apply``, nothing is raised
    once a wave has begun."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    stopped = ""
    scope.context.emit(RoundStarted(round=1, waves=len(plan.waves), changes=len(plan.changes)))
    for number, keys in enumerate(plan.waves, start=1):
        wave = [plan.change(key) for key in keys]
        if stopped or scope.context.cancelled.is_set():
            outcomes += [Outcome(key=one.key, address=one.address, fate=Fate.NOT_STARTED) for one in wave]
            continue
        scope.context.emit(WaveStarted(wave=number, addresses=tuple(one.address for one in wave)))
        found = [one for one, _ in each(wave, lambda one: _destroy(one, scope), workers=scope.workers)]
        outcomes += found
        failed = [one for one in found if one.fate in (Fate.FAILED, Fate.UNKNOWN)]
        stopped = "; ".join(f"{one.key} {one.fate}: {one.summary}" for one in failed)
        stopped = stopped or _forget([one.address for one in found if one.fate is Fate.LANDED], scope)
        scope.context.emit(WaveFinished(wave=number, failed=len(failed)))
    undone = any(one.fate is not Fate.LANDED for one in outcomes)
    return Report(
        digest=plan.digest,
        outcomes=tuple(outcomes),
        checks=(),
        rounds=1,
        seconds=time.monotonic() - began,
        stopped=stopped,
        cancelled=undone and scope.context.cancelled.is_set(),
    )


def _destroy(change: Change, scope: Scope) -> tuple[Outcome, tuple[CheckResult, ...]]:
    return carry_out(
        change,
        scope,
        lambda: _work(change, scope),
        lambda _problem: state_moved(change.address, change.precondition, scope),
    )


def _work(change: Change, scope: Scope) -> Done:
    if state_moved(change.address, change.precondition, scope):
        return Done(trouble="somebody wrote to its state since it was planned", touched=False)
    result = scope.engines.stacks.destroy(stack_request(scope, change.address.name), scope.context)
    return Done(changed=len(result.steps), trouble="; ".join(result.failed))


def _forget(gone: Sequence[Address], scope: Scope) -> str:
    """Hosts went with their stacks: what had been applied to groups is no longer anywhere to be found."""
    hosts = any(scope.estate.stacks[one.name].hosts for one in gone)
    groups = [Address(Kind.GROUP, name) for name in scope.estate.groups] if hosts else []
    try:
        for one in (*gone, *groups):
            scope.engines.ledger.forget(one)
    except Exception as problem:  # noqa: BLE001  what is gone must be told
        return f"what is gone could not be recorded: {told(problem, scope)}"
    return ""
