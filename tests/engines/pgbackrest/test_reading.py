"""What pgBackRest 2.45 says, read: catalogues, times of segments, what ``verify`` found."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.pgbackrest.reading import archived_at, catalogue_of, verified
from ismgr_automation.ports.backups import BackupKind

NOW = "1795763710.25"
BACKUP: dict[str, Any] = {
    "archive": {"start": "000000010000000000000006", "stop": "000000010000000000000006"},
    "backrest": {"format": 5, "version": "2.45"},
    "database": {"id": 1, "repo-key": 1},
    "error": False,
    "info": {"delta": 30829425, "repository": {"delta": 4129376, "size": 4129376}, "size": 30829425},
    "label": "20261127-071015F",
    "lsn": {"start": "0/6000028", "stop": "0/6000100"},
    "prior": None,
    "reference": None,
    "timestamp": {"start": 1795763415, "stop": 1795763419},
    "type": "full",
}
INFO: dict[str, Any] = {
    "archive": [
        {
            "database": {"id": 1, "repo-key": 1},
            "id": "15-1",
            "max": "000000010000000000000006",
            "min": "000000010000000000000001",
        }
    ],
    "backup": [BACKUP],
    "cipher": "aes-256-cbc",
    "db": [{"id": 1, "repo-key": 1, "system-id": 7712743960396816567, "version": "15"}],
    "name": "records",
    "repo": [{"cipher": "aes-256-cbc", "key": 1, "status": {"code": 0, "message": "ok"}}],
    "status": {"code": 0, "lock": {"backup": {"held": False}}, "message": "ok"},
}


def said(**changed: Any) -> str:
    return f"{NOW}\n{json.dumps([{**INFO, **changed}])}\n"


def test_a_catalogue_has_backups_sizes_and_the_range_of_the_log() -> None:
    found, folder = catalogue_of(said(), "records")
    latest = found.latest
    assert latest is not None
    assert (latest.label, latest.kind, latest.broken) == ("20261127-071015F", BackupKind.FULL, False)
    assert (latest.size_bytes, latest.stored_bytes) == (30829425, 4129376)
    assert latest.ended_at == datetime(2026, 11, 27, 7, 10, 19, tzinfo=UTC)
    assert (found.wal_first, found.wal_last) == ("000000010000000000000001", "000000010000000000000006")
    assert (found.cipher, found.trouble) == ("aes-256-cbc", "")
    assert folder == "archive/records/15-1/0000000100000000"
    assert found.age == timedelta(seconds=291.25)


def test_the_newest_backup_is_the_last_one_and_each_kind_is_told_apart() -> None:
    later = {**BACKUP, "label": "20261127-071015F_20261127-073037I", "type": "incr"}
    found, _ = catalogue_of(said(backup=[later, BACKUP]), "records")
    assert found.latest is not None
    assert found.latest.kind is BackupKind.INCR
    assert found.last(BackupKind.FULL) == catalogue_of(said(), "records")[0].latest
    assert found.last(BackupKind.DIFF) is None


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no backup yet": ({"backup": [], "status": {"code": 2, "message": "no valid backups"}}, ""),
    "no such folder": (
        {
            "archive": [],
            "backup": [],
            "repo": [{"key": 1, "status": {"code": 1, "message": "missing stanza path"}}],
            "status": {"code": 1, "message": "missing stanza path"},
        },
        "missing stanza path",
    ),
    "a wrong pass phrase": (
        {
            "archive": [],
            "backup": [],
            "repo": [{"key": 1, "status": {"code": 99, "message": "[CryptoError] unable to flush"}}],
            "status": {"code": 99, "message": "other"},
        },
        "other; [CryptoError] unable to flush",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_repository_without_a_backup_has_no_age_and_a_damaged_one_says_why(name: str) -> None:
    changed, trouble = CASES[name]
    found, _ = catalogue_of(said(**changed), "records")
    assert (found.trouble, found.latest, found.age) == (trouble, None, None)


def test_a_stanza_that_nobody_knows_is_trouble() -> None:
    assert "knows no stanza records" in catalogue_of(f"{NOW}\n[]\n", "records")[0].trouble


@pytest.mark.parametrize("text", ["", "no json", f"{NOW}\n{{", said(backup=[{}]), said(status={}), "x\n[]"])
def test_what_cannot_be_read_is_an_error_and_no_guess(text: str) -> None:
    with pytest.raises(EngineFailed, match="cannot be read"):
        catalogue_of(text, "records")


def test_the_time_of_a_segment_is_that_of_its_file() -> None:
    folder = {
        ".": {"type": "path"},
        "000000010000000000000006-806768d8a9a7a21db49d0fc1a50ca76ad6aa0625.gz": {"type": "file", "time": 1795763419},
        "000000010000000000000006.00000028.backup": {"type": "file", "time": 1795763420},
    }
    assert archived_at(json.dumps(folder), "000000010000000000000006") == datetime(2026, 11, 27, 7, 10, 19, tzinfo=UTC)
    assert archived_at(json.dumps(folder), "000000010000000000000007") is None


WELL = """stanza: records
status: ok
  archiveId: 15-1, total WAL checked: 9, total valid WAL: 9
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
"""
DAMAGED = """stanza: records
status: error
  archiveId: 15-1, total WAL checked: 9, total valid WAL: 9
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: 20261127-071015F, status: invalid, total files checked: 1259, total valid files: 1258
    missing: 0, checksum invalid: 1, size invalid: 0, other: 0
"""


def test_verify_is_believed_only_when_it_says_ok() -> None:
    assert verified(WELL) == ""
    assert verified("") == "verify did not say how it is"
    assert verified(WELL.replace("ok", "error")) == "status error"
    assert "20261127-071015F, status: invalid" in verified(DAMAGED)
    assert "checksum invalid: 1" in verified(DAMAGED)
    assert "archiveId" not in verified(DAMAGED)
