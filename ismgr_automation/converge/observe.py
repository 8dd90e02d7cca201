"""Looking at every engine before a plan: states, previews, hosts, reachability, check mode. Touches nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.requests import (
    group_content,
    inventory_digest,
    playbook_request,
    references,
    stack_content,
    stack_request,
)
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind, stack
from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.errors import EngineError, EstateError
from ismgr_automation.core.events import ObservationFinished, ObservationStarted
from ismgr_automation.core.json import digest
from ismgr_automation.estate.selector import Selector
from ismgr_automation.planning.change import Deferred, Finding, Level
from ismgr_automation.planning.defer import deferred_group, deferred_stack, group_waits, unknown_outputs
from ismgr_automation.planning.fleet import Fleet, Sighting, members, parts, sightings, twice
from ismgr_automation.planning.graph import Graph, graph_of, levels, selected
from ismgr_automation.planning.observation import GroupSight, Observation, StackSight
from ismgr_automation.planning.plan import Inputs
from ismgr_automation.ports.hosts import Host, PlaybookResult, Reach, Reachability, Status
from ismgr_automation.ports.stacks import StackPreview, StackState

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What is known of the world when host groups are looked at."""

    fleet: Fleet
    moving: frozenset[Address]
    reachability: Mapping[str, Reachability]
    states: Mapping[Address, StackState]


def observe(scope: Scope) -> Observation:
    """Look at everything that the selection covers. Raises ``EstateError`` when the estate and the world cannot both be
    right (two hosts with one name); engine failures become findings, so that the rest is still shown."""
    graph = graph_of(scope.estate)
    covered = selected(graph, scope.selection.targets, scope.selection.excludes)
    states = read_states(scope)
    stacks = look_at_stacks(scope, graph, covered, states)
    fleet = meet(scope, stacks, states)
    reachability = _reachability(scope, fleet, covered)
    moving = frozenset(address for address, sight in stacks.items() if sight.moves)
    ground = _Ground(fleet=fleet, moving=moving, reachability=reachability, states=states)
    groups = _look_at_groups(scope, covered, ground)
    return Observation(
        graph={address: graph[address] for address in graph if address in covered},
        stacks=stacks,
        groups=groups,
        hosts=fleet.sightings,
        reachability=reachability,
        inputs=_inputs(scope, stacks, groups, fleet),
    )


def watched(scope: Scope, subject: Address, how: str, look: Callable[[], Seen], found: Callable[[Seen], str]) -> Seen:
    """Run one look between its two events."""
    scope.context.emit(ObservationStarted(subject=subject, how=how))
    began = time.monotonic()
    outcome = "failed"
    try:
        seen = look()
        outcome = found(seen)
        return seen
    finally:
        scope.context.emit(
            ObservationFinished(subject=subject, how=how, found=outcome, seconds=time.monotonic() - began)
        )


def read_states(scope: Scope) -> Mapping[Address, StackState]:
    """What the engine remembers of every stack of the estate."""
    names = sorted(scope.estate.stacks)
    found = each(names, lambda name: scope.engines.stacks.state(stack_request(scope, name)), workers=scope.workers)
    return {stack(name): state for name, state in zip(names, found, strict=True)}


def look_at_stacks(
    scope: Scope, graph: Graph, covered: frozenset[Address], states: Mapping[Address, StackState]
) -> dict[Address, StackSight]:
    """Preview the covered stacks, those that others refer to first."""
    mine = {
        address: [stack(one.stack) for one in references(scope, address.name)]
        for address in graph
        if address.kind is Kind.STACK and address in covered
    }
    sights: dict[Address, StackSight] = {}
    for level in levels(mine):
        look = partial(_look_at_stack, scope, states, {address: sight.preview for address, sight in sights.items()})
        found = each(level, look, workers=scope.workers)
        sights |= {one.address: one for one in found}
    return sights


def _look_at_stack(
    scope: Scope,
    states: Mapping[Address, StackState],
    previews: Mapping[Address, StackPreview | None],
    address: Address,
) -> StackSight:
    content = stack_content(scope, address.name)
    sight = StackSight(address=address, inputs=content, content=content, state=states[address])
    unknown = unknown_outputs(references(scope, address.name), states, previews)
    if unknown:
        return replace(sight, deferred=deferred_stack(address, unknown, content))
    request = stack_request(scope, address.name)
    try:
        preview = watched(
            scope, address, "preview", lambda: scope.engines.stacks.preview(request, scope.context), _previewed
        )
    except EngineError as problem:
        return replace(sight, problem=_problem(address, problem))
    return replace(sight, preview=preview)


def _previewed(preview: StackPreview) -> str:
    counts: dict[str, int] = {}
    for step in preview.steps:
        counts[step.operation] = counts.get(step.operation, 0) + 1
    return ", ".join(f"{count} to {operation}" for operation, count in sorted(counts.items())) or "nothing to do"


def _problem(address: Address, problem: EngineError) -> Finding:
    detail = f": {problem.detail}" if problem.detail else ""
    return Finding(level=Level.DENY, subject=address, summary=f"{problem.summary}{detail}", next_step=problem.next_step)


def meet(scope: Scope, stacks: Mapping[Address, StackSight], states: Mapping[Address, StackState]) -> Fleet:
    """Everybody who is known: from previews where there are some, from states otherwise, and from inventories."""
    found: list[Sighting] = []
    wrong: list[Diagnostic] = []
    unbounded: list[Address] = []
    for name, document in sorted(scope.estate.stacks.items()):
        if not document.hosts:
            continue
        address = stack(name)
        sight = stacks.get(address)
        preview = sight.preview if sight is not None else None
        outputs = preview.outputs if preview is not None and preview.steps else states[address].outputs
        output = outputs.get(document.hosts)
        value = output.value if output is not None else None
        place = scope.estate.fields.get((address, "hosts"))
        here, diagnostics = sightings(value, address, scope.estate.document.ssh, place)
        found += here
        wrong += diagnostics
        if not isinstance(value, Sequence) and sight is not None and sight.moves:
            unbounded.append(address)
    for path in scope.estate.document.inventories:
        hosts = scope.engines.playbooks.read_inventory(scope.engines.content.path(path), scope.tree.root)
        found += [Sighting(host=replace(one, origin=path)) for one in hosts]
    wrong += [Diagnostic(summary=f"two hosts have one name: {claim}") for claim in twice(found)]
    if wrong:
        raise EstateError("The hosts of this estate cannot be told.", diagnostics=wrong)
    membership = {
        name: tuple(one.host.name for one in members(found, Selector.compile(document.selector).matches))
        for name, document in sorted(scope.estate.groups.items())
    }
    return Fleet(sightings=tuple(found), membership=membership, unbounded=tuple(unbounded))


def _reachability(scope: Scope, fleet: Fleet, covered: frozenset[Address]) -> dict[str, Reachability]:
    wanted = {
        name
        for address in covered
        if address.kind is Kind.GROUP
        for name in fleet.membership[address.name]
        if scope.selection.takes_host(name)
    }
    return probe(scope, [one.host for one in fleet.sightings if one.host.name in wanted and not one.pending], fleet)


def probe(scope: Scope, hosts: Sequence[Host], fleet: Fleet) -> dict[str, Reachability]:
    """Who of the hosts can be worked on, by name. The bastions that lead to them are probed along."""
    if not hosts:
        return {}
    wanted = {one.name for one in hosts}
    bastions = {one.bastion for one in fleet.hosts} - wanted
    everybody = [*hosts, *(one for one in fleet.hosts if one.name in bastions)]
    become = scope.estate.document.ssh.become
    found = scope.engines.prober.probe(everybody, scope.ssh, become, scope.context)
    return {one.host: one for one in found if one.host in wanted}


def _look_at_groups(scope: Scope, covered: frozenset[Address], ground: _Ground) -> dict[Address, GroupSight]:
    sights = [_group(scope, address, ground) for address in sorted(covered) if address.kind is Kind.GROUP]
    checked = each(sights, lambda sight: _check(scope, sight, ground), workers=scope.workers)
    return {one.address: one for one in checked}


def _group(scope: Scope, address: Address, ground: _Ground) -> GroupSight:
    fleet, reachability = ground.fleet, ground.reachability
    document = scope.estate.groups[address.name]
    mine = [one for one in fleet.of(address.name) if scope.selection.takes_host(one.host.name)]
    content = group_content(scope, address.name)
    names = [one.host.name for one in mine]
    sight = GroupSight(
        address=address,
        inputs=digest({"content": content, "inventory": inventory_digest(fleet.hosts)}),
        content=content,
        parts=parts(names, document.waves),
        made_by=tuple(sorted({one.stack for one in mine if one.stack is not None})),
        applied=scope.engines.ledger.applied(address),
    )
    waits = group_waits(mine, reachability, ground.moving)
    unbounded = bool(fleet.unbounded) and (not mine or document.at_most is not None)
    if waits or unbounded:
        waiting = deferred_group(address, document, mine, waits or fleet.unbounded, content, unbounded=unbounded)
        if isinstance(waiting, Deferred):
            return replace(sight, deferred=waiting)
        return replace(sight, problem=waiting)
    if not mine:
        nobody = Finding(level=Level.ADVISE, subject=address, summary=f"{address} selects no host")
        return replace(sight, problem=nobody)
    lost = tuple(reachability[name] for name in names if reachability[name].reach is not Reach.OK)
    return replace(sight, unreachable=lost)


def _check(scope: Scope, sight: GroupSight, ground: _Ground) -> GroupSight:
    if sight.deferred is not None or sight.problem is not None:
        return sight
    lost = {one.host for one in sight.unreachable}
    limit = [name for part in sight.parts for name in part if name not in lost]
    if not limit:
        return sight
    request = playbook_request(scope, sight.address.name, ground.fleet, limit, ground.states)
    try:
        checked = watched(
            scope,
            sight.address,
            "check",
            lambda: scope.engines.playbooks.check(request, scope.context),
            _checked,
        )
    except EngineError as problem:
        return replace(sight, problem=_problem(sight.address, problem))
    return replace(sight, checked=checked, unreachable=(*sight.unreachable, *checked.unreachable))


def _checked(result: PlaybookResult) -> str:
    tasks = [one for one in result.tasks if one.status is Status.CHANGED]
    hosts = len({one.host for one in tasks})
    return f"{len(tasks)} tasks to change on {hosts} hosts" if tasks else "nothing to do"


def _inputs(
    scope: Scope, stacks: Mapping[Address, StackSight], groups: Mapping[Address, GroupSight], fleet: Fleet
) -> Inputs:
    engines = {str(one.address): one.preview.engine for one in stacks.values() if one.preview is not None}
    engines |= {str(one.address): one.checked.engine for one in groups.values() if one.checked is not None}
    sights: list[StackSight | GroupSight] = [*stacks.values(), *groups.values()]
    return Inputs(
        documents=scope.documents,
        content={str(one.address): one.content for one in sights},
        inventory=inventory_digest(fleet.hosts),
        states={str(address): sight.state.state_digest for address, sight in stacks.items()},
        engines=engines,
        selection=scope.selection.texts(),
    )
