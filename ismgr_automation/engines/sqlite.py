"""The estate's small database in one file: what was applied last. Remembers; decides nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import EngineFailed

SCHEMA = """
CREATE TABLE IF NOT EXISTS applied (
    environment TEXT NOT NULL,
    address TEXT NOT NULL,
    inputs TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (environment, address)
) STRICT
"""

BUSY_S = 10.0


class SqliteLedger:
    """A ``ports.ledger.Ledger`` in a SQLite file; the file is made when something is first recorded."""

    def __init__(self, path: Path, environment: str) -> None:
        self._path = path
        self._environment = environment

    def applied(self, address: Address) -> str | None:
        """The inputs that were applied last."""
        if not self._path.exists():
            return None
        with self._open() as connection:
            row = connection.execute(
                "SELECT inputs FROM applied WHERE environment = ? AND address = ?", (self._environment, str(address))
            ).fetchone()
        return str(row[0]) if row is not None else None

    def record(self, address: Address, inputs: str, commit: str) -> None:
        """Remember what landed."""
        now = datetime.now(UTC).isoformat()
        with self._open() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO applied VALUES (?, ?, ?, ?, ?)",
                (self._environment, str(address), inputs, commit, now),
            )

    def forget(self, address: Address) -> None:
        """Forget what is gone."""
        if not self._path.exists():
            return
        with self._open() as connection:
            connection.execute(
                "DELETE FROM applied WHERE environment = ? AND address = ?", (self._environment, str(address))
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own, with the table there, committed and closed at the end."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=BUSY_S)
            try:
                connection.execute(SCHEMA)
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise EngineFailed(
                f"The database {self._path} cannot be used: {error}.",
                engine="sqlite",
                subject=str(self._path),
                next_step="Mend the file or its folder; it only remembers what was applied last, so it may be removed.",
            ) from error
