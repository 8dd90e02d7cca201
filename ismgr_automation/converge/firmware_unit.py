"""The firmware of one machine, brought to the planned versions: out of service, read, compared, changed, read again,
the host awaited and verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ismgr_automation.converge.fleet import await_hosts, unreachable
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.machines import access
from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import (
    hand_back,
    hand_over,
    handed_over,
    out_of_service,
    put_back,
    roles,
    with_present_primary,
)
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Change, Step
from ismgr_automation.planning.firmware import is_firmware, wanted_of
from ismgr_automation.ports.upkeep import BmcAccess, FirmwareUpdate
from ismgr_automation.ports.verification import CheckResult


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareWork:
    """What is asked of one machine. ``again``: somebody began it and died; who reads before acting does no harm."""

    change: Change
    ground: Ground
    again: bool


def apply_firmware(work: FirmwareWork, scope: Scope) -> Done:
    """Update the machine's firmware, one component after the other. Raises ``EngineError``."""
    (host,) = (one.name for one in work.change.targets)
    steps = [one for one in work.change.steps if is_firmware([one])]
    bmc = access(scope, work.ground, host)
    if bmc is None:
        return Done(trouble=f"{host} runs on no machine of a Site any more", touched=False, stops=True)
    seen = {one.id: one.version for one in scope.engines.upkeep.machines.inventory(bmc, scope.context)}
    moved = _moved(steps, seen)
    if moved:
        kept = put_back([host], work.ground, scope) if work.again else {}
        return Done(trouble="; ".join([moved, *kept.values()]), touched=work.again, stops=True)
    applied: list[Step] = []
    trouble: list[str] = []
    checks: tuple[CheckResult, ...] = ()
    with out_of_service([host], work.ground, scope) as absence, roles(scope) as relays:
        relays.extend(handed_over(work.change.steps, work.ground, scope) if work.again else ())
        stuck = hand_over([host], relays, work.ground, scope) if not absence.trouble else {}
        trouble += [*absence.trouble.values(), *stuck.values()]
        if not trouble:
            applied, trouble = _update(steps, bmc, scope)
            trouble += _back(host, work, scope)
        # before the checks: they hold a host to what the estate says that it is
        trouble += hand_back(relays, [] if trouble else [host], work.ground, scope).values()
        checks = () if trouble else _verify(host, work.ground, scope)
        bad = failed_checks(checks)
        trouble += [f"{len(bad)} of {len(checks)} checks did not pass, first {bad[0].check}"] if bad else []
    trouble += absence.kept.values()
    return Done(
        changed=len(applied),
        trouble="; ".join(trouble),
        touched=bool(applied) or work.again,
        applied=tuple(applied),
        troubled=(host,) if trouble else (),
        checks=checks,
    )


def _update(steps: Sequence[Step], bmc: BmcAccess, scope: Scope) -> tuple[list[Step], list[str]]:
    """One component after the other; those that are at their version, and what went wrong with the one after them."""
    applied: list[Step] = []
    for step in steps:
        wanted = wanted_of(step)
        update = FirmwareUpdate(
            bmc=bmc,
            component=wanted.component,
            version=wanted.version,
            image=wanted.image,
            deadline=duration(scope.estate.baselines[wanted.baseline].deadline),
        )
        done = scope.engines.upkeep.machines.update(update, scope.context)
        if not done.ok:
            return applied, [f"{done.machine}: {wanted.component} is {done.after or done.before}: {done.detail}"]
        applied.append(step)
    return applied, []


def _moved(steps: Sequence[Step], seen: Mapping[str, str]) -> str:
    """What the machine has that is neither what was planned on nor what was wanted."""
    found = []
    for step in steps:
        wanted = wanted_of(step)
        version = seen.get(wanted.component, "")
        if version not in {wanted.before, wanted.version}:
            found.append(f"{wanted.component} is {version or 'gone'}, and was {wanted.before} when it was planned")
    return "; ".join(found)


def _back(host: str, work: FirmwareWork, scope: Scope) -> list[str]:
    """A machine that was reset takes a while."""
    fleet = work.ground.fleet
    found = await_hosts(scope, [one for one in fleet.hosts if one.name == host], fleet)
    return unreachable(found)


def _verify(host: str, ground: Ground, scope: Scope) -> tuple[CheckResult, ...]:
    found: Sequence[CheckResult] = ()
    for group, members in sorted(ground.fleet.membership.items()):
        if host in members:
            told = with_present_primary(group, ground, scope)
            found = (*found, *verify_group(told, group, ground.fleet, ground.states, [host]))
    return tuple(found)
