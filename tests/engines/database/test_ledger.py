"""What was applied last, in a file: as the foundation wrote it, and as it is written today."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ismgr_automation.core.address import group
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.database import open_database
from ismgr_automation.engines.database.applied import DatabaseLedger
from ismgr_automation.engines.database.schema import VERSION

FOUNDATION = """
CREATE TABLE IF NOT EXISTS applied (
    environment TEXT NOT NULL,
    address TEXT NOT NULL,
    inputs TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (environment, address)
) STRICT
"""


def ledger_in(path: Path, environment: str) -> DatabaseLedger:
    return open_database(f"sqlite:///{path}").ledger(environment)


def test_a_file_of_the_foundation_is_upgraded_in_place_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "ismgr.db"
    with sqlite3.connect(path) as old:
        old.execute(FOUNDATION)
        old.execute("INSERT INTO applied VALUES ('lab', 'group/webs', 'sha256:1', 'abc', '2026-01-01T00:00:00+00:00')")
    database = open_database(f"sqlite:///{path}")
    assert database.ledger("lab").applied(group("webs")) == "sha256:1"
    assert database.leases.look("e/lab") is None
    assert ledger_in(path, "lab").applied(group("webs")) == "sha256:1"
    with sqlite3.connect(path) as now:
        assert now.execute("SELECT version FROM schema_version").fetchall() == [(VERSION,)]
        assert now.execute("SELECT commit_id, at FROM applied").fetchall() == [("abc", "2026-01-01T00:00:00+00:00")]


def test_a_file_of_a_newer_ismgr_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ismgr.db"
    ledger_in(path, "lab").record(group("webs"), "sha256:1", "abc")
    with sqlite3.connect(path) as newer:
        newer.execute("INSERT INTO schema_version VALUES (?, 'tomorrow')", (VERSION + 1,))
    before = path.read_bytes()
    with pytest.raises(EngineFailed, match=f"newer ismgr.*version {VERSION + 1}.*knows {VERSION}") as caught:
        ledger_in(path, "lab").record(group("webs"), "sha256:2", "abc")
    assert "newer ismgr" in caught.value.next_step
    assert path.read_bytes() == before


def damaged(folder: Path) -> Path:
    (folder / "ismgr.db").write_bytes(b"this is no database, whatever it says" * 100)
    return folder / "ismgr.db"


def taken_by_a_folder(folder: Path) -> Path:
    (folder / "ismgr.db").mkdir()
    return folder / "ismgr.db"


def below_a_file(folder: Path) -> Path:
    (folder / "kept").write_text("")
    return folder / "kept" / "ismgr.db"


@pytest.mark.parametrize("spoilt", [damaged, taken_by_a_folder, below_a_file], ids=lambda one: one.__name__)
def test_a_spoilt_ledger_is_an_engine_failure_that_names_the_file(
    tmp_path: Path, spoilt: Callable[[Path], Path]
) -> None:
    with pytest.raises(EngineFailed, match=r"ismgr\.db"):
        ledger_in(spoilt(tmp_path), "lab").record(group("webs"), "sha256:1", "abc")


def test_a_ledger_keeps_environments_apart_and_forgets(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "ismgr.db"
    lab, other = ledger_in(path, "lab"), ledger_in(path, "other")
    assert lab.applied(group("webs")) is None
    assert not path.exists()
    lab.record(group("webs"), "sha256:1", "abc")
    lab.record(group("webs"), "sha256:2", "abd")
    assert (lab.applied(group("webs")), other.applied(group("webs"))) == ("sha256:2", None)
    other.forget(group("webs"))
    assert lab.applied(group("webs")) == "sha256:2"
    lab.forget(group("webs"))
    assert lab.applied(group("webs")) is None


def test_two_readers_and_a_writer_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ismgr.db"
    ledger = ledger_in(path, "lab")
    ledger.record(group("webs"), "sha256:1", "abc")
    with sqlite3.connect(path) as held:
        held.execute("BEGIN")
        held.execute("SELECT * FROM applied").fetchall()
        assert ledger.applied(group("webs")) == "sha256:1"
