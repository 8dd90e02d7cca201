"""Between rounds: look at what was deferred again, and let go what became known and stays inside its envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ismgr_automation.converge.fleet import await_hosts, meet, unreachable
from ismgr_automation.converge.observe import graph_with
from ismgr_automation.converge.prepared import Prepared
from ismgr_automation.converge.promises import promises
from ismgr_automation.converge.requests import group_content, group_inputs
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stacks import look_at_stacks, read_states
from ismgr_automation.core.address import Address, Kind, host
from ismgr_automation.core.errors import Cancelled
from ismgr_automation.planning.change import Action, Certainty, Change, Deferred, Reason, Step
from ismgr_automation.planning.compose import names_of, stack_change, waves
from ismgr_automation.planning.envelope import breach
from ismgr_automation.planning.fleet import Fleet, Sighting
from ismgr_automation.planning.graph import ancestors
from ismgr_automation.planning.observation import StackSight
from ismgr_automation.planning.waves import Sick, apart, obstacle, shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What may run now and in which waves, what still waits, and why the run must stop instead, if it must."""

    changes: tuple[Prepared, ...] = ()
    waves: tuple[tuple[str, ...], ...] = ()
    waiting: tuple[Deferred, ...] = ()
    stop: str = ""


def release(waiting: Sequence[Deferred], scope: Scope) -> Released:
    """Look again at what waits. Hosts that have just been created are not asked in check mode: there is nothing on them
    that a prediction could be about, which is what the envelope says."""
    mine = frozenset(one.address for one in waiting if one.address.kind is Kind.STACK)
    states = read_states(scope)
    stacks = look_at_stacks(scope, mine, states, {})
    problems = [sight.problem.summary for sight in stacks.values() if sight.problem is not None]
    if problems:
        return Released(waiting=tuple(waiting), stop="; ".join(problems))
    fleet = meet(scope, stacks, states)
    known = {address: found for address, sight in stacks.items() if (found := _stack(sight)) is not None}
    moving = {address for address, found in known.items() if found} | (mine - set(known))
    ready = [one for one in waiting if one.address.kind is Kind.GROUP and not set(one.waits_for) & moving]
    groups: dict[Address, tuple[Prepared, ...]] = {}
    for one in ready:
        made = _group(one, fleet, scope)
        # nobody waits for a host that nobody signed
        stop = made if isinstance(made, str) else _breach(one, made, group_content(scope, one.address.name))
        if isinstance(made, str) or stop:
            return Released(waiting=tuple(waiting), stop=stop)
        groups[one.address] = made
    lost = _wait_for_hosts(ready, fleet, scope)
    if lost:
        return Released(waiting=tuple(waiting), stop=lost)
    known |= groups
    return _let_go(waiting, known, stacks, scope, fleet)


def _let_go(
    waiting: Sequence[Deferred],
    known: Mapping[Address, tuple[Prepared, ...]],
    stacks: Mapping[Address, StackSight],
    scope: Scope,
    fleet: Fleet,
) -> Released:
    graph = graph_with(scope.estate, fleet)
    held = {one.address for one in waiting if one.address not in known}
    free = {address for address in known if not ancestors(graph, [address]) & held}
    for one in waiting:
        if one.address not in free:
            continue
        sight = stacks.get(one.address)
        content = sight.content if sight is not None else group_content(scope, one.address.name)
        stop = _breach(one, known[one.address], content)
        if stop:
            return Released(waiting=tuple(waiting), stop=stop)
    rest = tuple(one for one in waiting if one.address not in free)
    if not free:
        whys = "; ".join(f"{one.address} {one.why}" for one in rest)
        return Released(waiting=rest, stop=f"what was deferred is still not known: {whys}")
    released = tuple(one for address in sorted(free) for one in known[address])
    changes = [one.change for one in released]
    names = names_of(changes)
    new = new_hosts(waiting, [name for who in names.values() for name in who])
    ordered = apart(waves(changes, graph), names, promises(scope, fleet), new)
    return Released(changes=released, waves=ordered, waiting=rest)


def _breach(one: Deferred, changes: Sequence[Prepared], content: str) -> str:
    """Why these changes may not run under their envelope; empty when they may."""
    reason = breach(one, tuple(item.change for item in changes), content)
    return f"outside the envelope: {reason}" if reason is not None else ""


def _stack(sight: StackSight) -> tuple[Prepared, ...] | None:
    if sight.preview is None:
        return None
    sealed = sight.preview.update_plan.sealed if sight.preview.update_plan is not None else ""
    change = replace(stack_change(sight), reason=Reason.RELEASED) if sight.differs else None
    return (Prepared(change=change, sealed=sealed),) if change is not None else ()


def _members(name: str, fleet: Fleet, scope: Scope) -> list[Sighting]:
    return [one for one in fleet.of(name) if scope.selection.takes_host(one.host.name)]


def _wait_for_hosts(ready: Sequence[Deferred], fleet: Fleet, scope: Scope) -> str:
    """Wait until the hosts of the groups answer; says which group cannot be worked on, or nothing."""
    members = {one.address: _members(one.address.name, fleet, scope) for one in ready}
    for address, who in members.items():
        unknown = [f"{one.host.name}: {one.pending}" for one in who if one.pending]
        if not who or unknown:
            return f"{address} cannot be worked on: {'; '.join(unknown) or 'it has no hosts'}"
    hosts = {one.host.name: one.host for who in members.values() for one in who}
    found = await_hosts(scope, list(hosts.values()), fleet)
    if scope.context.cancelled.is_set():
        raise Cancelled("Stopped while waiting for hosts.", next_step="Plan again to see what is left to do.")
    lost = unreachable(found)
    return f"hosts cannot be worked on: {'; '.join(lost)}" if lost else ""


def _group(one: Deferred, fleet: Fleet, scope: Scope) -> tuple[Prepared, ...] | str:
    """The shards of a group that was waited for, all of its members well; or why it cannot be worked on."""
    address = one.address
    document = scope.estate.groups[address.name]
    names = [sighting.host.name for sighting in _members(address.name, fleet, scope)]
    promised = promises(scope, fleet)
    new = new_hosts([one], names)
    wrong = obstacle(names, promised, new)
    if wrong is not None:
        return wrong.summary
    return tuple(
        Prepared(
            change=Change(
                address=address,
                part=shard.part,
                batch=shard.batch,
                action=Action.CONFIGURE,
                reason=Reason.RELEASED,
                steps=tuple(_fresh(name, document.playbook) for name in shard.names),
                targets=tuple(map(host, shard.names)),
                inputs=group_inputs(scope, address.name, fleet),
            )
        )
        for shard in shards(names, document.waves, promised, new)
    )


def new_hosts(waiting: Sequence[Deferred], names: Sequence[str]) -> dict[str, Sick]:
    """Those of ``names`` that did not answer when it was planned: nobody can rely on them before they are made."""
    there = {target.name for one in waiting for target in one.there}
    return {name: Sick.NEW for name in names if name not in there}


def _fresh(name: str, playbook: str) -> Step:
    return Step(
        target=name,
        what=playbook,
        action=Action.CONFIGURE,
        certainty=Certainty.UNPREDICTABLE,
        why="the host has just come up",
    )
