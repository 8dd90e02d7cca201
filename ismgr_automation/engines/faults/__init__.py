"""Breaks machines and networks for drills: by a BMC, by the packet filter and queues of gateways, by what a host can do
to its own server. Each fault knows its undo before it is done. Decides nothing: what may be broken when is said
elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.faults import hosts, leftovers, power
from ismgr_automation.engines.faults.undo import read_undo
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import FaultRequest, Harm, Injection
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted
from ismgr_automation.ports.secrets import SecretStore

__all__ = ["MachineFaults"]

LATER = timedelta(seconds=30)
"""For each call of who comes later, and has no request."""

_POWER = frozenset({Harm.POWER_OFF, Harm.STALE_PRIMARY})


class MachineFaults:
    """Implements ``ports.faults.Faults``. Every method raises ``InputError`` for what cannot be carried out: a secret
    that is not there, a host without a description, an undo that is none."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def fault(self, request: FaultRequest, context: Context) -> Injection:
        """By a BMC what takes the power, else by the hosts themselves."""
        kind = power.PowerFault if request.harm in _POWER else hosts.HostFault
        return kind(request, self._store, context)

    def lift(self, undo: JsonObject, fleet: Fleet, context: Context) -> Acted:
        """Lift a fault of a run that is gone, by what its journal says."""
        read = read_undo(undo)
        lift = power.lift if read.harm in _POWER else hosts.lift
        return lift(read, self._store, _within(fleet, context))

    def left(self, fleet: Fleet, context: Context) -> Sequence[str]:
        """What is left of faults of any run on these hosts."""
        return leftovers.left(self._store, _within(fleet, context))

    def found(self, fleet: Fleet, context: Context) -> Sequence[JsonObject]:
        """The undo of each fault that these hosts know of."""
        return leftovers.kept(self._store, _within(fleet, context))


def _within(fleet: Fleet, context: Context) -> hosts.Within:
    return hosts.Within(fleet=fleet, context=context, deadline=LATER)
