"""``INSERT ... ON CONFLICT``: both databases have it under the same words, the library under two names."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert:
    """An insert that takes ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    if connection.dialect.name == "sqlite":
        # the two classes share these methods and no base that says so
        return sqlite.insert(table)  # type: ignore[return-value]
    return postgresql.insert(table)
