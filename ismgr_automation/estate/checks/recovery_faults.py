"""Checks of a recovery plan's faults: each can be named, done, fenced and seen to bite. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.estate.documents import Site
from ismgr_automation.estate.draft import Draft, unknown, wrong
from ismgr_automation.estate.recovery import (
    ClientFault,
    DnsStep,
    FenceStep,
    FenceWay,
    PartitionFault,
    PowerFault,
    RecoveryPlan,
    RollingFault,
    SlowFault,
    StaleFault,
)


def fault_names(draft: Draft) -> Iterator[Diagnostic]:
    """Faults have names of their own, and the groups of their gateways exist."""
    for entry, plan in draft.each(RecoveryPlan):
        names = [one.name for one in plan.faults]
        for index, fault in enumerate(plan.faults):
            if fault.name in names[:index]:
                summary = f"{entry.label} has two faults named {fault.name!r}"
                yield wrong(entry.marked.at("faults", index, "name"), summary, "each name once")
            if isinstance(fault, PartitionFault | RollingFault | SlowFault):
                known = draft.names("HostGroup")
                if fault.gateways not in known:
                    place = entry.marked.at("faults", index, "gateways")
                    yield unknown("group", fault.gateways, known, place, f"fault {fault.name!r}")


def fault_networks(draft: Draft) -> Iterator[Diagnostic]:
    """What is cut off is a network of the site; of a rolling disaster, the other site has one as well."""
    for entry, plan in draft.each(RecoveryPlan):
        for index, fault in enumerate(plan.faults):
            if not isinstance(fault, PartitionFault | RollingFault):
                continue
            ends = (plan.sites.home, plan.sites.away) if isinstance(fault, RollingFault) else (plan.sites.home,)
            for name in ends:
                site = draft.sound(Site, name)
                wanted = fault.network.replace("{site}", name)
                known = sorted(one.name for one in site.networks) if site is not None else [wanted]
                if wanted not in known:
                    place = entry.marked.at("faults", index, "name")
                    summary = f"fault {fault.name!r} is about network {wanted!r}, which site {name!r} does not have"
                    yield wrong(place, summary, f"network: one of {', '.join(known) or 'its networks'}")


def fault_fences(draft: Draft) -> Iterator[Diagnostic]:
    """A machine without power cannot be fenced by its packet filter."""
    for entry, plan in draft.each(RecoveryPlan):
        fences = [one for one in plan.failover if isinstance(one, FenceStep)]
        if all(one.way is FenceWay.POWER for one in fences):
            continue
        for index, fault in enumerate(plan.faults):
            if isinstance(fault, PowerFault | StaleFault):
                summary = f"fault {fault.name!r} of {entry.label} takes the power that its fence by network needs"
                yield wrong(entry.marked.at("faults", index, "do"), summary, "a fence with way: power")


def fault_clients(draft: Draft) -> Iterator[Diagnostic]:
    """A client can only ignore how long a name is good for where it is given a name, and that is moved."""
    for entry, plan in draft.each(RecoveryPlan):
        named = any(not _is_address(one) for one in plan.probe.endpoints)
        moved = any(isinstance(one, DnsStep) for one in plan.failover)
        for index, fault in enumerate(plan.faults):
            if isinstance(fault, ClientFault) and fault.do == "ignores-ttl" and not (named and moved):
                why = "its failover moves no name" if named else "its probe is given no name"
                summary = f"fault {fault.name!r} of {entry.label} cannot bite: {why}"
                yield wrong(entry.marked.at("faults", index, "do"), summary, "a name in endpoints, and a step do: dns")


def _is_address(endpoint: str) -> bool:
    host = endpoint if endpoint.count(":") != 1 else endpoint.partition(":")[0]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
