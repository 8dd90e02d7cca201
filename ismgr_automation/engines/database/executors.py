"""Who executes units now: a row for each, with until when it lives. Nobody is ended from here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from ismgr_automation.core.spans import microseconds
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.holders import holder_text
from ismgr_automation.engines.database.schema import EXECUTORS
from ismgr_automation.engines.database.upsert import upsert
from ismgr_automation.ports.leases import Holder

KEPT_US = microseconds(timedelta(days=1))
"""How long the row of an executor that died is kept."""


@dataclass(frozen=True, slots=True)
class DatabaseExecutors:
    """A ``ports.runs.Executors``."""

    database: Database

    def beat(self, executor: str, holder: Holder, ttl: timedelta) -> None:
        """It lives for ``ttl``."""
        with self.database.write() as connection:
            now = self.database.moment()
            values = {"holder": holder_text(holder), **now.ends_after(microseconds(ttl))}
            put = upsert(connection, EXECUTORS).values(name=executor, **values)
            connection.execute(put.on_conflict_do_update(index_elements=["name"], set_=values))

    def living(self) -> tuple[str, ...]:
        """Those whose time is not over."""
        if self.database.absent:
            return ()
        with self.database.read() as connection:
            alive = sa.not_(self.database.moment().over(EXECUTORS))
            found = connection.execute(sa.select(EXECUTORS.c.name).where(alive).order_by(EXECUTORS.c.name))
            return tuple(found.scalars())

    def gone(self, executor: str) -> None:
        """It ends on purpose; rows of those that died long ago go with it."""
        with self.database.write() as connection:
            old = EXECUTORS.c.expires_us < self.database.moment().now_us - KEPT_US
            connection.execute(sa.delete(EXECUTORS).where(sa.or_(EXECUTORS.c.name == executor, old)))
