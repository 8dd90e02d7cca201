"""`ismgr patch ledger` over real repositories: what a person types, and what is said when a remote is not there."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.events import ignore
from ismgr_automation.engines.git.first_seen import GitFirstSeen
from ismgr_automation.ports.patching import VersionKey
from tests.cli.conftest import Say
from tests.rehearsal import Rehearsal

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
CURL = VersionKey(source="Debian/curl", version="8.1-1", digest="sha256:c")
OPENSSL = VersionKey(source="Debian/openssl", version="3.0.15-1", digest="sha256:0")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, timeout=60, capture_output=True)


@pytest.fixture
def other(site: Rehearsal, tmp_path: Path) -> GitFirstSeen:
    """Another machine, which shares a remote with the estate here."""
    git(tmp_path, "init", "-q", "--bare", "origin.git")
    for name in ("here", "there"):
        git(tmp_path, "clone", "-q", "origin.git", name)
    site.ledger = GitFirstSeen(tmp_path / "here", "clinic")
    return GitFirstSeen(tmp_path / "there", "clinic")


@pytest.mark.usefixtures("other")
def test_what_was_seen_is_listed_the_newest_first(site: Rehearsal, say: Say) -> None:
    assert "No such version was ever seen" in say("patch", "ledger", "show").out
    assert site.ledger is not None
    site.ledger.see([CURL], NOON)
    site.ledger.see([OPENSSL], NOON + timedelta(days=1))
    assert say("patch", "ledger", "show").out.splitlines() == [
        "2026-11-03 12:00  Debian/openssl 3.0.15-1  sha256:0",
        "2026-11-02 12:00  Debian/curl 8.1-1  sha256:c",
    ]
    assert "curl" not in say("patch", "ledger", "show", "open*").out
    assert say("patch", "ledger", "show", "-n", "1").out.endswith("and 1 version seen before; -n shows more\n")
    body = say("--json", "patch", "ledger", "show", "curl").result
    assert (body["type"], body["entries"]) == ("patch-ledger", 1)
    assert body["versions"] == [
        {
            "source": "Debian/curl",
            "version": "8.1-1",
            "digest": "sha256:c",
            "first_seen": "2026-11-02T12:00:00+00:00",
        }
    ]


def test_two_machines_share_what_they_saw(site: Rehearsal, say: Say, other: GitFirstSeen) -> None:
    assert site.ledger is not None
    other.see([CURL, OPENSSL], NOON)
    other.exchange("origin", ignore)
    site.ledger.see([CURL], NOON - timedelta(days=1))
    said = say("patch", "ledger", "sync")
    assert (said.code, said.out) == (0, "1 version taken from origin, 1 version given to it.\n")
    assert "push refs/ismgr/first-seen to origin" in said.err
    assert say("patch", "ledger", "sync").out.startswith("Both sides knew the same")
    other.exchange("origin", ignore)
    assert other.everything() == {CURL: NOON - timedelta(days=1), OPENSSL: NOON}
    lines = say("--json", "patch", "ledger", "sync").lines
    assert [one["step"] for one in lines if one["type"] == "step-reported"] == ["fetch"]
    assert {name: lines[-1][name] for name in ("type", "remote", "taken", "given")} == {
        "type": "patch-ledger-sync",
        "remote": "origin",
        "taken": 0,
        "given": 0,
    }


def test_a_remote_that_is_not_there_ends_with_what_to_do(say: Say, other: GitFirstSeen, tmp_path: Path) -> None:
    other.see([CURL], NOON)
    said = say("patch", "ledger", "sync", "--remote", "orign")
    assert (said.code, "origin" in said.err) == (1, True)
    (tmp_path / "origin.git").rename(tmp_path / "elsewhere.git")
    said = say("--json", "patch", "ledger", "sync")
    assert (said.code, said.result["reason"]) == (4, "unreachable")
    assert "git remote get-url origin" in said.result["next_step"]
