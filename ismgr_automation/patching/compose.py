"""From what was seen of hosts to a plan that patches them: which moves, in which rings and waves, and what goes with
them. Pure; the same observation always gives the same digest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.core.address import Address, Kind, baseline, group, host
from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.estate.maintenance import PatchBaseline, RebootPolicy
from ismgr_automation.patching.rings import Phase, Roles
from ismgr_automation.patching.steps import snapshot_step, switchover_step
from ismgr_automation.planning.change import Action, Certainty, Change, Finding, Level, Reason, Step
from ismgr_automation.planning.compose import names_of
from ismgr_automation.planning.graph import levels
from ismgr_automation.planning.plan import Beside, Inputs, Plan, Purpose
from ismgr_automation.planning.waves import Guard, Sick, apart, obstacle, shards


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSight:
    """One baseline: what its hosts would get. ``moves`` and ``firmware`` are the steps of each host that has some,
    ``phases`` the order of all of its hosts."""

    document: PatchBaseline
    inputs: str
    """Digest of all that Git says about it."""
    moves: Mapping[str, tuple[Step, ...]]
    phases: tuple[Phase, ...]
    firmware: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    machines: Mapping[str, str] = field(default_factory=dict)
    """The machine of each host with firmware steps."""
    clusters: tuple[Roles, ...] = ()
    """Who has the primary role where, as far as it was seen."""
    snapshots: frozenset[str] = frozenset()
    """Hosts whose disk is kept while their packages move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that was seen for one plan of patches."""

    baselines: tuple[BaselineSight, ...]
    inputs: Inputs
    groups: Mapping[str, HostGroup]
    membership: Mapping[str, Collection[str]]
    findings: tuple[Finding, ...] = ()
    guards: tuple[Guard, ...] = ()
    sick: Mapping[str, Sick] = field(default_factory=dict)


def compose_patches(seen: Seen, *, estate: str, environment: str, purpose: Purpose, beside: Beside) -> Plan:
    """Compose the plan of an observation. ``purpose`` is ``PATCH``, or ``ROLLBACK`` for moves back."""
    changes: list[Change] = []
    edges: dict[str, list[str]] = {}
    for sight in seen.baselines:
        before: list[str] = []
        for batch in _batches(sight, seen, purpose):
            edges |= {one.key: list(before) for one in batch}
            before += [one.key for one in batch]
            changes += batch
    findings = (*seen.findings, *_obstacles(seen))
    errored = any(one.level is Level.DENY for one in findings)
    return Plan(
        estate=estate,
        environment=environment,
        purpose=purpose,
        inputs=seen.inputs,
        changes=tuple(changes),
        waves=apart(levels(edges), names_of(changes), (*seen.guards, *_one_by_one(seen)), seen.sick),
        deferred=(),
        drift=(),
        findings=findings,
        complete=not errored,
        errored=errored,
        beside=beside,
    )


def _batches(sight: BaselineSight, seen: Seen, purpose: Purpose) -> Iterator[list[Change]]:
    """What may run together, in order: packages ring by ring, then firmware in the same order of hosts."""
    number, part = 0, 0
    for names, sizes in _cuts(sight, sight.moves):
        for batch in _grouped(names, sizes, seen):
            number += 1
            found = []
            for shard in batch:
                part += 1
                found.append(_packages(sight, shard, (part, number), seen, purpose))
            yield found
    for names, sizes in _cuts(sight, sight.firmware):
        for batch in _grouped(names, sizes, seen):
            number += 1
            yield [_firmware(sight, name, number, seen) for shard in batch for name in shard]


def _cuts(sight: BaselineSight, steps: Mapping[str, object]) -> Iterator[tuple[list[str], tuple[int | str, ...]]]:
    """The hosts of each phase that have something to do: a canary must be a host that is worked on."""
    for phase in sight.phases:
        names = [name for name in phase.hosts if name in steps]
        if names:
            yield names, phase.sizes


def _grouped(names: Sequence[str], sizes: Sequence[int | str], seen: Seen) -> Iterator[list[tuple[str, ...]]]:
    batches: dict[int, list[tuple[str, ...]]] = {}
    for shard in shards(names, sizes, seen.guards, seen.sick):
        batches.setdefault(shard.batch, []).append(shard.names)
    for number in sorted(batches):
        yield from _parted(batches[number], seen)


def _parted(batch: Sequence[tuple[str, ...]], seen: Seen) -> Iterator[list[tuple[str, ...]]]:
    """Balancers after the hosts that are drained at them: whoever checks a balancer must find it whole."""
    names = {name for shard in batch for name in shard}
    drains = [
        one.drain.group for key, one in seen.groups.items() if one.drain and names & set(seen.membership.get(key, ()))
    ]
    balancers = names & {name for group in drains for name in seen.membership.get(group, ())}
    parts = (
        [kept for shard in batch if (kept := tuple(name for name in shard if (name in balancers) is late))]
        for late in (False, True)
    )
    yield from (part for part in parts if part)


def _packages(
    sight: BaselineSight, names: tuple[str, ...], place: tuple[int, int], seen: Seen, purpose: Purpose
) -> Change:
    part, batch = place
    return Change(
        address=baseline(sight.document.name),
        part=part,
        batch=batch,
        action=Action.UPDATE,
        reason=Reason.ASKED if purpose is Purpose.ROLLBACK else Reason.DUE,
        steps=tuple(step for name in names for step in (*sight.moves[name], *_besides(sight, name, seen))),
        targets=tuple(map(host, names)),
        inputs=sight.inputs,
    )


def _firmware(sight: BaselineSight, name: str, batch: int, seen: Seen) -> Change:
    return Change(
        address=Address(Kind.MACHINE, sight.machines[name]),
        part=0,
        batch=batch,
        action=Action.UPDATE,
        reason=Reason.DUE,
        steps=(*sight.firmware[name], *_service(sight, name, seen)),
        targets=(host(name),),
        inputs=sight.inputs,
    )


def _besides(sight: BaselineSight, name: str, seen: Seen) -> Iterator[Step]:
    """What goes with the packages of a host: out of service, a snapshot, a restart, back."""
    yield from _service(sight, name, seen)
    if name in sight.snapshots:
        yield snapshot_step(name)
    match sight.document.reboot.policy:
        case RebootPolicy.ALWAYS:
            yield Step(target=name, what="reboot", action=Action.CONFIGURE)
        case RebootPolicy.IF_NEEDED:
            why = "whether it is needed is known once the packages are there"
            unsure = Certainty.UNPREDICTABLE
            yield Step(target=name, what="reboot", action=Action.CONFIGURE, certainty=unsure, why=why)
        case RebootPolicy.NEVER:
            pass


def _service(sight: BaselineSight, name: str, seen: Seen) -> Iterator[Step]:
    primaries = {one.group: one.primary for one in sight.clusters}
    for key in sorted(seen.groups):
        document = seen.groups[key]
        if name not in seen.membership.get(key, ()):
            continue
        if document.drain is not None:
            where = f"{document.drain.balancer} of group/{document.drain.group}, backend {document.drain.backend}"
            yield Step(target=name, what="drain and restore", action=Action.CONFIGURE, where=where)
        if document.switchover is not None:
            yield switchover_step(name, key, document.switchover, primaries.get(key) == name)


def _one_by_one(seen: Seen) -> Iterator[Guard]:
    """Clusters whose role moves, whatever their groups promise: baselines know nothing of each other, and a role must
    not move to a member that another change takes down meanwhile."""
    for name, document in sorted(seen.groups.items()):
        who = frozenset(seen.membership.get(name, ()))
        if document.switchover is not None and who:
            yield Guard(group=group(name), members=who, floor=len(who) - 1)


def _obstacles(seen: Seen) -> Iterable[Finding]:
    """Hosts that cannot be worked on without breaking what a host group promises: never, which is a slip of the pen; or
    as long as others are away, and then they are left out, as those are."""
    for sight in seen.baselines:
        subject, names = baseline(sight.document.name), {*sight.moves, *sight.firmware}
        never = obstacle(names, seen.guards, {})
        if never is not None:
            summary, step = never.summary, never.next_step
            yield Finding(level=Level.DENY, subject=subject, summary=summary, next_step=step, refuses=True)
            continue
        wrong = obstacle(names, seen.guards, seen.sick)
        if wrong is not None:
            summary = f"left out: {', '.join(wrong.hosts)}; {wrong.summary}"
            yield Finding(level=Level.WARN, subject=subject, summary=summary, next_step=wrong.next_step)
