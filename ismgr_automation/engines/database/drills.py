"""The results of drills: one environment's rows, as the JSON that they were given as."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.schema import DRILL_NOTES, DRILLS
from ismgr_automation.engines.database.upsert import upsert


@dataclass(frozen=True, slots=True)
class DatabaseDrillStore:
    """A ``ports.drills.DrillStore``."""

    database: Database
    environment: str

    def keep(self, run: str, plan: str, result: JsonObject) -> None:
        """Keep a result, in place of an earlier one of the same run."""
        row = {"plan": plan, "result": json.dumps(result)}
        with self.database.write() as connection:
            put = upsert(connection, DRILLS).values(environment=self.environment, run=run, **row)
            connection.execute(put.on_conflict_do_update(index_elements=["environment", "run"], set_=row))

    def results(self, plan: str = "", limit: int = 100) -> Sequence[JsonObject]:
        """Results, newest first: names of runs sort by time."""
        if self.database.absent:
            return ()
        wanted = sa.select(DRILLS.c.result).where(DRILLS.c.environment == self.environment)
        if plan:
            wanted = wanted.where(DRILLS.c.plan == plan)
        with self.database.read() as connection:
            rows = connection.execute(wanted.order_by(DRILLS.c.run.desc()).limit(limit)).scalars().all()
        return tuple(json.loads(row) for row in rows)

    def result(self, run: str) -> JsonObject | None:
        """The result of one run."""
        if self.database.absent:
            return None
        wanted = sa.select(DRILLS.c.result).where(DRILLS.c.environment == self.environment, DRILLS.c.run == run)
        with self.database.read() as connection:
            row = connection.execute(wanted).scalar_one_or_none()
        return json.loads(row) if row is not None else None

    def note(self, run: str, note: JsonObject) -> None:
        """Append what a person wrote down about a drill."""
        row = {"environment": self.environment, "run": run, "note": json.dumps(note)}
        with self.database.write() as connection:
            connection.execute(sa.insert(DRILL_NOTES).values(**row))

    def notes(self, run: str = "") -> Sequence[JsonObject]:
        """What was appended about one run, or about all, the oldest first."""
        if self.database.absent:
            return ()
        wanted = sa.select(DRILL_NOTES.c.note).where(DRILL_NOTES.c.environment == self.environment)
        if run:
            wanted = wanted.where(DRILL_NOTES.c.run == run)
        with self.database.read() as connection:
            wanted = wanted.order_by(DRILL_NOTES.c.number)
            return tuple(json.loads(row) for row in connection.execute(wanted).scalars())
