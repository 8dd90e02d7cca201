"""The machines below hosts: which BMC belongs to which host. Touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import baseline
from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import Machine
from ismgr_automation.estate.maintenance import Through
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.upkeep import BmcAccess


def access(scope: Scope, ground: Ground, host: str) -> BmcAccess | None:
    """How to reach the management controller of a host's machine; None for a host that runs on no machine of a Site, or
    where nobody can say on which: a machine is never switched off on a guess."""
    known = next((one for one in ground.fleet.hosts if one.name == host), None)
    found = machine_of(scope, known) if known is not None else None
    if found is None:
        return None
    name, machine = found
    bmc = machine.bmc
    return BmcAccess(
        machine=name,
        address=bmc.address,
        username=bmc.username,
        password=SecretRef.parse(bmc.password.secret),
        ca=scope.engines.content.path(bmc.ca) if bmc.ca is not None else None,
        system=bmc.system,
    )


def machine_of(scope: Scope, host: Host) -> tuple[str, Machine] | None:
    """The machine below a host, with a name that no other has: the host's where it is called as its machine, else the
    full one (``web1.dc2``), for sites may call theirs alike."""
    wanted = host.machine or host.name
    found = [
        (full_name(machine.name, site.name), machine)
        for site in scope.estate.sites.values()
        for machine in site.machines
        if host.site in {"", site.name} and wanted in {machine.name, full_name(machine.name, site.name)}
    ]
    if len(found) != 1:
        return None
    name, machine = found[0]
    return (host.name if host.name == machine.name else name), machine


def without_machine(scope: Scope, members: Mapping[str, Sequence[Host]]) -> list[Diagnostic]:
    """What is wrong with baselines that restart hosts through BMCs: each of their hosts that runs on no machine of a
    Site, or nobody can say on which. ``members`` are the hosts of each baseline."""
    found: list[Diagnostic] = []
    for name, hosts in members.items():
        document = scope.estate.baselines[name]
        if document.reboot.through is not Through.REDFISH:
            continue
        place = scope.estate.fields.get((baseline(name), "reboot.through"))
        for host in hosts:
            if machine_of(scope, host) is None:
                summary = f"PatchBaseline {name!r} restarts host {host.name} through its BMC, and it has none"
                found.append(Diagnostic(summary=summary, position=place, expected="a machine of a Site, or systemd"))
    return found


def full_name(machine: str, site: str) -> str:
    """What a machine of a site is called outside of it.

    >>> full_name("web1", "dc2"), full_name("web1.dc2", "dc2")
    ('web1.dc2', 'web1.dc2')
    """
    return machine if machine.endswith(f".{site}") else f"{machine}.{site}"
