"""Hosts out of service and back: drained at their load balancers, and no primary of a cluster, while they are worked
on. Whatever happens in between, what was drained by us is put back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.outcome import briefly
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import group
from ismgr_automation.core.errors import Cancelled, IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.estate.maintenance import Drain, Switchover
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.steps import gives_back
from ismgr_automation.planning.change import Step
from ismgr_automation.ports.upkeep import Cluster, ClusterMember, Drained, Part, Pool


@dataclass(slots=True, kw_only=True)
class Absence:
    """Who is out of service. ``trouble`` has a sentence for each host that could not be taken out, ``kept`` for each
    that could not be put back."""

    trouble: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


@contextmanager
def out_of_service(
    hosts: Sequence[str], ground: Ground, scope: Scope, *, left: Sequence[str] = ()
) -> Iterator[Absence]:
    """Drain each host at the balancers of its groups, all at once, for the length of the ``with``.

    A host that cannot be drained is in ``trouble``, and must not be worked on. What somebody else had drained before
    stays drained. Hosts that cannot be put back are in ``kept`` afterwards. ``left`` are hosts that nothing is done to,
    and that a process of ours that died may have left drained: they are put back as well.
    """
    absence = Absence()
    out, behind = _pools(hosts, ground, scope), _pools(left, ground, scope)
    try:
        each(out, lambda one: _drain(*one, absence, scope), workers=len(out))
        yield absence
    finally:
        absence.kept |= _restore((*out, *behind), scope)


def put_back(hosts: Sequence[str], ground: Ground, scope: Scope) -> dict[str, str]:
    """Put back what a process of ours that died may have left drained; a sentence for each host that is not back."""
    return _restore(_pools(hosts, ground, scope), scope)


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


def _pools(hosts: Sequence[str], ground: Ground, scope: Scope) -> tuple[tuple[str, Pool], ...]:
    return tuple((host, pool_of(host, one, ground, scope)) for host in hosts for one in drains(host, ground, scope))


def _drain(host: str, pool: Pool, absence: Absence, scope: Scope) -> None:
    answers = scope.engines.upkeep.balancer.drain(pool, scope.context)
    bad = _bad(answers)
    if not answers:
        # a host that is never drained because of a slip of the pen would be noticed by its users first
        bad = f"no balancer of backend {pool.backend} is known"
    if bad:
        _add(absence.trouble, host, f"{host} cannot be taken out of service: {bad}")
        return
    cut = sum(one.sessions for one in answers)
    words = f"{cut} sessions were cut off at the deadline" if cut else "no session was left"
    scope.context.emit(StepReported(step=f"drain {host}", detail=words, seconds=max(one.seconds for one in answers)))


def _restore(pools: Sequence[tuple[str, Pool]], scope: Scope) -> dict[str, str]:
    # also when somebody cancelled: a host that stays drained is an outage that nobody ordered
    calm = replace(scope.context, cancelled=threading.Event())

    def restore(one: tuple[str, Pool]) -> str:
        try:
            return _bad(scope.engines.upkeep.balancer.restore(one[1], calm))
        except Exception as problem:  # noqa: BLE001  the others must be put back whatever becomes of this one
            return briefly(problem, scope)

    kept: dict[str, str] = {}
    for (host, _), bad in zip(pools, each(pools, restore, workers=len(pools)), strict=True):
        if bad:
            _add(kept, host, f"{host} is not back in service: {bad}")
    return kept


def _bad(answers: Sequence[Drained]) -> str:
    return "; ".join(f"{one.balancer}: {one.detail}" for one in answers if not one.ok)


def _add(said: dict[str, str], host: str, words: str) -> None:
    said[host] = "; ".join(filter(None, [said.get(host, ""), words]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The primary role of one group's cluster, and whom it was taken from."""

    group: str
    primary: str
    to: str
    document: Switchover


def hand_over(hosts: Sequence[str], relays: list[Relay], ground: Ground, scope: Scope) -> dict[str, str]:
    """Move the primary role away from hosts that have it, to a member that is not among them. ``relays`` gets each role
    as soon as it was moved, so that none is lost where a later one raises ``Cancelled`` or ``EngineError``. Returns a
    sentence for each host that still has the role because nobody can take it."""
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
        relays.append(Relay(group=name, primary=primary, to=to, document=switchover))
    return trouble


def handed_over(steps: Iterable[Step], ground: Ground, scope: Scope) -> tuple[Relay, ...]:
    """The roles that a process which died may have moved away, and that are to go back by what was signed."""
    found: list[Relay] = []
    for step in steps:
        name = gives_back(step)
        document = scope.estate.groups[name].switchover if name else None
        if document is None:
            continue
        seen = scope.engines.upkeep.cluster.members(cluster_of(name, document, ground, scope), scope.context)
        now = next((one.host for one in seen if one.part is Part.PRIMARY), "")
        if now != step.target:
            found.append(Relay(group=name, primary=step.target, to=now, document=document))
    return tuple(found)


def hand_back(relays: list[Relay], well: Sequence[str], ground: Ground, scope: Scope) -> dict[str, str]:
    """Give roles back where the document says so and the former holder is well; a sentence for each former holder that
    did not get it. Whatever is settled leaves ``relays``. Raises ``Cancelled``."""
    said: dict[str, str] = {}
    for relay in [one for one in relays if one.primary in well]:
        if not relay.document.back:
            tell_away([relay], scope)
        elif bad := _give_back(relay, ground, scope):
            said[relay.primary] = f"the primary of {group(relay.group)} stays on {relay.to}: {bad}"
        relays.remove(relay)
    return said


@contextmanager
def roles(scope: Scope) -> Iterator[list[Relay]]:
    """The roles that are moved away within the ``with``; those that are not back at its end are told, however it
    ends."""
    relays: list[Relay] = []
    try:
        yield relays
    finally:
        tell_away(relays, scope)


def tell_away(relays: Sequence[Relay], scope: Scope) -> None:
    """Tell which roles are not back: nobody moves them again once the work on their hosts is over."""
    for relay in relays:
        stays = f"it stays on {relay.to}: let {relay.document.variable} say so in Git"
        words = f"{relay.primary} has not got it back" if relay.document.back else stays
        scope.context.emit(StepReported(step=f"switchover {group(relay.group)}", detail=words))


def with_present_primary(name: str, ground: Ground, scope: Scope) -> Scope:
    """A scope in which a group's variables name the primary that its cluster has now, where the role stays where it
    went: a host that is as it should be must not fail for what Git has yet to follow. Otherwise the scope itself."""
    document = scope.estate.groups[name]
    switchover = document.switchover
    if switchover is None or switchover.back or switchover.variable not in document.variables:
        return scope
    seen = scope.engines.upkeep.cluster.members(cluster_of(name, switchover, ground, scope), scope.context)
    primary = next((one.host for one in seen if one.part is Part.PRIMARY), "")
    if not primary:
        return scope
    told = document.model_copy(update={"variables": {**document.variables, switchover.variable: primary}})
    return replace(scope, estate=replace(scope.estate, groups={**scope.estate.groups, name: told}))


def cluster_of(name: str, switchover: Switchover, ground: Ground, scope: Scope) -> Cluster:
    """The cluster on a group's hosts."""
    return Cluster(
        fleet=at_hand(scope, ground.fleet, ground.fleet.membership[name]),
        version=switchover.version,
        name=switchover.name,
        port=switchover.port,
        deadline=duration(switchover.deadline),
    )


def _give_back(relay: Relay, ground: Ground, scope: Scope) -> str:
    """Why a former holder did not get its role back; empty where it did."""
    cluster = cluster_of(relay.group, relay.document, ground, scope)
    try:
        done = scope.engines.upkeep.cluster.switchover(cluster, relay.primary, scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        return problem.summary
    return "" if done.ok else done.detail


def _successor(seen: Sequence[ClusterMember], without: Sequence[str]) -> str:
    """The standby that lags least of those that stream and are not worked on."""
    able = [one for one in seen if one.part is Part.STANDBY and one.streaming and one.host not in without]
    return min(able, key=lambda one: (one.lag_bytes, one.host)).host if able else ""
