"""Writes down how the verbs of a recovery are done by hand, with the rule sets, paths and statements of the verbs.
Only texts are made here: no host is asked, and no secret is opened."""

from __future__ import annotations

from collections.abc import Mapping

from ismgr_automation.engines.paper import database, desk, fences, switches
from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.paper import Order, Return
from ismgr_automation.ports.recovery import BackendRequest, FenceRequest, NameRequest
from ismgr_automation.ports.upkeep import BmcAccess, Cluster

__all__ = ["ShellPaper"]


class ShellPaper:
    """Implements ``ports.paper.Paper`` with blocks for bash, OpenSSH, curl and nsupdate."""

    def __init__(self, layout: Layout | None = None) -> None:
        """``layout`` is where clusters lie on their hosts; Debian's without one."""
        self._layout = layout or Layout()

    def desk(self, fleet: Fleet, authorities: Mapping[str, str]) -> tuple[Order, ...]:
        """SSH configuration, known hosts and certificates, as files of a folder."""
        return desk.prepare(fleet, authorities)

    def fence(self, request: FenceRequest, instead: BmcAccess | None) -> tuple[Order, ...]:
        """By packet filter or by BMC, and confirmed from elsewhere."""
        return fences.fence(request, instead)

    def unfence(self, request: FenceRequest, cluster: Cluster) -> tuple[Order, ...]:
        """The other way round."""
        retired = database.retire(self._layout, cluster, request)
        return fences.unfence(request, retired)

    def demote(self, cluster: Cluster, host: str, to: str) -> tuple[Order, ...]:
        """A clean stop, and the last record on the other side."""
        return database.demote(self._layout, cluster, host, to)

    def promote(self, cluster: Cluster, to: str) -> tuple[Order, ...]:
        """``pg_promote``."""
        return database.promote(self._layout, cluster, to)

    def rejoin(self, request: Return) -> tuple[Order, ...]:
        """By starting it, by ``pg_rewind``, by ``pg_basebackup``."""
        return database.rejoin(self._layout, request)

    def backend(self, request: BackendRequest) -> tuple[Order, ...]:
        """Through the runtime socket."""
        return switches.backend(request)

    def name(self, request: NameRequest, key_place: str) -> tuple[Order, ...]:
        """By ``nsupdate``."""
        return switches.name(request, key_place)
