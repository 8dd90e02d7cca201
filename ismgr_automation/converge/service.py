"""Hosts out of service and back: drained at their load balancers, and no primary of a cluster, while they are worked
on. Whatever happens in between, what was drained by us is put back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import group
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.estate.maintenance import Drain, Switchover
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.upkeep import Cluster, ClusterMember, Drained, Part, Pool


@dataclass(slots=True, kw_only=True)
class Absence:
    """Who is out of service. ``trouble`` has a sentence for each host that could not be taken out, or back."""

    trouble: dict[str, str] = field(default_factory=dict)
    pools: list[tuple[str, Pool]] = field(default_factory=list)
    """Host and pool of what we drained ourselves."""


@contextmanager
def out_of_service(hosts: Sequence[str], ground: Ground, scope: Scope) -> Iterator[Absence]:
    """Drain each host at the balancers of its groups, for the length of the ``with``.

    A host that cannot be drained is in ``trouble``, and must not be worked on. What somebody else had drained before
    stays drained. Hosts that cannot be put back are in ``trouble`` afterwards.
    """
    absence = Absence()
    try:
        for host in hosts:
            for drain in drains(host, ground, scope):
                _drain(host, pool_of(host, drain, ground, scope), absence, scope)
        yield absence
    finally:
        # also when somebody cancelled: a host that stays drained is an outage that nobody ordered
        calm = replace(scope.context, cancelled=threading.Event())
        for host, pool in reversed(absence.pools):
            back = scope.engines.upkeep.balancer.restore(pool, calm)
            _note(host, "is not back in service", back, absence)


def drains(host: str, ground: Ground, scope: Scope) -> tuple[Drain, ...]:
    """How a host is taken out of service, by the groups that it belongs to."""
    groups = [scope.estate.groups[name] for name, who in sorted(ground.fleet.membership.items()) if host in who]
    return tuple(one.drain for one in groups if one.drain is not None)


def pool_of(host: str, drain: Drain, ground: Ground, scope: Scope) -> Pool:
    """The server that a host is, on every balancer in front of it."""
    return Pool(
        fleet=at_hand(scope, ground.fleet, ground.fleet.membership.get(drain.group, ())),
        backend=drain.backend,
        server=drain.server.replace("{host}", host),
        socket=drain.socket,
        deadline=duration(drain.deadline),
    )


def _drain(host: str, pool: Pool, absence: Absence, scope: Scope) -> None:
    # it is written down before it is done: whoever dies half-way through has something to put back
    absence.pools.append((host, pool))
    answers = scope.engines.upkeep.balancer.drain(pool, scope.context)
    _note(host, "cannot be taken out of service", answers, absence)
    cut = sum(one.sessions for one in answers)
    words = f"{cut} sessions were cut off at the deadline" if cut else "no session was left"
    if host not in absence.trouble:
        scope.context.emit(
            StepReported(step=f"drain {host}", detail=words, seconds=max(one.seconds for one in answers))
        )


def _note(host: str, what: str, answers: Sequence[Drained], absence: Absence) -> None:
    bad = [f"{one.balancer}: {one.detail}" for one in answers if not one.ok]
    if bad:
        words = f"{host} {what}: {'; '.join(bad)}"
        absence.trouble[host] = "; ".join(filter(None, [absence.trouble.get(host, ""), words]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The primary role of one group's cluster, and whom it was taken from."""

    group: str
    primary: str
    to: str
    document: Switchover


def hand_over(hosts: Sequence[str], ground: Ground, scope: Scope) -> tuple[tuple[Relay, ...], dict[str, str]]:
    """Move the primary role away from hosts that have it, to a member that is not among them. Returns what was moved,
    and a sentence for each host that still has the role because nobody can take it."""
    moved: list[Relay] = []
    trouble: dict[str, str] = {}
    for name, members in sorted(ground.fleet.membership.items()):
        switchover = scope.estate.groups[name].switchover
        mine = sorted(set(members) & set(hosts))
        if switchover is None or not mine:
            continue
        cluster = cluster_of(name, switchover, ground, scope)
        seen = scope.engines.upkeep.cluster.members(cluster, scope.context)
        primary = next((one.host for one in seen if one.part is Part.PRIMARY), "")
        if primary not in mine:
            continue
        to = _successor(seen, hosts)
        if not to:
            trouble[primary] = f"{primary} is the primary of {group(name)}, and no standby elsewhere streams from it"
            continue
        done = scope.engines.upkeep.cluster.switchover(cluster, to, scope.context)
        if not done.ok:
            trouble[primary] = f"the primary of {group(name)} could not be moved to {to}: {done.detail}"
            continue
        seconds = done.without_primary.total_seconds()
        scope.context.emit(StepReported(step=f"switchover {group(name)}", detail=f"{primary} -> {to}", seconds=seconds))
        moved.append(Relay(group=name, primary=primary, to=to, document=switchover))
    return tuple(moved), trouble


def hand_back(relays: Sequence[Relay], well: Sequence[str], ground: Ground, scope: Scope) -> dict[str, str]:
    """Give the role back where the document says so and its former holder is well; a sentence for each former holder
    that did not get it."""
    said: dict[str, str] = {}
    for relay in relays:
        if not relay.document.back or relay.primary not in well:
            continue
        cluster = cluster_of(relay.group, relay.document, ground, scope)
        try:
            done = scope.engines.upkeep.cluster.switchover(cluster, relay.primary, scope.context)
        except IsmgrError as problem:
            said[relay.primary] = f"the primary of {group(relay.group)} stays on {relay.to}: {problem.summary}"
            continue
        if not done.ok:
            said[relay.primary] = f"the primary of {group(relay.group)} stays on {relay.to}: {done.detail}"
    return said


def cluster_of(name: str, switchover: Switchover, ground: Ground, scope: Scope) -> Cluster:
    """The cluster on a group's hosts."""
    return Cluster(
        fleet=at_hand(scope, ground.fleet, ground.fleet.membership[name]),
        version=switchover.version,
        name=switchover.name,
        port=switchover.port,
        deadline=duration(switchover.deadline),
    )


def _successor(seen: Sequence[ClusterMember], without: Sequence[str]) -> str:
    """The standby that lags least of those that stream and are not worked on."""
    able = [one for one in seen if one.part is Part.STANDBY and one.streaming and one.host not in without]
    return min(able, key=lambda one: (one.lag_bytes, one.host)).host if able else ""
