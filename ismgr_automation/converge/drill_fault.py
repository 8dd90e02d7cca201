"""A drill's fault from its name to what is asked of the world: which hosts it is done on, which networks it cuts off,
what of it is in the plan. Nothing is broken here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from ismgr_automation.converge.drill_field import Field
from ismgr_automation.converge.drill_verbs import Kit, fence_of, fence_request
from ismgr_automation.converge.machines import access
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import Json
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.recovery import (
    Fault,
    FenceWay,
    PartitionFault,
    RecoveryPlan,
    RollingFault,
    SlowFault,
)
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Action, Change, Step
from ismgr_automation.ports.faults import Direction, FaultRequest, Harm
from ismgr_automation.recovery.faults import (
    COME_BACK,
    DETECT,
    FAULT,
    LIFT,
    WATCH,
    Course,
    course_of,
    ends_with_power,
    takes_power,
)
from ismgr_automation.recovery.path import Leg

Gated = PartitionFault | RollingFault | SlowFault
"""What is done to networks, at the gateways of the old side."""


def named_fault(document: RecoveryPlan, mode: DrillMode, name: str) -> Fault | None:
    """The fault that somebody asks for; None for no name. Raises ``InputError`` for one that there is not, and for a
    drill that has none."""
    if not name:
        return None
    if mode is not DrillMode.FAILOVER:
        raise InputError(
            f"A fault is for a failover, and this is a {mode} drill.", next_step="Say `--mode failover`, or no fault."
        )
    known = [one.name for one in document.faults]
    found = next((one for one in document.faults if one.name == name), None)
    if found is None:
        near = did_you_mean(name, known)
        raise InputError(
            f"RecoveryPlan {document.name!r} has no fault {name!r}." + (f" Did you mean {near!r}?" if near else ""),
            next_step=f"One of {', '.join(known)}." if known else "Write it into the document, under `faults`.",
        )
    return found


def planned_fault(change: Change, document: RecoveryPlan) -> Fault | None:
    """The fault that a plan's steps name."""
    names = [step.what.partition(": ")[2] for step in change.steps if step.what.startswith(f"{FAULT}: ")]
    return next((one for one in document.faults if one.name in names), None)


def fault_steps(fault: Fault, field: Field, hosts: Sequence[str]) -> tuple[Step, ...]:
    """What stands in a plan before the first move: the fault, and who must notice it or must not."""
    detector: Json = field.document.detector.model_dump(mode="json")
    first = _step(FAULT, fault.name, ", ".join(hosts) or "client", fault.model_dump(mode="json", exclude={"name"}))
    service = f"service/{field.document.service}"
    match course_of(fault):
        case Course.LOST:
            return first, _step(FAULT, DETECT, service, {"do": DETECT, "detector": detector})
        case Course.SURVIVED:
            watch = _step(FAULT, WATCH, service, {"do": WATCH, "detector": detector})
            return first, watch, _lifting(fault, hosts)
        case Course.CLIENT:
            return (first,)


def steps_after(leg: Leg, fault: Fault | None, field: Field, hosts: Sequence[str]) -> Iterator[Step]:
    """What of a fault stands behind a leg: a stale primary comes back, and all are lifted before anything that they
    would be in the way of."""
    if fault is None or course_of(fault) is not Course.LOST:
        return
    if leg.name == "failover" and fault.do == "stale-primary":
        yield _step(FAULT, COME_BACK, ", ".join(hosts), {"do": COME_BACK})
    if leg.name == lifted_after(fault, field.document):
        yield _lifting(fault, hosts)


def lifted_after(fault: Fault, document: RecoveryPlan) -> str:
    """The leg after which a fault is lifted. A machine without power is let out by the step that lifts its fence, which
    looks whether it comes up as a primary; what then is left of the fault is lifted."""
    dark = fence_of(document).way is FenceWay.POWER and ends_with_power(fault)
    return "reprotect" if dark or takes_power(fault) else "failover"


def harmed(fault: Fault, kit: Kit) -> tuple[str, ...]:
    """The hosts that a fault is done on. Raises ``InputError`` where there is none."""
    if course_of(fault) is Course.CLIENT:
        return ()
    if not isinstance(fault, Gated):
        return (kit.field.sides.old,)
    site = kit.field.sides.old_site
    sites = {one.name: one.site for one in kit.ground.fleet.hosts}
    found = [one for one in kit.ground.fleet.membership.get(fault.gateways, ()) if sites[one] == site]
    if not found:
        raise InputError(
            f"group/{fault.gateways}, the gateways of fault {fault.name!r}, has no member at site {site}.",
            next_step="A host's site comes from the Site document of its machine, or from its stack's output.",
        )
    return tuple(found)


def fault_request(fault: Fault, kit: Kit, run: str) -> FaultRequest:
    """What is asked of the world. Raises ``InputError``, also for what no fence of the plan could keep safe."""
    field, scope, ground = kit.field, kit.scope, kit.ground
    sides, hosts = field.sides, harmed(fault, kit)
    fence = fence_of(field.document)
    by_power = takes_power(fault)
    bmc = access(scope, ground, sides.old) if by_power else None
    if by_power and (bmc is None or fence.way is not FenceWay.POWER):
        raise InputError(
            f"Fault {fault.name!r} takes the power of {sides.old}, and its fence cannot be raised then.",
            next_step="Fence it with `way: power`, and name its machine in a Site document.",
        )
    asked = fence_request(fence, kit)
    if cuts_off(fault):
        fence_request(fence, replace(kit, cut_off=True))  # somebody inside must be able to confirm it
    witnesses = [one for one in asked.witnesses if one != sides.old and one not in hosts]
    sites = {one.name: one.site for one in ground.fleet.hosts}
    if isinstance(fault, Gated):
        witnesses = [one for one in witnesses if sites[one] != sides.old_site]
    return FaultRequest(
        run=run,
        name=fault.name,
        harm=Harm(fault.do),
        fleet=at_hand(scope, ground.fleet, [*hosts, *witnesses]),
        hosts=hosts,
        lifetime=duration(fault.lasts),
        cluster=field.cluster,
        bmc=bmc,
        address=asked.address,
        witnesses=tuple(witnesses),
        networks=_ranges(fault, kit, sides.old_site) if isinstance(fault, Gated) else (),
        peers=_ranges(fault, kit, sides.new_site) if isinstance(fault, RollingFault) else (),
        direction=Direction(fault.direction) if isinstance(fault, PartitionFault) else Direction.BOTH,
        lead=duration(fault.lead) if isinstance(fault, RollingFault) else timedelta(seconds=1),
        rate=fault.rate if isinstance(fault, SlowFault) else "1mbit",
        latency=duration(fault.latency) if isinstance(fault, SlowFault) else timedelta(milliseconds=100),
    )


def cuts_off(fault: Fault) -> bool:
    """Whether nobody outside of the old side's site can tell a fence from it."""
    return isinstance(fault, PartitionFault | RollingFault)


def _ranges(fault: Gated, kit: Kit, site: str) -> tuple[str, ...]:
    wanted = kit.field.sides.old_site if isinstance(fault, SlowFault) else site
    name = "{site}" if isinstance(fault, SlowFault) else fault.network
    known = kit.scope.estate.sites[wanted].networks
    found = tuple(one.cidr for one in known if one.name == name.replace("{site}", wanted))
    # a slow link is that of the whole site, whatever its networks are called
    return found or (tuple(one.cidr for one in known) if isinstance(fault, SlowFault) else ())


def _lifting(fault: Fault, hosts: Sequence[str]) -> Step:
    return _step(LIFT, fault.name, ", ".join(hosts), {"do": LIFT})


def _step(leg: str, name: str, target: str, after: Json) -> Step:
    return Step(
        target=target, what=f"{leg}: {name}", action=Action.CONFIGURE, why="a rehearsal", before=None, after=after
    )
