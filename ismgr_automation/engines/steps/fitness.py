"""Whether the SQLite under this Python can hold the rows of DBOS. Asked before anything is made."""

from __future__ import annotations

import os
import sqlite3
import sys

from ismgr_automation.core.errors import EngineMissing, SettingsError

NEEDED = (3, 42)
"""``unixepoch('subsec')``: what DBOS's tables ask for when Python adapts no dates for it any more (3.12 and later)."""
STRICT_PYTHON = (3, 12)
RETURNING = (3, 35)
"""``UPDATE .. RETURNING``, which every claim of a unit is."""


def check(
    url: str,
    python: tuple[int, ...] = tuple(sys.version_info[:2]),
    sqlite: tuple[int, ...] = sqlite3.sqlite_version_info,
) -> None:
    """Raise ``EngineMissing`` where launching would end in a riddle, and ``SettingsError`` where DBOS would believe
    that it runs in its vendor's cloud and ignore what we say."""
    if os.environ.get("DBOS__CLOUD"):
        raise SettingsError(
            "The environment variable DBOS__CLOUD is set; with it DBOS ignores which executor this is.",
            next_step="Unset it for ismgr.",
        )
    needed = NEEDED if python >= STRICT_PYTHON else RETURNING
    if url.startswith("sqlite") and sqlite < needed:
        raise EngineMissing(
            engine="SQLite",
            needed=f"{_dots(needed)} or later under Python {_dots(python)}, to keep the steps of runs",
            found=[f"SQLite {_dots(sqlite)} in {sys.executable}"],
            ways=[
                "installing ismgr under a Python that brings a newer SQLite (uv python install 3.12 does)",
                "running ismgr under Python 3.11, which works with SQLite 3.35",
                "giving the environment a PostgreSQL database: `database: postgresql://...` in estate.yaml",
            ],
        )


def _dots(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
