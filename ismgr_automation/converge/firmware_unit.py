"""The firmware of one machine, brought to the planned versions: out of service, read, compared, changed, read again,
the host awaited and verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ismgr_automation.converge.fleet import await_hosts, unreachable
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.machines import access
from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import hand_back, hand_over, out_of_service
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Change, Step
from ismgr_automation.planning.firmware import wanted_of
from ismgr_automation.ports.upkeep import FirmwareUpdate
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
    bmc = access(scope, work.ground, host)
    if bmc is None:
        return Done(trouble=f"{host} runs on no machine of a Site any more", touched=False, stops=True)
    seen = {one.id: one.version for one in scope.engines.upkeep.machines.inventory(bmc, scope.context)}
    moved = _moved(work, seen)
    if moved:
        return Done(trouble=moved, touched=work.again, stops=True)
    applied: list[Step] = []
    trouble: list[str] = []
    checks: tuple[CheckResult, ...] = ()
    with out_of_service([host], work.ground, scope) as absence:
        relays, stuck = hand_over([host], work.ground, scope) if not absence.trouble else ((), {})
        trouble += [*absence.trouble.values(), *stuck.values()]
        for step in work.change.steps if not trouble else ():
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
                trouble.append(f"{done.machine}: {wanted.component} is {done.after or done.before}: {done.detail}")
                break
            applied.append(step)
        trouble += _back(host, work, scope)
        checks = () if trouble else _verify(host, work.ground, scope)
        bad = failed_checks(checks)
        trouble += [f"{len(bad)} of {len(checks)} checks did not pass, first {bad[0].check}"] if bad else []
        trouble += hand_back(relays, [] if trouble else [host], work.ground, scope).values()
    trouble += [one for one in absence.trouble.values() if one not in trouble]
    return Done(
        changed=len(applied),
        trouble="; ".join(trouble),
        touched=bool(applied) or work.again,
        applied=tuple(applied),
        troubled=(host,) if trouble else (),
        checks=checks,
    )


def _moved(work: FirmwareWork, seen: dict[str, str]) -> str:
    """What the machine has that is neither what was planned on nor what was wanted."""
    found = []
    for step in work.change.steps:
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
            found = (*found, *verify_group(scope, group, ground.fleet, ground.states, [host]))
    return tuple(found)
