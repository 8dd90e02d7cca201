"""What is remembered between patch runs: readings of hosts, who waits, what was done. One environment's rows; nothing
is judged by them here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ismgr_automation.core.spans import microseconds
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.facts import moves_text, pack, read_moves, unpack
from ismgr_automation.engines.database.moments import moment, since_epoch
from ismgr_automation.engines.database.schema import FACTS, PATCHED, WAITING
from ismgr_automation.engines.database.upsert import upsert
from ismgr_automation.ports.packages import HostFacts
from ismgr_automation.ports.patching import Patched, Waiting

AT_ONCE = 1000
"""How many hosts one statement names: databases take no endless lists."""


@dataclass(frozen=True, slots=True)
class DatabasePatchStore:
    """A ``ports.patching.PatchStore``."""

    database: Database
    environment: str

    def facts(self, hosts: Sequence[str] | None = None) -> Mapping[str, HostFacts]:
        """The last reading of each host, by name."""
        if self.database.absent:
            return {}
        mine = sa.select(FACTS.c.host, FACTS.c.body).where(FACTS.c.environment == self.environment)
        rows: list[sa.Row[Any]] = []
        with self.database.read() as connection:
            if hosts is None:
                rows.extend(connection.execute(mine))
            else:
                for some in _portions(sorted(set(hosts))):
                    rows.extend(connection.execute(mine.where(FACTS.c.host.in_(some))))
        # unpacked when the transaction is over: it takes a millisecond for each host, and others want to write
        found = {row.host: unpack(row.body, row.host, self.database.place) for row in rows}
        return dict(sorted(found.items()))

    def keep_facts(self, facts: Sequence[HostFacts]) -> None:
        """Keep readings; a later one that somebody else kept meanwhile stays."""
        rows = [
            {"environment": self.environment, "host": one.host, "read_us": since_epoch(one.read_at), "body": pack(one)}
            for one in facts
        ]
        self._put(FACTS, ["environment", "host"], rows, later="read_us")

    def waiting(self) -> tuple[Waiting, ...]:
        """The longest waiting first."""
        if self.database.absent:
            return ()
        mine = sa.select(WAITING).where(WAITING.c.environment == self.environment)
        with self.database.read() as connection:
            found = connection.execute(mine.order_by(WAITING.c.since_us, WAITING.c.host)).all()
        return tuple(map(_waiting, found))

    def enqueue(self, waiting: Sequence[Waiting]) -> None:
        """Put hosts into the queue; who is there already stays as it is."""
        rows = [
            {
                "environment": self.environment,
                "host": one.host,
                "baseline": one.baseline,
                "since_us": since_epoch(one.since),
                "expires_us": since_epoch(one.expires_at),
                "run": one.run,
            }
            for one in waiting
        ]
        if not rows:
            return
        with self.database.write() as connection:
            connection.execute(upsert(connection, WAITING).on_conflict_do_nothing(), _in_order(rows))

    def dequeue(self, hosts: Sequence[str]) -> None:
        """Take hosts out of the queue."""
        if not hosts or self.database.absent:
            return
        mine = sa.delete(WAITING).where(WAITING.c.environment == self.environment)
        with self.database.write() as connection:
            for some in _portions(sorted(set(hosts))):
                connection.execute(mine.where(WAITING.c.host.in_(some)))

    def patched(self, host: str | None = None, limit: int = 200, *, run: str | None = None) -> tuple[Patched, ...]:
        """The newest first; the hosts of a run by name."""
        if self.database.absent:
            return ()
        newest = PATCHED.c.at_us.desc(), PATCHED.c.run.desc(), PATCHED.c.host
        wanted = self._done(sa.select(PATCHED), host).order_by(*newest).limit(limit)
        if run is not None:
            wanted = wanted.where(PATCHED.c.run == run)
        with self.database.read() as connection:
            found = connection.execute(wanted).all()
        return tuple(map(_patched, found))

    def keep_patched(self, patched: Sequence[Patched]) -> None:
        """Remember what a run did, instead of what it said before."""
        rows = [
            {
                "environment": self.environment,
                "run": one.run,
                "host": one.host,
                "at_us": since_epoch(one.at),
                "moves": moves_text(one.moves),
                "took_us": microseconds(one.took),
                "rebooted": int(one.rebooted),
                "restart_us": microseconds(one.restart) if one.restart is not None else None,
                "rolled_back": one.rolled_back,
                "snapshot": one.snapshot,
            }
            for one in patched
        ]
        self._put(PATCHED, ["environment", "run", "host"], rows)

    def durations(self, host: str, limit: int = 50) -> tuple[timedelta, ...]:
        """The newest first."""
        if self.database.absent:
            return ()
        newest = PATCHED.c.at_us.desc(), PATCHED.c.run.desc()
        wanted = self._done(sa.select(PATCHED.c.took_us), host).order_by(*newest).limit(limit)
        with self.database.read() as connection:
            return tuple(timedelta(microseconds=one) for one in connection.execute(wanted).scalars())

    def _done(self, wanted: sa.Select[Any], host: str | None) -> sa.Select[Any]:
        mine = wanted.where(PATCHED.c.environment == self.environment)
        return mine.where(PATCHED.c.host == host) if host is not None else mine

    def _put(self, table: sa.Table, key: Sequence[str], rows: Sequence[Mapping[str, Any]], later: str = "") -> None:
        """Write rows over those of the same key; where a column must be ``later``, not over one that is."""
        if not rows:
            return
        with self.database.write() as connection:
            put = upsert(connection, table)
            new = {name: put.excluded[name] for name in rows[0] if name not in key}
            where = table.c[later] <= put.excluded[later] if later else None
            connection.execute(put.on_conflict_do_update(index_elements=key, set_=new, where=where), _in_order(rows))


def _in_order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By host: two that write the same rows in different orders would wait for each other."""
    return sorted(rows, key=lambda row: str(row["host"]))


def _portions(hosts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (hosts[start : start + AT_ONCE] for start in range(0, len(hosts), AT_ONCE))


def _waiting(row: sa.Row[Any]) -> Waiting:
    return Waiting(
        host=row.host,
        baseline=row.baseline,
        since=moment(row.since_us),
        expires_at=moment(row.expires_us),
        run=row.run,
    )


def _patched(row: sa.Row[Any]) -> Patched:
    return Patched(
        run=row.run,
        host=row.host,
        at=moment(row.at_us),
        moves=read_moves(row.moves),
        took=timedelta(microseconds=row.took_us),
        rebooted=bool(row.rebooted),
        restart=timedelta(microseconds=row.restart_us) if row.restart_us is not None else None,
        rolled_back=row.rolled_back,
        snapshot=row.snapshot,
    )
