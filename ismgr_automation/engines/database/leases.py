"""The table of leases: each change is one statement that compares and sets, by the database's own clock. Who waits,
renews or believes is no concern of this file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import sqlalchemy as sa

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.spans import microseconds
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.holders import holder_text, read_holder
from ismgr_automation.engines.database.moments import MachineMoment, Moment, moment
from ismgr_automation.engines.database.schema import LEASES
from ismgr_automation.engines.database.upsert import upsert
from ismgr_automation.ports.leases import Holder, Lease
from ismgr_automation.ports.refusals import lease_gone, lease_held, lease_not_broken

TRIES = 5
"""How often a lease may be given back and taken again between our two looks before we give up."""


@dataclass(frozen=True, slots=True)
class DatabaseLeaseStore:
    """A ``ports.leases.LeaseStore``."""

    database: Database

    def acquire(self, name: str, holder: Holder, ttl: timedelta) -> Lease:
        """Take it when it is free or over."""
        for _ in range(TRIES):
            with self.database.write() as connection:
                now = self.database.moment()
                self._adopt(connection, now, name)
                taken = self._take(connection, now, name, holder, microseconds(ttl))
                if taken is not None:
                    return _lease(taken, now)
                found = self._row(connection, now, name)
            if found is not None and not found.over:
                raise lease_held(_lease(found, now))
        raise EngineFailed(
            f"The lease {name} changed hands {TRIES} times while we tried to take it.",
            engine=self.database.kind,
            subject=name,
            untouched="Nothing was touched.",
            next_step="Try again, with --wait.",
        )

    def renew(self, lease: Lease) -> Lease:
        """Begin its time anew."""
        with self.database.write() as connection:
            now = self.database.moment()
            ours = sa.and_(_held(lease.name, lease.token), sa.not_(now.over(LEASES)))
            changed = sa.update(LEASES).where(ours).values(**now.ends_after(microseconds(lease.ttl)))
            row = connection.execute(changed.returning(*LEASES.c)).one_or_none()
            if row is not None:
                return _lease(row, now)
            found = self._row(connection, now, lease.name)
        raise lease_gone(lease.name, lease.token, _lease(found, now) if found is not None else None)

    def release(self, lease: Lease) -> None:
        """Give it back; its token stays used."""
        with self.database.write() as connection:
            connection.execute(sa.update(LEASES).where(_held(lease.name, lease.token)).values(held=0))

    def look(self, name: str) -> Lease | None:
        """The lease as it is."""
        if self.database.absent:
            return None
        with self.database.read() as connection:
            now = self.database.moment()
            found = self._row(connection, now, name)
        return _lease(found, now) if found is not None else None

    def break_(self, name: str, token: int) -> None:
        """End the one with this token."""
        with self.database.write() as connection:
            now = self.database.moment()
            done = connection.execute(sa.update(LEASES).where(_held(name, token)).values(held=0))
            if done.rowcount == 1:
                return
            found = self._row(connection, now, name)
        raise lease_not_broken(name, token, _lease(found, now) if found is not None else None)

    def advance(self, name: str, at_least: int) -> int:
        """Count every token up to this one as used."""
        with self.database.write() as connection:
            now = self.database.moment()
            larger = sa.case((LEASES.c.token > at_least, LEASES.c.token), else_=at_least)
            put = upsert(connection, LEASES).values(
                name=name, token=at_least, held=0, holder="", ttl_us=0, acquired_us=0, expires_us=0
            )
            free = sa.or_(LEASES.c.held == 0, now.over(LEASES))
            done = put.on_conflict_do_update(index_elements=["name"], set_={"token": larger, "held": 0}, where=free)
            token = connection.execute(done.returning(LEASES.c.token)).scalar_one_or_none()
            if token is not None:
                return int(token)
            found = self._row(connection, now, name)
        if found is None:
            return self.advance(name, at_least)
        raise lease_held(_lease(found, now))

    @staticmethod
    def _take(connection: sa.Connection, now: Moment, name: str, holder: Holder, ttl_us: int) -> sa.Row[Any] | None:
        """Compare and set in one statement: it waits for the row's lock, and judges what it then finds."""
        begun = {
            "held": 1,
            "holder": holder_text(holder),
            "ttl_us": ttl_us,
            "acquired_us": now.now_us,
            **now.ends_after(ttl_us),
        }
        put = upsert(connection, LEASES).values(name=name, token=1, **begun)
        done = put.on_conflict_do_update(
            index_elements=["name"],
            set_={"token": LEASES.c.token + 1, **begun},
            where=sa.or_(LEASES.c.held == 0, now.over(LEASES)),
        )
        return connection.execute(done.returning(*LEASES.c)).one_or_none()

    @staticmethod
    def _adopt(connection: sa.Connection, now: Moment, name: str) -> None:
        """A lease that an earlier boot of this machine left: from now on its time is counted by this boot's clock."""
        if isinstance(now, MachineMoment):
            left = sa.and_(
                LEASES.c.name == name, LEASES.c.held == 1, LEASES.c.boot != now.boot, sa.not_(now.over(LEASES))
            )
            connection.execute(sa.update(LEASES).where(left).values(**now.adopted(LEASES)))

    @staticmethod
    def _row(connection: sa.Connection, now: Moment, name: str) -> sa.Row[Any] | None:
        """The row while it is held, with ``over``."""
        wanted = sa.select(*LEASES.c, now.over(LEASES).label("over"))
        found = connection.execute(wanted.where(LEASES.c.name == name, LEASES.c.held == 1)).one_or_none()
        return cast("sa.Row[Any] | None", found)


def _held(name: str, token: int) -> sa.ColumnElement[bool]:
    return sa.and_(LEASES.c.name == name, LEASES.c.token == token, LEASES.c.held == 1)


def _lease(row: sa.Row[Any], now: Moment) -> Lease:
    """A row as a lease; one that a statement has just written is not over."""
    return Lease(
        name=row.name,
        token=row.token,
        holder=read_holder(row.holder),
        acquired_at=moment(row.acquired_us),
        expires_at=now.until(row),
        ttl=timedelta(microseconds=row.ttl_us),
        expired=bool(getattr(row, "over", False)),
    )
