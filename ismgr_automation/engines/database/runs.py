"""Runs and the approvals that they used up. A run is written whole; only how it goes on and ends is changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ismgr_automation.core.json import canonical
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.holders import holder_text, read_holder
from ismgr_automation.engines.database.moments import moment, since_epoch
from ismgr_automation.engines.database.schema import NONCES, RUNS
from ismgr_automation.engines.database.upsert import upsert
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.refusals import no_run, refuse_if_ended, run_exists, run_moved_on, used_approvals
from ismgr_automation.ports.runs import ANY, Run, RunState, Sought


@dataclass(frozen=True, slots=True)
class DatabaseRunLedger:
    """A ``ports.runs.RunLedger``."""

    database: Database

    def begin(self, run: Run, nonces: Sequence[str]) -> None:
        """Write the run and its nonces, or neither."""
        with self.database.write() as connection:
            written = _insert(connection, run).on_conflict_do_nothing().returning(RUNS.c.id)
            if connection.execute(written).one_or_none() is None:
                raise run_exists(run.id)
            _use_up(connection, run.id, nonces)

    def take_over(self, run: str, token: int, holder: Holder, nonces: Sequence[str] = ()) -> None:
        """The run goes on under another lease, and uses more approvals up, or neither."""
        with self.database.write() as connection:
            refuse_if_ended(_found(connection, run))
            _not_older(connection, run, token)
            changed = sa.update(RUNS).where(RUNS.c.id == run)
            connection.execute(changed.values(token=token, holder=holder_text(holder)))
            _use_up(connection, run, nonces)

    def close(self, run: Run) -> None:
        """Write how it ended."""
        with self.database.write() as connection:
            _not_older(connection, run.id, run.token)
            connection.execute(sa.update(RUNS).where(RUNS.c.id == run.id).values(**_end(run)))

    def run(self, run: str) -> Run:
        """One run."""
        if self.database.absent:
            raise no_run(run, [])
        with self.database.read() as connection:
            return _found(connection, run)

    def runs(self, environment: str | None = None, limit: int | None = 50, sought: Sought = ANY) -> tuple[Run, ...]:
        """The newest first."""
        if self.database.absent:
            return ()
        wanted = sa.select(RUNS).order_by(RUNS.c.started_us.desc(), RUNS.c.id.desc()).limit(limit)
        for column, value in (
            (RUNS.c.environment, environment),
            (RUNS.c.estate, sought.estate),
            (RUNS.c.state, sought.state),
            (RUNS.c.digest, sought.digest),
            (RUNS.c.whole, sought.whole),
        ):
            if value is not None:
                wanted = wanted.where(column == _plain(value))
        with self.database.read() as connection:
            return tuple(_run(row) for row in connection.execute(wanted))

    def nonces(self, run: str) -> tuple[str, ...]:
        """What a run used up."""
        if self.database.absent:
            return ()
        with self.database.read() as connection:
            wanted = sa.select(NONCES.c.nonce).where(NONCES.c.run == run).order_by(NONCES.c.nonce)
            return tuple(connection.execute(wanted).scalars())


def _use_up(connection: sa.Connection, run: str, nonces: Sequence[str]) -> None:
    wanted = sorted(set(nonces))
    for nonce in wanted:
        mine = upsert(connection, NONCES).values(nonce=nonce, run=run)
        # another transaction that uses the same one is waited for here
        connection.execute(mine.on_conflict_do_nothing())
    found = connection.execute(sa.select(NONCES.c.nonce, NONCES.c.run).where(NONCES.c.nonce.in_(wanted)))
    used = {row.nonce: row.run for row in found if row.run != run}
    if used:
        raise used_approvals(used)


def refuse_older(connection: sa.Connection, run: str, token: int) -> None:
    """Raises ``LeaseLost`` when the run belongs to a larger token; until the transaction ends no other can take it."""
    _not_older(connection, run, token, read=True)


def _not_older(connection: sa.Connection, run: str, token: int, *, read: bool = False) -> None:
    # SQLite has one writer at a time, and no such clause
    now = connection.execute(sa.select(RUNS.c.token).where(RUNS.c.id == run).with_for_update(read=read)).scalar()
    if now is None:
        raise no_run(run, _names(connection))
    if now > token:
        raise run_moved_on(run, token, int(now))


def _found(connection: sa.Connection, run: str) -> Run:
    row = connection.execute(sa.select(RUNS).where(RUNS.c.id == run)).one_or_none()
    if row is None:
        raise no_run(run, _names(connection))
    return _run(row)


def _names(connection: sa.Connection) -> tuple[str, ...]:
    return tuple(connection.execute(sa.select(RUNS.c.id).order_by(RUNS.c.started_us.desc()).limit(1000)).scalars())


def _insert(connection: sa.Connection, run: Run) -> Any:
    return upsert(connection, RUNS).values(
        id=run.id,
        estate=run.estate,
        environment=run.environment,
        digest=run.digest,
        purpose=run.purpose,
        commit_id=run.commit,
        plan=run.plan,
        token=run.token,
        holder=holder_text(run.holder),
        started_us=since_epoch(run.started_at),
        whole=int(run.whole),
        **_end(run),
    )


def _plain(value: str | bool) -> str | int:
    return int(value) if isinstance(value, bool) else str(value)


def _end(run: Run) -> dict[str, Any]:
    return {
        "state": str(run.state),
        "finished_us": since_epoch(run.finished_at) if run.finished_at is not None else None,
        "report": canonical(run.report).decode() if run.report is not None else None,
        "rest": run.rest,
    }


def _run(row: sa.Row[Any]) -> Run:
    return Run(
        id=row.id,
        estate=row.estate,
        environment=row.environment,
        digest=row.digest,
        purpose=row.purpose,
        commit=row.commit_id,
        plan=row.plan,
        token=row.token,
        holder=read_holder(row.holder),
        started_at=moment(row.started_us),
        whole=bool(row.whole),
        state=RunState(row.state),
        finished_at=moment(row.finished_us) if row.finished_us is not None else None,
        report=json.loads(row.report) if row.report is not None else None,
        rest=row.rest,
    )
