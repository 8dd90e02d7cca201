"""What was applied last, by environment and address. Explains a change; never decides one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from ismgr_automation.core.address import Address
from ismgr_automation.engines.database.connection import Database
from ismgr_automation.engines.database.schema import APPLIED
from ismgr_automation.engines.database.upsert import upsert


@dataclass(frozen=True, slots=True)
class DatabaseLedger:
    """A ``ports.ledger.Ledger``; a SQLite file is made when something is first recorded."""

    database: Database
    environment: str

    def applied(self, address: Address) -> str | None:
        """The inputs that were applied last."""
        if self.database.absent:
            return None
        with self.database.read() as connection:
            found = connection.execute(sa.select(APPLIED.c.inputs).where(self._row(address))).scalar_one_or_none()
        return str(found) if found is not None else None

    def record(self, address: Address, inputs: str, commit: str) -> None:
        """Remember what landed."""
        values = {"inputs": inputs, "commit_id": commit, "at": datetime.now(UTC).isoformat()}
        with self.database.write() as connection:
            put = upsert(connection, APPLIED).values(environment=self.environment, address=str(address), **values)
            connection.execute(put.on_conflict_do_update(index_elements=["environment", "address"], set_=values))

    def forget(self, address: Address) -> None:
        """Forget what is gone."""
        if self.database.absent:
            return
        with self.database.write() as connection:
            connection.execute(sa.delete(APPLIED).where(self._row(address)))

    def _row(self, address: Address) -> sa.ColumnElement[bool]:
        return sa.and_(APPLIED.c.environment == self.environment, APPLIED.c.address == str(address))
