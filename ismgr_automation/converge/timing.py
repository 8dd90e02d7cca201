"""Whether now is the time: windows and freezes before a plan is applied, and before each of its waves. Looks only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind, baseline
from ismgr_automation.core.errors import OutsideWindow
from ismgr_automation.estate.drill_mode import DrillMode, windows_of
from ismgr_automation.estate.maintenance import PatchBaseline
from ismgr_automation.estate.maintenance import Scope as Kinds
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.steps import ring_name
from ismgr_automation.planning.change import Change, Finding, Level
from ismgr_automation.planning.firmware import is_firmware, wanted_of
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.forecast import Estimate
from ismgr_automation.planning.plan import MODE, PATCHING, Plan, Purpose
from ismgr_automation.planning.timing import Clearance, Work, clearance, estimate, refused
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
        return replace(drill_work(document, mode, hosts), urgent=bool(plan.urgent))
    if plan.purpose not in PATCHING:
        return Work(scope=Kinds.APPLY, hosts=hosts, urgent=bool(plan.urgent))
    return Work(
        scope=Kinds.PATCH,
        hosts=hosts,
        windows=baseline_of(change, scope).windows,
        needs=needed(change, scope).span,
        urgent=bool(plan.urgent),
    )


def drill_work(document: RecoveryPlan, mode: DrillMode, hosts: Sequence[Host]) -> Work:
    """A drill on these hosts, as windows and freezes are asked about it: by whoever begins it, and by the calendar."""
    return Work(scope=Kinds.DRILL, hosts=hosts, windows=windows_of(document, mode), needs=at_most(document, mode))


def needed(change: Change, scope: Scope) -> Estimate:
    """How long to keep free for a change of packages or firmware: what past runs took on the slowest of its hosts, for
    they are patched together. Of firmware nothing is remembered: its deadline counts, for each component."""
    unknown = duration(baseline_of(change, scope).deadline)
    if change.address.kind is Kind.MACHINE:
        count = sum(is_firmware([one]) for one in change.steps)
        each = f" of each of {count}" if count > 1 else ""
        return Estimate(span=unknown * count, source=f"no history of firmware is kept: the deadline{each}")
    names = [target.name for target in change.targets]
    records = scope.engines.upkeep.records
    found = {name: estimate(records.durations(name), unknown=unknown) for name in names}
    slowest = max(found, key=lambda name: found[name].span, default="")
    if not slowest or len(set(found.values())) == 1:
        return found.get(slowest, Estimate(span=unknown, source="the deadline"))
    return replace(found[slowest], source=f"{found[slowest].source}, as on {slowest}")


def baseline_of(change: Change, scope: Scope) -> PatchBaseline:
    """The baseline that asks for a change of packages or firmware."""
    return scope.estate.baselines[asked_by(change).name]


def asked_by(change: Change) -> Address:
    """The document whose batches a change is one of: its own address; for firmware, the baseline that asks for it."""
    if change.address.kind is not Kind.MACHINE:
        return change.address
    return baseline(next(wanted_of(one).baseline for one in change.steps if is_firmware([one])))


def ring_soak(change: Change, before: Sequence[Change], scope: Scope) -> timedelta:
    """How long the ring before a change must have been well; nothing inside of one ring."""
    earlier = [one for one in before if one.batch < change.batch]
    if not earlier:
        return timedelta()
    last = ring_name(max(earlier, key=lambda one: one.batch).steps)
    if last == ring_name(change.steps):
        return timedelta()
    rings = baseline_of(change, scope).rings
    return next((duration(one.soak) for one in rings if one.name == last), timedelta())
