"""Codenames and numbers of Debian's releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from ismgr_automation.engines.advisories.releases import INSTALLED, KNOWN, codenames


def test_the_installed_list_adds_releases_that_we_do_not_know(tmp_path: Path) -> None:
    (tmp_path / "debian.csv").write_text(
        "version,codename,series,created\n17,Zurg,zurg,2031-01-01\n,Sid,sid,1993-08-16\n"
    )
    known = codenames(tmp_path / "debian.csv")
    assert (known["17"], known["12"], known["zurg"]) == ("zurg", "bookworm", "zurg")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n"])
def test_a_list_that_is_none_changes_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "debian.csv").write_bytes(content)
    assert codenames(tmp_path / "debian.csv") == codenames(tmp_path / "missing.csv")


def test_our_table_is_what_the_installed_list_says() -> None:
    if not INSTALLED.exists():
        pytest.skip("no distro-info-data on this machine: apt-get install distro-info-data")
    known = codenames()
    assert {number: known[number] for number in KNOWN} == KNOWN
