"""PostgreSQL over SSH: who is the primary, and a planned switchover that loses nothing. It never forces a failover, and
never deletes data."""

from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.engines.postgresql.manager import PostgresqlManager

__all__ = ["Layout", "PostgresqlManager"]
