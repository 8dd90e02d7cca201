"""Whether now is the time: windows and freezes before a plan is applied, and before each of its waves. Looks only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import OutsideWindow
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.maintenance import PatchBaseline
from ismgr_automation.estate.maintenance import Scope as Kinds
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.steps import ring_name
from ismgr_automation.planning.change import Change, Finding, Level
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.plan import MODE, PATCHING, Plan, Purpose
from ismgr_automation.planning.timing import Clearance, Work, clearance, refused, reserve
from ismgr_automation.ports.hosts import Host
from ismgr_automation.recovery.path import at_most

_NOT_NOW, _PASSED = "now is not the time: ", "overridden: "


def told_of_time(plan: Plan, scope: Scope, fleet: Fleet, now: datetime) -> Plan:
    """The plan with what windows and freezes would say to it now, each rule once. It may be applied at another time, so
    nothing of it is against the plan; what was said of an earlier moment is forgotten."""
    said: dict[Address, Finding] = {}
    for clear in _clearances(plan.changes, plan, scope, fleet, now):
        for one in clear.obstacles:
            said.setdefault(one.rule, Finding(level=Level.ADVISE, subject=one.rule, summary=f"{_NOT_NOW}{one.summary}"))
        for one in clear.overridden:
            said.setdefault(one.rule, Finding(level=Level.WARN, subject=one.rule, summary=f"{_PASSED}{one.summary}"))
    before = [one for one in plan.findings if not one.summary.startswith((_NOT_NOW, _PASSED))]
    return replace(plan, findings=(*before, *said.values()))


def refuse_outside(plan: Plan, scope: Scope, fleet: Fleet, now: datetime) -> None:
    """Raise ``OutsideWindow`` naming the rules that are against beginning the first wave now."""
    first = [plan.change(key) for key in plan.waves[0]] if plan.waves else []
    why = closed(first, plan, scope, fleet, now)
    if why is not None:
        raise why


def closed(changes: Sequence[Change], plan: Plan, scope: Scope, fleet: Fleet, now: datetime) -> OutsideWindow | None:
    """Why these changes may not begin together now, or None."""
    found = _clearances(changes, plan, scope, fleet, now)
    against = tuple(dict.fromkeys(one for clear in found for one in clear.obstacles))
    return refused(Clearance(obstacles=against)) if against else None


def _clearances(
    changes: Iterable[Change], plan: Plan, scope: Scope, fleet: Fleet, now: datetime
) -> tuple[Clearance, ...]:
    if not scope.estate.windows and not scope.estate.freezes:
        return ()
    calendar = scope.engines.upkeep.timetable(now)
    return tuple(clearance(_work(one, plan, scope, fleet), calendar, now) for one in changes)


def _work(change: Change, plan: Plan, scope: Scope, fleet: Fleet) -> Work:
    names = {target.name for target in change.targets}
    hosts: list[Host] = [one for one in fleet.hosts if one.name in names]
    if plan.purpose is Purpose.DRILL:
        document = scope.estate.recoveries[change.address.name]
        mode = DrillMode(plan.inputs.policies[MODE])
        return Work(
            scope=Kinds.DRILL,
            hosts=hosts,
            windows=document.windows,
            needs=at_most(document, mode),
            urgent=bool(plan.urgent),
        )
    if plan.purpose not in PATCHING:
        return Work(scope=Kinds.APPLY, hosts=hosts, urgent=bool(plan.urgent))
    baseline = baseline_of(change, scope)
    return Work(
        scope=Kinds.PATCH,
        hosts=hosts,
        windows=baseline.windows,
        needs=needed(names, baseline, scope),
        urgent=bool(plan.urgent),
    )


def needed(names: Iterable[str], document: PatchBaseline, scope: Scope) -> timedelta:
    """How long to keep free for these hosts: what past runs took on the slowest of them. They are patched together."""
    unknown = duration(document.deadline)
    records = scope.engines.upkeep.records
    return max((reserve(records.durations(name), unknown=unknown) for name in names), default=unknown)


def baseline_of(change: Change, scope: Scope) -> PatchBaseline:
    """The baseline that asks for a change of packages or firmware."""
    if change.address.kind is Kind.BASELINE:
        return scope.estate.baselines[change.address.name]
    from ismgr_automation.planning.firmware import wanted_of

    return scope.estate.baselines[wanted_of(change.steps[0]).baseline]


def ring_soak(change: Change, before: Sequence[Change], scope: Scope) -> timedelta:
    """How long the ring before a change must have been well; nothing inside of one ring."""
    earlier = [one for one in before if one.batch < change.batch]
    if not earlier:
        return timedelta()
    last = ring_name(max(earlier, key=lambda one: one.batch).steps)
    if last == ring_name(change.steps):
        return timedelta()
    rings = scope.estate.baselines[change.address.name].rings
    return next((duration(one.soak) for one in rings if one.name == last), timedelta())
