"""PostgreSQL over SSH: who is the primary, a planned switchover that loses nothing, and the verbs of a recovery, and
clones of a standby for drills. A
failover is forced only by whoever asks for a promotion, and data is removed only when a copy of the primary streams."""

from ismgr_automation.engines.postgresql.cloning import PostgresqlClones
from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.engines.postgresql.manager import PostgresqlManager
from ismgr_automation.engines.postgresql.standby import PostgresqlStandby

__all__ = ["Layout", "PostgresqlClones", "PostgresqlManager", "PostgresqlStandby"]
