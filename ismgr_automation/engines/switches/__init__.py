"""Sends clients to the other side of a service, at load balancers or by its name. Decides nothing: where they are to
go is said elsewhere."""

from __future__ import annotations

from ismgr_automation.engines.switches.backend import BackendSwitch
from ismgr_automation.engines.switches.name import NameSwitch
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import BackendRequest, NameRequest, Verb
from ismgr_automation.ports.secrets import SecretStore

__all__ = ["ClientSwitches"]


class ClientSwitches:
    """Implements ``ports.recovery.Switches``. Every method raises ``InputError`` for a request that cannot be carried
    out: a secret that is not there, a host without a description, a name that is none."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def backend(self, request: BackendRequest, context: Context) -> Verb:
        """Through HAProxy."""
        return BackendSwitch(request, self._store, context)

    def name(self, request: NameRequest, context: Context) -> Verb:
        """Through a name server that takes dynamic updates."""
        return NameSwitch(request, self._store, context)
