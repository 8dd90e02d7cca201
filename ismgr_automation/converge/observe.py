"""Looking at every engine before a plan: states, previews, hosts, reachability, check mode. Touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ismgr_automation.converge.fleet import check_selection, meet, probe
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.promises import promises
from ismgr_automation.converge.requests import (
    group_content,
    group_inputs,
    playbook_request,
    policies_content,
    stack_content,
    suites_content,
    variable_references,
)
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.secrets import Versions, unprotected, unsigned, used_by, versions
from ismgr_automation.converge.stacks import known, look_at_stacks, problem, readable_states, watched
from ismgr_automation.core.address import Address, Kind, stack
from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.errors import EngineError, EngineMissing, EstateError
from ismgr_automation.estate.model import Estate
from ismgr_automation.planning.change import Deferred, Finding, Level
from ismgr_automation.planning.defer import Known, deferred_group, group_waits, missing_outputs, unknown_outputs
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.graph import Graph, circle, graph_of, selected, with_makers
from ismgr_automation.planning.observation import GroupSight, Observation, StackSight
from ismgr_automation.planning.plan import Inputs
from ismgr_automation.planning.waves import Sick
from ismgr_automation.ports.hosts import PlaybookResult, Reach, Reachability, Status
from ismgr_automation.ports.stacks import StackState


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What is known of the world when host groups are looked at."""

    graph: Graph
    covered: frozenset[Address]
    stacks: Mapping[Address, StackSight]
    fleet: Fleet
    states: Mapping[Address, StackState]

    @property
    def moving(self) -> frozenset[Address]:
        """Stacks that applying would, or might, change."""
        return frozenset(address for address, sight in self.stacks.items() if sight.moves)

    @property
    def known(self) -> Known:
        """What can be told of outputs."""
        return known(self.states, self.stacks)


def observe(scope: Scope) -> Observation:
    """Look at everything that the selection covers. Raises ``EstateError`` when the estate and the world cannot both be
    right (two hosts with one name); engine failures become findings, so that the rest is still shown."""
    states, unreadable = readable_states(scope)
    ground = _survey(scope, states, unreadable)
    reachability = _reachability(scope, ground)
    sights = [_group(scope, one, ground, reachability) for one in sorted(ground.covered) if one.kind is Kind.GROUP]
    groups = {
        one.address: one for one in each(sights, lambda sight: _check(scope, sight, ground), workers=scope.workers)
    }
    names = [one.name for one in ground.stacks], [one.name for one in groups]
    secrets = versions(used_by(scope.estate, *names, ground.fleet.hosts), scope.engines.secrets)
    return Observation(
        graph=ground.graph,
        stacks=ground.stacks,
        groups=groups,
        hosts=ground.fleet.sightings,
        reachability=reachability,
        inputs=_inputs(scope, ground, groups, secrets),
        findings=(
            *(one for address, one in sorted(unreadable.items()) if address not in ground.stacks),
            *secrets.findings,
            *_open_doors(scope, ground),
        ),
        guards=promises(scope, ground.fleet),
        sick={name: Sick.UNREACHABLE for name, one in reachability.items() if one.reach is not Reach.OK},
    )


def graph_with(estate: Estate, fleet: Fleet) -> Graph:
    """All needs, those of groups on the makers of their hosts among them. Raises ``EstateError`` for a circle."""
    graph = with_makers(graph_of(estate), fleet.makers)
    found = circle(graph)
    if found:
        needs = " needs ".join(map(str, found))
        place = next((estate.fields[one, "needs"] for one in found if (one, "needs") in estate.fields), None)
        wrong = Diagnostic(summary=f"{needs}; a group needs the stacks that make its hosts", position=place)
        raise EstateError("The estate cannot be put in order.", diagnostics=[wrong])
    return graph


def _survey(scope: Scope, states: Mapping[Address, StackState], unreadable: Mapping[Address, Finding]) -> _Ground:
    """Preview what the selection covers. Whom a group depends on is known when its hosts are, and hosts come out of
    previews: so look until nothing more is covered."""
    chosen = scope.selection
    narrow = bool(chosen.targets or chosen.excludes)
    fleet = meet(scope, {}, states) if narrow else Fleet(sightings=(), membership={}, unbounded=())
    stacks: dict[Address, StackSight] = {}
    while True:
        graph = graph_with(scope.estate, fleet)
        covered = selected(graph, chosen.targets, chosen.excludes)
        wanted = frozenset(one for one in covered if one.kind is Kind.STACK)
        todo = wanted - set(stacks)
        if not todo and fleet.membership.keys() == scope.estate.groups.keys():
            break
        broken = {one: _unreadable(scope, one, states, unreadable[one]) for one in todo & set(unreadable)}
        stacks |= broken
        stacks |= look_at_stacks(scope, todo - set(broken), states, stacks)
        fleet = meet(scope, stacks, states)
    check_selection(scope, fleet, states)
    mine = {one: sight for one, sight in stacks.items() if one in wanted}
    return _Ground(graph=graph, covered=covered, stacks=mine, fleet=fleet, states=states)


def _unreadable(scope: Scope, one: Address, states: Mapping[Address, StackState], why: Finding) -> StackSight:
    content = stack_content(scope, one.name)
    return StackSight(address=one, inputs=content, content=content, state=states[one], problem=why)


def _reachability(scope: Scope, ground: _Ground) -> dict[str, Reachability]:
    """Who answers of those that are worked on, and of those with whom they keep a promise: whoever a selection leaves
    out may be down, and then the others must stay up."""
    wanted = {
        name
        for address in ground.covered
        if address.kind is Kind.GROUP
        for name in ground.fleet.membership[address.name]
        if scope.selection.takes_host(name)
    }
    for promise in promises(scope, ground.fleet):
        if not promise.members.isdisjoint(wanted):
            wanted |= promise.members
    hosts = [one.host for one in ground.fleet.sightings if one.host.name in wanted and not one.pending]
    return probe(scope, hosts, ground.fleet)


def _group(scope: Scope, address: Address, ground: _Ground, reachability: Mapping[str, Reachability]) -> GroupSight:
    fleet, document = ground.fleet, scope.estate.groups[address.name]
    everybody = fleet.of(address.name)
    mine = [one for one in everybody if scope.selection.takes_host(one.host.name)]
    names = [one.host.name for one in mine]
    content = group_content(scope, address.name)
    sight = GroupSight(
        address=address,
        inputs=group_inputs(scope, address.name, fleet),
        content=content,
        members=tuple(names),
        sizes=document.waves,
        applied=scope.engines.ledger.applied(address),
    )
    outputs = variable_references(scope, address.name)
    wrong = missing_outputs(address, outputs, ground.known) if mine else None
    if wrong is not None:
        return replace(sight, problem=wrong)
    unknown = unknown_outputs(outputs, ground.known) if mine else ()
    unbounded = bool(fleet.unbounded) and (not everybody or document.at_most is not None)
    waits = {*group_waits(mine, reachability, ground.moving, fleet.made_by), *(stack(one.stack) for one in unknown)}
    waits |= set(fleet.unbounded) if unbounded else set()
    found = [reachability.get(one.host.name) or _pending(one.host.name, one.pending) for one in mine]
    sight = replace(sight, unreachable=tuple(one for one in found if one.reach is not Reach.OK))
    if waits:
        there = [one.host for one in found if one.reach is Reach.OK]
        waiting = deferred_group(
            address, document, mine, sorted(waits), content, unbounded=unbounded, outputs=unknown, there=there
        )
        if isinstance(waiting, Deferred):
            return replace(sight, deferred=waiting)
        return replace(sight, problem=waiting)
    if not everybody:
        nobody = Finding(level=Level.ADVISE, subject=address, summary=f"{address} selects no host")
        return replace(sight, problem=nobody)
    return sight


def _pending(name: str, pending: str) -> Reachability:
    return Reachability(host=name, reach=Reach.DNS, detail=pending)


def _check(scope: Scope, sight: GroupSight, ground: _Ground) -> GroupSight:
    # of a group that waits for a host, the others are still looked at: they may have drifted
    drift_only = sight.deferred is not None
    if sight.problem is not None or (drift_only and not _settled(scope, sight, ground)):
        return sight
    lost = {one.host for one in sight.unreachable}
    limit = [name for name in sight.members if name not in lost]
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
    except EngineMissing:
        raise
    except EngineError as error:
        wrong = problem(sight.address, error)
        # what waits is looked at again before it runs: until then this is only worth a warning
        return replace(sight, problem=replace(wrong, level=Level.WARN) if drift_only else wrong)
    return replace(sight, checked=checked, unreachable=(*sight.unreachable, *checked.unreachable))


def _settled(scope: Scope, sight: GroupSight, ground: _Ground) -> bool:
    """Whether what Git asks of a group is what was applied, and all values that its playbook needs are there."""
    outputs = variable_references(scope, sight.address.name)
    there = all(one.output in ground.states[stack(one.stack)].outputs for one in outputs)
    return sight.applied == sight.inputs and there


def _checked(result: PlaybookResult) -> str:
    tasks = [one for one in result.tasks if one.status is Status.CHANGED]
    hosts = len({one.host for one in tasks})
    return (
        f"{len(tasks)} task{'s' * (len(tasks) != 1)} to change on {hosts} host{'s' * (hosts != 1)}"
        if tasks
        else "nothing to do"
    )


def _open_doors(scope: Scope, ground: _Ground) -> tuple[Finding, ...]:
    """What everybody should know who plans here."""
    stacks, everything = sorted(ground.stacks), sorted(ground.covered)
    warning = unprotected(scope.environment_name, scope.environment, stacks[0]) if stacks else None
    advice = unsigned(scope.environment_name, scope.environment, everything[0]) if everything else None
    return tuple(one for one in (warning, advice) if one is not None)


def _inputs(scope: Scope, ground: _Ground, groups: Mapping[Address, GroupSight], secrets: Versions) -> Inputs:
    stacks = ground.stacks
    engines = {str(one.address): one.preview.engine for one in stacks.values() if one.preview is not None}
    engines |= {str(one.address): one.checked.engine for one in groups.values() if one.checked is not None}
    sights: list[StackSight | GroupSight] = [*stacks.values(), *groups.values()]
    content = {str(one.address): one.content for one in sights}
    return Inputs(
        documents=scope.documents,
        content={**content, **{f"{one} suites": suites_content(scope, one.name) for one in groups}},
        inventory=ground.fleet.digest,
        states={str(address): sight.state.state_digest for address, sight in stacks.items()},
        engines=engines,
        selection=scope.selection.texts(),
        policies=policies_content(scope),
        secrets=secrets.by_reference,
    )
