"""The estate's database over SQLite or PostgreSQL: what was applied, leases, runs and their steps, what was
patched. It remembers and arbitrates, and decides nothing about the world."""

from __future__ import annotations

from ismgr_automation.engines.database.connection import Database, open_database

__all__ = ["Database", "open_database"]
