"""Planning patches, and the way back: hosts are read and apt is asked what it would do; nothing is changed there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from ismgr_automation.converge.foretell import foretold
from ismgr_automation.converge.ground import Ground, whole_ground
from ismgr_automation.converge.machines import access, machine_of, without_machine
from ismgr_automation.converge.plan import announce, beside
from ismgr_automation.converge.promises import promises
from ismgr_automation.converge.requests import baseline_content, policies_content
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import cluster_of
from ismgr_automation.converge.timing import told_of_time
from ismgr_automation.converge.trial import Trial, tried
from ismgr_automation.converge.upkeep import Judged, Reading, judge, members, read_hosts
from ismgr_automation.converge.way_back import reversed_moves
from ismgr_automation.core.address import Kind, baseline, host
from ismgr_automation.core.errors import Cancelled, EngineError, EstateError, InputError
from ismgr_automation.estate.selector import Selector
from ismgr_automation.patching.compose import BaselineSight, Seen, compose_patches
from ismgr_automation.patching.rings import Roles, phases, roles
from ismgr_automation.patching.snapshots import kept_whole
from ismgr_automation.patching.steps import MOVING, step_of_move, steps
from ismgr_automation.planning.change import Finding, Level, Step
from ismgr_automation.planning.firmware import firmware_steps, in_ring, is_firmware
from ismgr_automation.planning.plan import ABSENT, DAY, PATCHING, UNDOES, URGENT, Inputs, Plan, Purpose
from ismgr_automation.planning.waves import Sick
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import HostFacts
from ismgr_automation.ports.patching import Patched
from ismgr_automation.ports.upkeep import Part

_EVERY_HOST = 1_000_000
"""More than one run can have worked on."""


def plan_patch(scope: Scope, now: datetime, *, urgent: str = "", like: Plan | None = None) -> Plan:
    """What would be patched. ``urgent`` says why windows and freezes should not hold it up.

    ``like`` is a plan that is about to be applied: it is composed again for the day and the hosts that were signed.
    Hosts of it that cannot be reached any more are taken as they were planned: their turn tells. Raises ``EstateError``
    for hosts that could not be restarted as their baseline says.
    """
    ground = whole_ground(scope)
    day = date.fromisoformat(like.day) if like is not None else now.astimezone(UTC).date()
    mine = _members(scope, ground)
    absent = like.absent if like is not None else ()
    names = [one.name for hosts in mine.values() for one in hosts if one.name not in absent]
    reading = read_hosts(scope, ground.fleet, names, now)
    judged, findings = judge(scope, ground.fleet, mine, reading, day)
    planned = _planned(like)
    lost = () if like is not None else tuple(sorted(reading.lost))
    found: list[Finding] = [*findings, *_away(reading)]
    away = frozenset({*absent, *lost})
    look = _Look(
        scope=scope,
        ground=ground,
        now=now,
        day=day,
        planned=planned,
        away=away,
        findings=found,
        facts=reading.facts,
        again=like is not None,
    )
    sights = [_sight(one, look) for one in judged]
    policies = {DAY: day.isoformat(), URGENT: like.urgent if like is not None else urgent}
    policies[ABSENT] = " ".join(like.absent if like is not None else lost)
    return _composed(sights, look, Purpose.PATCH, policies, now)


def plan_rollback(scope: Scope, now: datetime, run: str, *, urgent: str = "") -> Plan:
    """The way back from what a run installed, on the hosts that the selection takes. Raises ``InputError`` for a run
    that patched nothing here, ``EstateError`` as ``plan_patch``."""
    ground = whole_ground(scope)
    mine = _members(scope, ground)
    why = f"back to what was there before {run}"
    undone = _to_undo(scope, run)
    done = {
        one.host: tuple(sorted((step_of_move(one.host, move, why) for move in back), key=lambda step: step.what))
        for one in undone
        if (back := reversed_moves(one.moves))
    }
    chosen = {one.name for hosts in mine.values() for one in hosts} & set(done)
    clusters = _clusters(scope, ground, chosen)
    sights = [
        BaselineSight(
            document=scope.estate.baselines[name],
            inputs=baseline_content(scope, name),
            moves={one.name: done[one.name] for one in hosts if one.name in done},
            phases=phases(scope.estate.baselines[name], hosts, clusters),
            clusters=clusters,
        )
        for name, hosts in mine.items()
    ]
    policies = {DAY: now.astimezone(UTC).date().isoformat(), URGENT: urgent, UNDOES: run}
    staying = list(_staying([one for one in undone if one.host in chosen], run))
    look = _Look(scope=scope, ground=ground, now=now, day=now.astimezone(UTC).date(), findings=staying)
    return _composed(sights, look, Purpose.ROLLBACK, policies, now)


def _to_undo(scope: Scope, run: str) -> list[Patched]:
    records = scope.engines.upkeep.records
    made = records.patched(limit=_EVERY_HOST, run=run)
    left = [one for one in made if not one.rolled_back]
    if left:
        return left
    by = ", ".join(sorted({one.rolled_back for one in made}))
    raise InputError(
        f"Run {run} was rolled back already, by {by}." if made else f"Run {run} installed no packages here.",
        next_step="`ismgr patch history` lists what runs installed.",
    )


def _staying(undone: Iterable[Patched], run: str) -> Iterator[Finding]:
    """New packages that the way back leaves where they are."""
    for one in sorted(undone, key=lambda one: one.host):
        for move in one.moves:
            if not move.before:
                words = f"{move.name} {move.after} stays on {one.host}: it was not there before {run}"
                summary = f"{words}, and what came with it may need it"
                yield Finding(level=Level.ADVISE, subject=host(one.host), summary=summary)


def again(planned: Plan, scope: Scope, now: datetime) -> Plan:
    """A plan of patches composed anew, for the same day and the same hosts."""
    if planned.purpose is Purpose.ROLLBACK:
        found = plan_rollback(scope, now, planned.undoes, urgent=planned.urgent)
        # the day of a rollback decides nothing
        inputs = found.inputs
        return _with_policies(found, {**inputs.policies, DAY: planned.day})
    return plan_patch(scope, now, like=planned)


def packages_moved(planned: Plan, now: Plan) -> Iterator[str]:
    """Which packages and components would move otherwise now than was signed, and what hosts say to that; a line each.
    Nothing for plans of other kinds."""
    if planned.purpose not in PATCHING:
        return
    before, after = _asked_for(planned), _asked_for(now)
    for name, what in sorted({*before, *after}):
        old, new = before.get((name, what), "nothing"), after.get((name, what), "nothing")
        if old != new:
            yield f"{what} on {name}: {old} was signed, and now {new}"
    known = {one.summary for one in planned.findings}
    yield from (one.summary for one in now.findings if one.subject.kind is Kind.HOST and one.summary not in known)


def _asked_for(plan: Plan) -> dict[tuple[str, str], str]:
    """From and to of each package or component of each host, in words."""
    found: dict[tuple[str, str], str] = {}
    for step in (step for change in plan.changes for step in change.steps):
        if step.action in MOVING and isinstance(step.before, Mapping) and isinstance(step.after, Mapping):
            digest = f" ({step.after['digest']})" if step.after.get("digest") else ""
            before = f"{old} to" if (old := step.before.get("version")) else "new at"
            found[step.target, step.what] = f"{before} {step.after.get('version')}{digest}"
    return found


def _with_policies(plan: Plan, policies: Mapping[str, str]) -> Plan:
    return replace(plan, inputs=replace(plan.inputs, policies=policies))


def _members(scope: Scope, ground: Ground) -> Mapping[str, tuple[Host, ...]]:
    """The hosts of each baseline, each of which can be restarted as that says."""
    mine = members(scope, ground.fleet)
    wrong = without_machine(scope, mine)
    if wrong:
        raise EstateError("Not every host can be restarted as its baseline says.", diagnostics=wrong)
    return mine


def _planned(like: Plan | None) -> Mapping[str, tuple[Step, ...]]:
    """The signed steps of each host, packages and firmware alike."""
    found: dict[str, list[Step]] = {}
    for change in like.changes if like is not None else ():
        for step in change.steps:
            if step.action in MOVING:
                found.setdefault(step.target, []).append(step)
    return {name: tuple(listed) for name, listed in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look at the hosts of all baselines. ``planned`` are the signed steps by host, ``away`` who is left out."""

    scope: Scope
    ground: Ground
    now: datetime
    day: date
    planned: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    away: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)
    facts: Mapping[str, HostFacts] = field(default_factory=dict)
    """What was read of hosts by now."""
    again: bool = False
    """Whether a plan is compared with what it says, and nobody reads what is foretold."""


def _sight(judged: Judged, look: _Look) -> BaselineSight:
    document = judged.document
    hosts = [one for one in judged.hosts if one.name not in look.away]
    firmware = _firmware(judged, hosts, look)
    due = {one.host for one in judged.updates if one.decision.target} - look.away
    unread = {one.name for one in hosts if one.name not in judged.read} & set(look.planned)
    clusters = _clusters(look.scope, look.ground, {*due, *unread, *firmware})
    order = phases(document, hosts, clusters)
    # a primary that waits for its standbys belongs to the ring that it is patched with
    rings = {name: phase.ring for phase in order for name in phase.hosts}
    found: dict[str, list[Step]] = {name: [] for name in sorted({*due, *unread})}
    for step in steps(judged.updates, rings):
        if step.target in due:
            found[step.target].append(step)
    for name in unread:
        found[name] = [step for step in look.planned[name] if not is_firmware([step])]
    trial = Trial(scope=look.scope, fleet=look.ground.fleet, judged=judged, day=look.day, now=look.now)
    kept, said = tried(trial, {name: tuple(listed) for name, listed in found.items() if listed})
    look.findings.extend(said)
    return BaselineSight(
        document=document,
        inputs=baseline_content(look.scope, document.name),
        moves=kept,
        phases=order,
        clusters=clusters,
        firmware={name: in_ring(listed, rings[name]) for name, listed in firmware.items()},
        machines={
            one.name: known[0] for one in hosts if one.name in firmware and (known := machine_of(look.scope, one))
        },
        snapshots=kept_whole(document, hosts, look.scope.estate.groups, look.ground.fleet.membership),
    )


def _firmware(judged: Judged, hosts: Sequence[Host], look: _Look) -> dict[str, tuple[Step, ...]]:
    scope, document = look.scope, judged.document
    selected = [(one, Selector.compile(one.selector)) for one in document.firmware]
    found: dict[str, tuple[Step, ...]] = {}
    for one in hosts:
        wanted = [firmware for firmware, select in selected if select.matches(one)]
        bmc = access(scope, look.ground, one.name) if wanted else None
        if bmc is None:
            continue
        try:
            inventory = scope.engines.upkeep.machines.inventory(bmc, scope.context)
        except Cancelled:
            raise
        except EngineError as problem:
            words = f"the firmware of {one.name} cannot be read: {problem.summary}"
            look.findings.append(
                Finding(level=Level.WARN, subject=host(one.name), summary=words, next_step=problem.next_step)
            )
            continue
        listed, wrong = firmware_steps(one.name, document.name, wanted, inventory)
        look.findings.extend(Finding(level=Level.WARN, subject=host(one.name), summary=words) for words in wrong)
        if listed:
            found[one.name] = listed
    return found


def _clusters(scope: Scope, ground: Ground, worked_on: Collection[str]) -> tuple[Roles, ...]:
    """The clusters of the estate, with who has the primary role of each that is touched, as far as it can be seen."""
    found: dict[str, str] = {}
    for name, document in sorted(scope.estate.groups.items()):
        touched = set(ground.fleet.membership.get(name, ())) & set(worked_on)
        if document.switchover is None or not touched:
            continue
        cluster = cluster_of(name, document.switchover, ground, scope)
        seen = scope.engines.upkeep.cluster.members(cluster, scope.context)
        found[name] = next((one.host for one in seen if one.part is Part.PRIMARY), "")
    return roles(scope.estate.groups, ground.fleet.membership, found)


def _away(reading: Reading) -> Iterable[Finding]:
    for name, one in sorted(reading.lost.items()):
        yield Finding(
            level=Level.WARN,
            subject=host(name),
            summary=f"{name} could not be read ({': '.join(filter(None, [one.reach, one.detail]))}); it is left out, "
            "and waits for its turn",
            next_step="`ismgr patch queue` lists who waits; what is overdue there counts as overdue.",
        )


def _composed(
    sights: Sequence[BaselineSight], look: _Look, purpose: Purpose, policies: Mapping[str, str], now: datetime
) -> Plan:
    scope, fleet = look.scope, look.ground.fleet
    seen = Seen(
        baselines=tuple(sights),
        inputs=Inputs(
            documents=scope.documents,
            content={str(baseline(one.document.name)): one.inputs for one in sights},
            inventory=fleet.digest,
            states={},
            engines={},
            selection=scope.selection.texts(),
            policies={**policies_content(scope), **{key: text for key, text in policies.items() if text}},
        ),
        groups=scope.estate.groups,
        membership=fleet.membership,
        findings=tuple(look.findings),
        guards=promises(scope, fleet),
        sick=dict.fromkeys(policies.get(ABSENT, "").split(), Sick.UNREACHABLE),
    )
    composed = compose_patches(
        seen,
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        purpose=purpose,
        beside=beside(scope, now),
    )
    composed = told_of_time(composed, scope, fleet, now)
    if not look.again:
        composed = foretold(composed, look.facts, scope)
    announce(scope, composed)
    return composed
