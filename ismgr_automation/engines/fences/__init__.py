"""Keeps members of a cluster from taking writes: by power through a BMC, or by the host's own packet filter; and closes
networks on their gateways. Decides nothing: who is fenced, and what may follow, is said elsewhere."""

from __future__ import annotations

from ismgr_automation.engines.fences.bubble import HostIsolation
from ismgr_automation.engines.fences.network import NetworkFence, NetworkUnfence
from ismgr_automation.engines.fences.power import PowerFence, PowerUnfence
from ismgr_automation.engines.fences.witness import ConnectingWitness
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import FenceRequest, Verb, Witness
from ismgr_automation.ports.secrets import SecretStore

__all__ = ["HostFences", "HostIsolation"]


class HostFences:
    """Implements ``ports.recovery.Fences``. Every method raises ``InputError`` for a request that cannot be carried
    out: a secret that is not there, a host without a description, a network that is none."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def fence(self, request: FenceRequest, context: Context) -> Verb:
        """By power where the request names a BMC, else by network."""
        kind = NetworkFence if request.bmc is None else PowerFence
        return kind(request, self._store, context)

    def unfence(self, request: FenceRequest, context: Context) -> Verb:
        """Lifts what ``fence`` with the same request raised."""
        kind = NetworkUnfence if request.bmc is None else PowerUnfence
        return kind(request, self._store, context)

    def witness(self, request: FenceRequest, context: Context) -> Witness:
        """The hosts that are named, and this controller where it has a way to the member."""
        return ConnectingWitness(request, self._store, context)
