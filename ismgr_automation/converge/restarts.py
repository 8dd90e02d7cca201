"""Restarting hosts and services after their packages moved, and proving that it happened."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.machines import access
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import Cancelled, EngineError, IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.estate.maintenance import Reboot, Through
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.reboots import due, patience
from ismgr_automation.ports.packages import Boot, HostFacts, Need, Restart, RestartResult

_REMEMBERED = 50
"""How many runs on a host are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """Who was restarted and how long that took, and a sentence for each host that is not well after it."""

    rebooted: Mapping[str, timedelta] = field(default_factory=dict)
    cycled: tuple[str, ...] = ()
    """Those that had to be switched off and on at their BMC."""
    trouble: Mapping[str, str] = field(default_factory=dict)
    lives: Mapping[str, Boot] = field(default_factory=dict)
    """The life of each host that was seen in one since."""


def restarted(
    policy: Reboot, boots: Mapping[str, Boot], after: Sequence[HostFacts], ground: Ground, scope: Scope
) -> Restarted:
    """Restart what must be, by policy and by what was read after the packages moved. ``boots`` is the life of each host
    before: one that has another by now was restarted already, unless it asks for a restart in that one too."""
    wanted = {one.host: due(policy.policy, one) for one in after}
    whole = [name for name, one in sorted(wanted.items()) if one.reboot]
    parts = {name: one.services for name, one in sorted(wanted.items()) if one.services and not one.reboot}
    # whatever happened to a host before, a life that was found to need a restart is the one that has to end
    before = {one.host: boots.get(one.host, one.boot) if one.reboot is Need.NO else one.boot for one in after}
    within = time_to_come_back(policy, whole, scope)
    restarter = scope.engines.upkeep.restarter
    found: list[RestartResult] = []
    trouble: dict[str, str] = {}
    if whole:
        request = Restart(fleet=at_hand(scope, ground.fleet, whole), boots=before, within=within)
        match policy.through:
            case Through.SYSTEMD:
                came = restarter.reboot(request, scope.context)
            case Through.REDFISH:
                came, trouble = _through_bmcs(request, after, ground, scope)
        found = [one if one.ok or not policy.power_cycle else _cycle(one, request, ground, scope) for one in came]
    if parts:
        some = Restart(fleet=at_hand(scope, ground.fleet, parts), boots=before, within=within, units=parts)
        served = restarter.services(some, scope.context)
    else:
        served = ()
    for one in (*found, *served):
        _note(one, trouble, scope)
    return Restarted(
        rebooted={one.host: timedelta(seconds=one.seconds) for one in found},
        cycled=tuple(one.host for one in found if one.power_cycled),
        trouble=trouble,
        lives={one.host: one.boot for one in (*found, *served) if one.boot is not None},
    )


def time_to_come_back(policy: Reboot, names: Sequence[str], scope: Scope) -> timedelta:
    """How long hosts may take to come back, by their past, or by policy as long as they have none."""
    return patience(_history(names, scope), duration(policy.back_within))


def _history(names: Sequence[str], scope: Scope) -> tuple[timedelta, ...]:
    """How long restarts of these hosts took before, by what runs remember."""
    records = scope.engines.upkeep.records
    return tuple(one.restart for name in names for one in records.patched(name, _REMEMBERED) if one.restart is not None)


def _through_bmcs(
    request: Restart, after: Sequence[HostFacts], ground: Ground, scope: Scope
) -> tuple[tuple[RestartResult, ...], dict[str, str]]:
    """Have the BMC of each host restart it, all at once, and wait for them. A sentence for each host whose BMC did not
    take the order: it runs as before, and is no case for power-cycling."""
    began = time.monotonic()
    # one that has another life by now was restarted already
    lives = {one.host: one.boot for one in after}
    names = [name for name in request.fleet.names if not lives[name].after(request.boots[name])]
    answers = dict(zip(names, each(names, lambda name: _order(name, request, ground, scope), workers=8), strict=True))
    refused = {name: words for name, (taken, words) in answers.items() if not taken}
    left = [name for name in request.fleet.names if name not in refused]
    if not left:
        return (), refused
    ordered = time.monotonic() - began
    waiting = replace(request, fleet=at_hand(scope, ground.fleet, left))
    back = scope.engines.upkeep.restarter.await_back(waiting, scope.context)
    return tuple(_told(one, answers.get(one.host, (True, ""))[1], ordered) for one in back), refused


def _order(host: str, request: Restart, ground: Ground, scope: Scope) -> tuple[bool, str]:
    """Whether a BMC may have taken the order, and its words or why not."""
    bmc = access(scope, ground, host)
    if bmc is None:
        return False, f"{host} was not restarted: it runs on no machine of a Site any more"
    try:
        return True, scope.engines.upkeep.machines.restart(bmc, request.within, scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        if isinstance(problem, EngineError) and not problem.untouched:
            # it may have taken the order: that is seen by looking
            return True, f"what its BMC did is not known: {problem.summary}"
        return False, f"{host} was not restarted: {problem.summary}"


def _told(one: RestartResult, said: str, ordered: float) -> RestartResult:
    """A result with what its BMC said, and the time since it was asked."""
    seconds = round(one.seconds + ordered, 3)
    if one.ok:
        return replace(one, proof="; ".join(filter(None, [one.proof, said])), seconds=seconds)
    return replace(one, detail="; ".join(filter(None, [one.detail, said])), seconds=seconds)


def _cycle(lost: RestartResult, request: Restart, ground: Ground, scope: Scope) -> RestartResult:
    """Switch a machine that did not come back off and on at its BMC, once."""
    bmc = access(scope, ground, lost.host)
    if bmc is None:
        return lost
    try:
        said = scope.engines.upkeep.machines.power_cycle(bmc, request.within, scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        return RestartResult(host=lost.host, ok=False, detail=f"{lost.detail}; {problem.summary}")
    alone = Restart(
        fleet=at_hand(scope, ground.fleet, [lost.host]),
        boots={lost.host: request.boots[lost.host]},
        within=request.within,
    )
    (back,) = scope.engines.upkeep.restarter.await_back(alone, scope.context)
    return RestartResult(
        host=lost.host,
        ok=back.ok,
        boot=back.boot,
        proof=back.proof,
        detail="; ".join(filter(None, [f"it did not come back and was power-cycled: {said}", back.detail])),
        power_cycled=True,
        seconds=lost.seconds + back.seconds,
    )


def _note(one: RestartResult, trouble: dict[str, str], scope: Scope) -> None:
    if one.ok:
        scope.context.emit(StepReported(step=f"restart {one.host}", detail=one.proof, seconds=one.seconds))
    else:
        trouble[one.host] = f"{one.host} did not come back: {one.detail}"
