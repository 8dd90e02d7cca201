"""The machines below hosts: which BMC belongs to which host. Touches nothing."""

from __future__ import annotations

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import Machine
from ismgr_automation.ports.upkeep import BmcAccess


def access(scope: Scope, ground: Ground, host: str) -> BmcAccess | None:
    """How to reach the management controller of a host's machine; None for a host that runs on no machine of a Site."""
    known = next((one for one in ground.fleet.hosts if one.name == host), None)
    machine = machines(scope).get(known.machine or known.name) if known is not None else None
    if machine is None:
        return None
    bmc = machine.bmc
    return BmcAccess(
        machine=machine.name,
        address=bmc.address,
        username=bmc.username,
        password=SecretRef.parse(bmc.password.secret),
        ca=scope.engines.content.path(bmc.ca) if bmc.ca is not None else None,
        system=bmc.system,
    )


def machines(scope: Scope) -> dict[str, Machine]:
    """All machines of the estate by name."""
    return {one.name: one for site in scope.estate.sites.values() for one in site.machines}
