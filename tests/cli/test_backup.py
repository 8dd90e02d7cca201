"""`ismgr backup`, and a restore by `ismgr drill`, over a rehearsal: what a person reads and what the exit code says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.core.errors import ExitCode
from ismgr_automation.ports.memory.recovery import TICK_NS
from tests.cli.conftest import Say
from tests.drills import Drills, arrive, drills


@pytest.fixture
def site(tmp_path: Path) -> Drills:
    made = drills(tmp_path)
    files = "files: [{name: documents, group: webs, site: dc1}]"
    made.edit("recovery.yaml", "failover:\n", f"backup: {{stanza: records, fresh: 100d, {files}}}\nfailover:\n")
    made.pair.each_tick.append(lambda: arrive(made.pair))
    made.vault.clock = lambda: made.pair.tick * TICK_NS
    made.vault.work = lambda: made.pair.advance(10)
    return made


def test_status_is_a_table_with_a_line_for_each_backup(site: Drills, say: Say) -> None:
    said = say("backup", "status")
    assert said.code == ExitCode.DONE, said.err
    text = " ".join(said.out.split())
    assert "records database db2 11-02 11-02 00:01 0 s 2400 h 0.2 MB ok" in text
    assert "records documents web1 - 11-01 00:00 60 min 26 h - ok" in text
    assert site.vault.calls == ["read", "files read"]


def test_a_backup_that_is_missing_or_too_old_has_an_exit_code(site: Drills, say: Say) -> None:
    site.vault.catalogue = replace(site.vault.catalogue, backups=())
    said = say("--json", "backup", "status", "records")
    assert said.code == ExitCode.OBJECTIVE_MISSED
    assert (said.result["type"], said.result["backups"][0]["trouble"]) == ("backups", "there is no backup")


def test_an_estate_without_backups_says_so(site: Drills, say: Say) -> None:
    site.files["recovery.yaml"] = "\n".join(
        line for line in site.files["recovery.yaml"].splitlines() if not line.startswith("backup:")
    )
    assert "No RecoveryPlan says anything about backups." in say("backup", "status").out


def test_one_is_made_now(site: Drills, say: Say) -> None:
    said = say("--json", "backup", "run", "records", "--kind", "full")
    assert said.code == ExitCode.DONE, said.err
    assert said.result["backups"][0]["label"] == "20261103-010000F"
    site.vault.faults["take"] = "no space left"
    said = say("backup", "run", "records")
    assert said.code == ExitCode.ENGINE
    assert "no space left" in said.err


def test_a_restore_shows_steps_what_holds_and_what_does_not(site: Drills, say: Say) -> None:
    site.vault.faults["sound"] = "index x lacks a row"
    said = say("drill", "run", "records", "--mode", "restore", "--yes")
    assert said.code == ExitCode.OBJECTIVE_MISSED, said.err
    text = " ".join(said.out.split())
    assert "failed restore of records: a backup" in text
    assert "20261102-010000F of 2026-11-02 00:00 UTC, 1.0 MB, from db2 to db2, aes-256-cbc" in text
    assert "after the loss was declared" in text
    assert "archive holds" in text
    assert "sound index x lacks a row" in text
    assert "files documents 4 files, 4 the same in use" in text
    history = " ".join(say("drill", "history").out.split())
    assert "records restore failed" in history
