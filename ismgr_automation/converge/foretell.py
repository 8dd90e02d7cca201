"""What a plan of patches is expected to cost its hosts: time, restarts, services. Told to those who read the plan; what
counts is measured when it is applied. Looks only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.timing import asked_by, baseline_of, needed, ring_soak
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.patching.reboots import Expected, expected
from ismgr_automation.patching.steps import moves
from ismgr_automation.planning.change import Change
from ismgr_automation.planning.forecast import Forecast, HostForecast
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.packages import HostFacts, Need

_FIRMWARE = Expected(
    reboot=Need.UNKNOWN, why=("its BMC tells that when it has the firmware",), then="reset where it asks for that"
)
"""A machine is reset for its firmware whatever the baseline says about packages."""


def foretold(plan: Plan, facts: Mapping[str, HostFacts], scope: Scope) -> Plan:
    """The plan with what is expected of each change beside its digest. ``facts`` are readings by host; of a host that
    is not among them the last one that was kept counts."""
    names = {target.name for change in plan.changes for target in change.targets} - set(facts)
    known = {**(scope.engines.upkeep.records.facts(sorted(names)) if names else {}), **facts}
    batches: dict[Address, dict[int, Change]] = {}
    for one in plan.changes:
        # those of one batch are in one ring
        batches.setdefault(asked_by(one), {})[one.batch] = one
    forecasts = {
        one.key: Forecast(
            takes=needed(one, scope),
            soak=_soak(one, batches[asked_by(one)], scope),
            hosts=tuple(_hosts(one, known, scope)),
        )
        for one in plan.changes
    }
    return replace(plan, beside=replace(plan.beside, forecasts=forecasts))


def _soak(change: Change, batches: Mapping[int, Change], scope: Scope) -> timedelta:
    last = max((number for number in batches if number < change.batch), default=None)
    return ring_soak(change, [batches[last]], scope) if last is not None else timedelta()


def _hosts(change: Change, facts: Mapping[str, HostFacts], scope: Scope) -> Iterator[HostForecast]:
    is_packages = change.address.kind is Kind.BASELINE
    asked = moves(change.steps) if is_packages else {}
    policy = baseline_of(change, scope).reboot.policy
    for target in change.targets:
        name = target.name
        found = expected(policy, facts.get(name), asked.get(name, ())) if is_packages else _FIRMWARE
        yield HostForecast(host=name, reboot=found.reboot, why=found.why, services=found.services, then=found.then)
