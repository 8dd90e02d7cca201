"""The members of a PostgreSQL cluster and a planned switchover, as ``ports.upkeep`` asks for them."""

from __future__ import annotations

from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.engines.postgresql.seeing import member_of
from ismgr_automation.engines.postgresql.switching import Members, Switchover
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import Cluster, ClusterMember, Switched


class PostgresqlManager:
    """Implements ``ports.upkeep.ClusterManager``."""

    def __init__(self, store: SecretStore, layout: Layout | None = None) -> None:
        self._store = store
        self._layout = layout or Layout()

    def members(self, cluster: Cluster, context: Context) -> tuple[ClusterMember, ...]:
        """Every member, as it is seen now; one that cannot be reached, or does not say, is UNKNOWN.

        Raises ``InputError`` for hosts or names that cannot be used, ``Cancelled``.
        """
        seen = Members(cluster, self._layout, self._store).look(context.cancelled)
        return tuple(member_of(one, seen) for one in seen)

    def switchover(self, cluster: Cluster, to: str, context: Context) -> Switched:
        """Planned, and without loss: the primary is stopped cleanly and made a standby before ``to``, which has
        replayed all of it, is promoted. Called again it goes on from what it sees, and does nothing where all is done.

        A failure says what runs where. Once the primary is stopped, a request to cancel waits until there is one again.
        Each step takes at most ``cluster.deadline``. Raises ``InputError`` for hosts or names that cannot be used,
        ``Cancelled``.
        """
        return Switchover(Members(cluster, self._layout, self._store), to, context).run()
