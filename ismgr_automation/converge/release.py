"""Between rounds: look at what was deferred again, and let go what became known and stays inside its envelope."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ismgr_automation.converge.observe import look_at_stacks, meet, probe, read_states
from ismgr_automation.converge.requests import duration, group_content, inventory_digest
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind, host
from ismgr_automation.core.json import digest
from ismgr_automation.planning.change import Action, Certainty, Change, Deferred, Reason, Step
from ismgr_automation.planning.compose import stack_change
from ismgr_automation.planning.envelope import breach
from ismgr_automation.planning.fleet import Fleet, Sighting, parts
from ismgr_automation.planning.graph import Graph, ancestors
from ismgr_automation.planning.observation import StackSight
from ismgr_automation.ports.hosts import Reach, Reachability

COMING_UP = (Reach.DNS, Reach.REFUSED, Reach.TIMEOUT, Reach.AUTH)
"""What a host may answer while it boots (logins are refused until the boot is done); the rest is final."""

BETWEEN_PROBES_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What may run now, what still waits, and why the run must stop instead, if it must."""

    changes: tuple[Change, ...] = ()
    waiting: tuple[Deferred, ...] = ()
    stop: str = ""


def release(waiting: Sequence[Deferred], scope: Scope, graph: Graph) -> Released:
    """Look again at what waits. Hosts that have just been created are not asked in check mode: there is nothing on them
    that a prediction could be about, which is what the envelope says."""
    mine = frozenset(one.address for one in waiting if one.address.kind is Kind.STACK)
    stacks = look_at_stacks(scope, graph, mine, read_states(scope))
    problems = [sight.problem.summary for sight in stacks.values() if sight.problem is not None]
    if problems:
        return Released(waiting=tuple(waiting), stop="; ".join(problems))
    fleet = meet(scope, stacks, read_states(scope))
    known = {address: found for address, sight in stacks.items() if (found := _stack(sight)) is not None}
    moving = {address for address, found in known.items() if found} | (mine - set(known))
    ready = [one for one in waiting if one.address.kind is Kind.GROUP and not set(one.waits_for) & moving]
    reachability = _wait_for_hosts(ready, fleet, scope)
    for one in ready:
        lost = _lost(one.address.name, fleet, scope, reachability)
        if lost:
            return Released(waiting=tuple(waiting), stop=f"{one.address} cannot be worked on: {'; '.join(lost)}")
        known[one.address] = _group(one.address, fleet, scope)
    return _let_go(waiting, known, stacks, scope, graph)


def _let_go(
    waiting: Sequence[Deferred],
    known: Mapping[Address, tuple[Change, ...]],
    stacks: Mapping[Address, StackSight],
    scope: Scope,
    graph: Graph,
) -> Released:
    held = {one.address for one in waiting if one.address not in known}
    free = {address for address in known if not ancestors(graph, [address]) & held}
    for one in waiting:
        if one.address not in free:
            continue
        sight = stacks.get(one.address)
        content = sight.content if sight is not None else group_content(scope, one.address.name)
        reason = breach(one, known[one.address], content)
        if reason is not None:
            return Released(waiting=tuple(waiting), stop=f"outside the envelope: {reason}")
    rest = tuple(one for one in waiting if one.address not in free)
    if not free:
        whys = "; ".join(f"{one.address} {one.why}" for one in rest)
        return Released(waiting=rest, stop=f"what was deferred is still not known: {whys}")
    return Released(changes=tuple(change for address in sorted(free) for change in known[address]), waiting=rest)


def _stack(sight: StackSight) -> tuple[Change, ...] | None:
    if sight.preview is None:
        return None
    return (replace(stack_change(sight), reason=Reason.RELEASED),) if sight.preview.steps else ()


def _members(name: str, fleet: Fleet, scope: Scope) -> list[Sighting]:
    return [one for one in fleet.of(name) if scope.selection.takes_host(one.host.name)]


def _wait_for_hosts(ready: Sequence[Deferred], fleet: Fleet, scope: Scope) -> dict[str, Reachability]:
    """Probe the hosts of the groups until each answers, or the time that a boot may take is over."""
    hosts = {
        one.host.name: one.host
        for deferred in ready
        for one in _members(deferred.address.name, fleet, scope)
        if not one.pending
    }
    found: dict[str, Reachability] = {}
    until = time.monotonic() + duration(scope.estate.document.ssh.boot_timeout).total_seconds()
    while True:
        missing = [one for name, one in hosts.items() if name not in found or found[name].reach in COMING_UP]
        found |= probe(scope, missing, fleet)
        coming = [name for name in hosts if found[name].reach in COMING_UP]
        if not coming or time.monotonic() > until or scope.context.cancelled.wait(BETWEEN_PROBES_S):
            return found


def _lost(name: str, fleet: Fleet, scope: Scope, reachability: Mapping[str, Reachability]) -> list[str]:
    members = _members(name, fleet, scope)
    if not members:
        return ["it has no hosts"]
    lost = [f"{one.host.name}: {one.pending}" for one in members if one.pending]
    answers = [reachability[one.host.name] for one in members if not one.pending]
    return [*lost, *(f"{one.host} ({one.reach}) {one.detail}" for one in answers if one.reach is not Reach.OK)]


def _group(address: Address, fleet: Fleet, scope: Scope) -> tuple[Change, ...]:
    document = scope.estate.groups[address.name]
    inputs = digest({"content": group_content(scope, address.name), "inventory": inventory_digest(fleet.hosts)})
    names = [one.host.name for one in _members(address.name, fleet, scope)]
    return tuple(
        Change(
            address=address,
            part=number,
            action=Action.CONFIGURE,
            reason=Reason.RELEASED,
            steps=tuple(_fresh(name, document.playbook) for name in part),
            targets=tuple(map(host, part)),
            inputs=inputs,
        )
        for number, part in enumerate(parts(names, document.waves), start=1)
    )


def _fresh(name: str, playbook: str) -> Step:
    return Step(
        target=name,
        what=playbook,
        action=Action.CONFIGURE,
        certainty=Certainty.UNPREDICTABLE,
        why="the host has just come up",
    )
