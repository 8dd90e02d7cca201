"""Planning drills: which way the service would move, in which steps, and what stands against it. The cluster is looked
at, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta

from ismgr_automation.converge.drill_fault import fault_request, fault_steps, named_fault, steps_after
from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_isolated_plan import plan_isolated
from ismgr_automation.converge.drill_planned import Rehearsal, planned
from ismgr_automation.converge.drill_restore_plan import plan_restore
from ismgr_automation.converge.drill_told import goals_of
from ismgr_automation.converge.drill_verbs import Kit, fence_of, fence_request, giving_back
from ismgr_automation.converge.ground import Ground, whole_ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, recovery
from ismgr_automation.core.errors import EngineError, InputError
from ismgr_automation.core.json import Json
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import Step as DocumentStep
from ismgr_automation.estate.recovery import Fault, FenceWay
from ismgr_automation.planning.change import Action, Finding, Level, Step
from ismgr_automation.planning.plan import FAULT, URGENT, Plan
from ismgr_automation.ports.recovery import Sight
from ismgr_automation.ports.upkeep import ClusterMember, Part
from ismgr_automation.recovery.faults import Course, course_of
from ismgr_automation.recovery.past import past_of
from ismgr_automation.recovery.path import Leg, LegKind, Sides, budget, legs
from ismgr_automation.recovery.result import DrillResult, read_result

GIVE_BACK = "give-back"
"""The part of a return that lets the old primary serve again."""


def plan_drill(scope: Scope, now: datetime, name: str, mode: DrillMode, *, urgent: str = "", fault: str = "") -> Plan:
    """What a drill would do. ``urgent`` says why windows and freezes should not hold it up; ``fault`` names what is
    broken first.

    Raises ``InputError`` for a recovery plan or a fault that there is not, or whose sites do not have one member each.
    """
    if mode is DrillMode.ISOLATED:
        return plan_isolated(scope, now, name, urgent=urgent)
    if mode is DrillMode.RESTORE:
        return plan_restore(scope, now, name, urgent=urgent)
    ground = whole_ground(scope)
    field = field_of(scope, ground, name)
    breaks, hosts = _faulty(scope, ground, field, mode, fault)
    met = scope.engines.upkeep.cluster.members(field.cluster, scope.context)
    seen = _without_fenced(scope, ground, field, mode, met)
    against = list(_against(field, mode, seen))
    at_home = field.sides.new not in _primaries(seen)
    given = mode is DrillMode.RETURN and at_home and not against and _withheld(scope, ground, field, seen)
    if given and not any(one.host == field.sides.new and one.part is Part.STANDBY for one in seen):
        words = f"{field.sides.old} is kept from clients, and nobody can tell whether {field.sides.new} was promoted"
        against.append(_deny(field, words, "Bring its server up as what it was, and plan again."))
    wanted = legs(field.document, mode, field.sides, at_home=at_home)
    if breaks is not None and course_of(breaks) is Course.SURVIVED:
        wanted = ()  # nobody moves: the service goes on
    steps = (
        *([_given(field)] if given else ()),
        *(fault_steps(breaks, field, hosts) if breaks is not None else ()),
        *(step for leg in wanted for step in (*_steps(leg), *steps_after(leg, breaks, field, hosts))),
    )
    home = mode is DrillMode.RETURN and not against and not given and _is_home(field.sides, seen)
    rehearsal = Rehearsal(
        name=name,
        mode=mode,
        steps=steps,
        hosts=field.cluster.fleet.names,
        findings=(*against, *(() if home else _budgets(wanted, field, mode, scope))),
        said={URGENT: urgent, FAULT: fault},
        idle=home,
    )
    return planned(rehearsal, scope, ground, now)


def again(plan: Plan, scope: Scope, now: datetime) -> Plan:
    """A drill's plan composed anew."""
    fault = plan.inputs.policies.get(FAULT, "")
    return plan_drill(scope, now, name_of(plan), mode_of(plan), urgent=plan.urgent, fault=fault)


def name_of(plan: Plan) -> str:
    """The RecoveryPlan of a drill's plan, also where nothing is to be done."""
    (address,) = map(Address.parse, plan.inputs.content)
    return address.name


def mode_of(plan: Plan) -> DrillMode:
    """What kind of drill a plan is for."""
    return DrillMode(plan.mode)


def _faulty(
    scope: Scope, ground: Ground, field: Field, mode: DrillMode, name: str
) -> tuple[Fault | None, tuple[str, ...]]:
    """The fault, and the hosts that it is done on. Raises ``InputError``."""
    found = named_fault(field.document, mode, name)
    if found is None or course_of(found) is Course.CLIENT:
        return found, ()
    if scope.engines.recovery.faults is None:
        raise InputError("Nothing can be broken here.", next_step="Drill without a fault.")
    nowhere = Leg(name="failover", kind=LegKind.FAILOVER, sides=field.sides, tasks=())
    kit = Kit(scope=scope, ground=ground, field=field, leg=nowhere)
    return found, fault_request(found, kit, scope.context.run).hosts


def _steps(leg: Leg) -> Iterator[Step]:
    for task in leg.tasks:
        asked: Mapping[str, Json] = task.step.model_dump(mode="json", exclude={"name", "do", "needs"})
        yield Step(
            target=target_of(task.step, leg.sides),
            what=f"{leg.name}: {task.name}",
            action=Action.CONFIGURE,
            why=f"after {', '.join(sorted(task.needs))}" if task.needs else "",
            before=None,
            after={"do": task.step.do, **asked},
        )


def target_of(step: DocumentStep, sides: Sides) -> str:
    """Whom a step is done to: a host of the cluster, a group, or a name."""
    match step.do:
        case "fence" | "demote" | "unfence" | "rejoin":
            return sides.old
        case "promote":
            return sides.new
        case "haproxy" | "verify" | "play":
            return f"group/{step.group}"
        case "stack":
            return f"stack/{step.stack}"
        case "dns":
            return f"{step.record}.{step.zone}"
        case "function":
            return step.file


def _against(field: Field, mode: DrillMode, seen: Sequence[ClusterMember]) -> Iterator[Finding]:
    """What stands against beginning: the service must be at home, and somebody must follow it."""
    by_host = {one.host: one for one in seen}
    primaries = _primaries(seen)
    expected = field.sides.new if mode is DrillMode.RETURN else field.sides.old
    away = by_host.get(field.sides.new)
    if mode is DrillMode.RETURN and (primaries == [field.sides.old] or _orphaned(field.sides, by_host)):
        return
    if primaries != [expected]:
        words = f"{' and '.join(primaries) or 'nobody'} has the primary role, and not {expected} alone"
        step = "`ismgr drill return` brings the service home." if primaries == [field.sides.new] else ""
        yield _deny(field, words, step or "Look at the members of the cluster first.")
        return
    if mode is DrillMode.RETURN:
        return
    if away is None or away.part is not Part.STANDBY or not away.streaming:
        words = (away.detail or str(away.part)) if away is not None else "not seen"
        yield _deny(field, f"{field.sides.new} does not stream from {expected}: {words}", "Mend the replication.")
    elif away.lag_bytes > field.document.ready.lag:
        words = f"{field.sides.new} is {away.lag_bytes:,} bytes behind, and {field.document.ready.lag:,} are allowed"
        yield _deny(field, words, "Wait until it has caught up.")


def _without_fenced(
    scope: Scope, ground: Ground, field: Field, mode: DrillMode, seen: Sequence[ClusterMember]
) -> Sequence[ClusterMember]:
    """What was seen, with an old primary behind its fence as down: clients find one primary only."""
    sides = field.sides
    if mode is not DrillMode.RETURN or _primaries(seen) != sorted([sides.old, sides.new]):
        return seen
    (leg, *_) = legs(field.document, DrillMode.FAILOVER, sides)
    kit = Kit(scope=scope, ground=ground, field=field, leg=leg)
    request = fence_request(fence_of(field.document), kit)
    with closing(scope.engines.recovery.fences.fence(request, scope.context)) as fence:
        if fence.stage().sight is not Sight.DONE:
            return seen
    return [replace(one, part=Part.DOWN, streaming=False) if one.host == sides.old else one for one in seen]


def _orphaned(sides: Sides, by_host: Mapping[str, ClusterMember]) -> bool:
    """Whether the standby waits for a primary that is away, and that may be given its role back."""
    home, away = by_host.get(sides.old), by_host.get(sides.new)
    return home is not None and home.part is not Part.STANDBY and away is not None and away.part is Part.STANDBY


def _primaries(seen: Sequence[ClusterMember]) -> list[str]:
    return sorted(one.host for one in seen if one.part is Part.PRIMARY)


def _withheld(scope: Scope, ground: Ground, field: Field, seen: Sequence[ClusterMember]) -> bool:
    """Whether the service is kept from clients at home, after a move that broke off before anybody was promoted: nobody
    has the role, or the one who has it is still behind its fence."""
    if not _primaries(seen):
        return True
    if fence_of(field.document).way is not FenceWay.NETWORK:
        return False
    (leg, *_) = legs(field.document, DrillMode.FAILOVER, field.sides)
    with closing(giving_back(Kit(scope=scope, ground=ground, field=field, leg=leg))) as lift:
        return lift.stage().sight is Sight.NOT_DONE


def _given(field: Field) -> Step:
    home = field.sides.old
    return Step(
        target=home,
        what=f"{GIVE_BACK}: {home}",
        action=Action.CONFIGURE,
        why="nobody else was promoted",
        before=None,
        after={"do": "reinstate"},
    )


def _is_home(sides: Sides, seen: Sequence[ClusterMember]) -> bool:
    """Whether there is nothing to bring back: the role is at home, and the other side streams from there."""
    parts = {one.host: one for one in seen}
    home, away = parts.get(sides.old), parts.get(sides.new)
    return home is not None and home.part is Part.PRIMARY and away is not None and away.streaming


def _deny(field: Field, summary: str, next_step: str) -> Finding:
    subject = recovery(field.document.name)
    return Finding(level=Level.DENY, subject=subject, summary=summary, next_step=next_step, refuses=True)


def _budgets(wanted: Sequence[Leg], field: Field, mode: DrillMode, scope: Scope) -> Iterator[Finding]:
    """How long clients may wait in each move, by the deadlines of its steps, and how long they would by what earlier
    drills measured."""
    subject, rto = recovery(field.document.name), goals_of(field.document, mode, scope).rto
    results = _results(field, scope)
    for leg in wanted:
        if not leg.kind.hot:
            continue
        past = past_of(leg, results)
        found = budget(leg, past.takes if past is not None else {})
        words = f"{leg.name}: clients wait {_seconds(found.at_most)} at most ({' → '.join(found.chain)})"
        if found.kept:
            words += f", {_seconds(found.kept)} of it while they keep the old address of a name"
        if found.measured is not None:
            words += f"; its steps took {found.measured / timedelta(milliseconds=1):.0f} ms (median of {past})"
        yield Finding(level=Level.ADVISE, subject=subject, summary=words)
        if found.measured is not None and rto is not None and found.measured.total_seconds() > rto:
            words = f"{leg.name} would miss the RTO of {rto:g} s: its steps alone took more ({past})"
            yield Finding(level=Level.WARN, subject=subject, summary=words)


def _results(field: Field, scope: Scope) -> tuple[DrillResult, ...]:
    """Earlier drills of this plan, as far as they can be read: what was measured is no reason not to plan."""
    try:
        kept = scope.engines.recovery.results.results(field.document.name)
    except EngineError:
        return ()
    found = []
    for one in kept:
        with suppress(ValueError):
            found.append(read_result(one))
    return tuple(found)


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"
