"""Rounds and steps of runs. A step is written before its effect and after it, and an outcome that is written stays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ismgr_automation.core.json import Json, JsonObject, canonical
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.moments import moment
from ismgr_automation.engines.database.runs import refuse_older
from ismgr_automation.engines.database.schema import ROUNDS, STEPS
from ismgr_automation.engines.database.upsert import upsert
from ismgr_automation.ports.refusals import round_differs, unit_ended, unit_never_started
from ismgr_automation.ports.runs import Round, StepRecord, Unit


@dataclass(frozen=True, slots=True)
class DatabaseStepJournal:
    """A ``ports.runs.StepJournal``."""

    database: Database

    def open_round(self, run: str, round_: Round) -> None:
        """Write a round; the same once more is no mistake, another under its number is."""
        body = {"changes": _text(list(round_.changes)), "waves": _text([list(wave) for wave in round_.waves])}
        with self.database.write() as connection:
            put = upsert(connection, ROUNDS).values(run=run, number=round_.number, **body)
            written = put.on_conflict_do_nothing().returning(ROUNDS.c.number)
            if connection.execute(written).one_or_none() is not None:
                return
            there = sa.select(ROUNDS.c.changes, ROUNDS.c.waves)
            row = connection.execute(there.where(ROUNDS.c.run == run, ROUNDS.c.number == round_.number)).one()
        if (row.changes, row.waves) != (body["changes"], body["waves"]):
            raise round_differs(run, round_.number)

    def rounds(self, run: str) -> tuple[Round, ...]:
        """In order."""
        if self.database.absent:
            return ()
        with self.database.read() as connection:
            found = connection.execute(sa.select(ROUNDS).where(ROUNDS.c.run == run).order_by(ROUNDS.c.number)).all()
        return tuple(
            Round(
                number=row.number,
                changes=tuple(json.loads(row.changes)),
                waves=tuple(tuple(wave) for wave in json.loads(row.waves)),
            )
            for row in found
        )

    def started(self, unit: Unit, executor: str, token: int) -> None:
        """The unit is about to be done. One that was begun and has no outcome may begin again."""
        with self.database.write() as connection:
            refuse_older(connection, unit.run, token)
            begun = {"executor": executor, "token": token}
            put = upsert(connection, STEPS).values(
                run=unit.run,
                round=unit.round,
                key=unit.key,
                attempt=unit.attempt,
                started_us=self.database.moment().now_us,
                **begun,
            )
            again = put.on_conflict_do_update(
                index_elements=["run", "round", "key", "attempt"], set_=begun, where=STEPS.c.outcome.is_(None)
            )
            if connection.execute(again.returning(STEPS.c.ordinal)).one_or_none() is None:
                raise unit_ended(unit.id)

    def finished(self, unit: Unit, token: int, outcome: JsonObject, post_state: str = "") -> None:
        """The unit has ended; the first outcome stays."""
        with self.database.write() as connection:
            refuse_older(connection, unit.run, token)
            ended = {
                "finished_us": self.database.moment().now_us,
                "outcome": _text(outcome),
                "post_state": post_state,
                "token": token,
            }
            open_ = sa.and_(_step(unit), STEPS.c.outcome.is_(None))
            if connection.execute(sa.update(STEPS).where(open_).values(**ended)).rowcount == 1:
                return
            if connection.execute(sa.select(STEPS.c.ordinal).where(_step(unit))).one_or_none() is None:
                raise unit_never_started(unit.id)

    def steps(self, run: str) -> tuple[StepRecord, ...]:
        """In the order in which they were started."""
        if self.database.absent:
            return ()
        with self.database.read() as connection:
            found = connection.execute(sa.select(STEPS).where(STEPS.c.run == run).order_by(STEPS.c.ordinal)).all()
        return tuple(_record(row) for row in found)


def _step(unit: Unit) -> sa.ColumnElement[bool]:
    return sa.and_(
        STEPS.c.run == unit.run, STEPS.c.round == unit.round, STEPS.c.key == unit.key, STEPS.c.attempt == unit.attempt
    )


def _text(value: Json) -> str:
    return canonical(value).decode()


def _record(row: sa.Row[Any]) -> StepRecord:
    return StepRecord(
        unit=Unit(run=row.run, round=row.round, key=row.key, attempt=row.attempt),
        executor=row.executor,
        token=row.token,
        started_at=moment(row.started_us),
        finished_at=moment(row.finished_us) if row.finished_us is not None else None,
        outcome=json.loads(row.outcome) if row.outcome is not None else None,
        post_state=row.post_state,
    )
