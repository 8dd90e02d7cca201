"""All formats together: what is said of a release, how old it is, and what a second reading reads."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.advisories import FileAdvisories, Limits
from ismgr_automation.estate.maintenance import AdvisoryFormat, Severity
from ismgr_automation.ports.advisories import Basis, Fix, Vulnerability
from tests.engines.advisories.site import START, Clock, samples, wanted


def test_all_sources_together_say_what_each_knows(reader: FileAdvisories, tmp_path: Path) -> None:
    found = reader.read(samples(tmp_path), ["bookworm"])
    assert found.vulnerabilities["CVE-2026-0001"] == Vulnerability(
        cve="CVE-2026-0001",
        summary="A heap overflow in the parser of certificates allows remote attackers to run code",
        severity="high",
        published=date(2026, 11, 18),
        exploited=date(2026, 11, 22),
        exploited_due=date(2026, 12, 13),
        epss=0.9421,
    )
    assert found.fixes["openssl"] == (
        Fix(
            cve="CVE-2026-0001",
            source="openssl",
            release="bookworm",
            fixed="3.0.13-1~deb12u1",
            urgency="not yet assigned",
        ),
        Fix(cve="CVE-2026-0002", source="openssl", release="bookworm", urgency="low**"),
        Fix(cve="TEMP-0000000-0A1B2C", source="openssl", release="bookworm", urgency="end-of-life"),
    )


def test_only_what_concerns_the_releases_is_told(reader: FileAdvisories, tmp_path: Path) -> None:
    found = reader.read(samples(tmp_path), ["bookworm"])
    assert set(found.fixes) == {"libevent", "nginx", "openssl"}
    assert "CVE-2026-9999" not in found.vulnerabilities
    assert reader.read(samples(tmp_path), ["sid"]).fixes["tzdata"][0].cve == "CVE-2026-0003"
    assert not reader.read(samples(tmp_path), []).fixes


def test_fixed_version_zero_means_that_the_release_never_had_it(reader: FileAdvisories, tmp_path: Path) -> None:
    (fix,) = reader.read([samples(tmp_path)[0]], ["trixie"]).fixes["openssl"]
    assert (fix.affected, fix.fixed) == (False, "")


def test_what_is_open_or_undetermined_is_affected_and_mended_by_no_version(
    reader: FileAdvisories, tmp_path: Path
) -> None:
    fixes = reader.read([samples(tmp_path)[0]], ["bookworm", "bullseye"]).fixes["openssl"]
    assert {(one.cve, one.release) for one in fixes if one.affected and not one.fixed} == {
        ("CVE-2026-0001", "bullseye"),
        ("CVE-2026-0002", "bookworm"),
        ("TEMP-0000000-0A1B2C", "bookworm"),
    }


def test_a_vulnerability_that_nobody_rated_has_no_severity(reader: FileAdvisories, tmp_path: Path) -> None:
    found = reader.read([samples(tmp_path)[0]], ["bookworm"]).vulnerabilities
    assert {cve: one.severity for cve, one in found.items()} == {
        "CVE-2026-0001": "",
        "CVE-2026-0002": "low",
        "TEMP-0000000-0A1B2C": "",
    }


def test_each_source_says_how_old_it_is_in_its_own_words_if_it_has_any(reader: FileAdvisories, tmp_path: Path) -> None:
    every = samples(tmp_path)
    os.utime(tmp_path / "debian.json", (1_700_000_000, 1_700_000_000))
    found = {one.format: one for one in reader.read(every, ["bookworm"]).sources}
    assert {form: one.dated for form, one in found.items()} == {
        "debian": datetime.fromtimestamp(1_700_000_000, UTC),
        "epss": datetime(2026, 11, 25, 12, 55, tzinfo=UTC),
        "kev": datetime(2026, 11, 24, 15, 0, tzinfo=UTC),
        "osv": datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
    }
    assert {form: one.basis for form, one in found.items() if one.basis is not Basis.DATA} == {"debian": Basis.FILE}
    assert {form: one.entries for form, one in found.items()} == {"debian": 4, "epss": 3, "kev": 2, "osv": 3}
    assert {one.fetched_at for one in found.values()} == {START}


def test_the_order_in_which_sources_are_named_makes_no_difference(reader: FileAdvisories, tmp_path: Path) -> None:
    every = samples(tmp_path)
    there = reader.read(every, ["bookworm", "trixie"])
    back = FileAdvisories(tmp_path / "other", now=lambda: START).read(every[::-1], ["trixie", "bookworm"])
    assert there == back


def test_a_second_reading_parses_nothing_and_says_the_same(tmp_path: Path, clock: Clock) -> None:
    every = samples(tmp_path)
    first = FileAdvisories(tmp_path / "cache", now=clock).read(every, ["bookworm"])
    before = {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    # what was kept is marked: whoever parsed again would not show the mark
    kept = json.loads(max(before.values(), key=lambda one: b'"vulnerabilities"' in one))
    kept["vulnerabilities"]["CVE-2026-0001"][0] = "kept"
    for path, content in before.items():
        if b'"vulnerabilities"' in content:
            path.write_text(json.dumps(kept))
    second = FileAdvisories(tmp_path / "cache", now=clock).read(every, ["bookworm"])
    assert second.vulnerabilities["CVE-2026-0001"].summary == "kept"
    assert (second.fixes, second.sources) == (first.fixes, first.sources)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"fixes": 1, "vulnerabilities": {}, "sources": {}}', b"\xff"])
def test_a_kept_result_that_is_damaged_is_made_again(reader: FileAdvisories, tmp_path: Path, damage: bytes) -> None:
    every = samples(tmp_path)
    first = reader.read(every, ["bookworm"])
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(damage)
    assert reader.read(every, ["bookworm"]) == first


def test_a_changed_file_is_read_anew_though_its_name_and_time_are_the_same(
    reader: FileAdvisories, tmp_path: Path
) -> None:
    debian = samples(tmp_path)[0]
    path = Path(debian.source)
    stamp = path.stat().st_mtime_ns
    first = reader.read([debian], ["bookworm"]).fixes["openssl"][0]
    path.write_text(path.read_text().replace("3.0.13-1~deb12u1", "3.0.14-1~deb12u1"))
    os.utime(path, ns=(stamp, stamp))
    assert reader.read([debian], ["bookworm"]).fixes["openssl"][0] == replace(first, fixed="3.0.14-1~deb12u1")


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    every = samples(tmp_path)
    assert FileAdvisories(tmp_path / "cache").read(every, ["bookworm"]).fixes["openssl"]


def test_a_file_url_is_a_path(reader: FileAdvisories, tmp_path: Path) -> None:
    (tmp_path / "a mirror").mkdir()
    samples(tmp_path / "a mirror")
    source = f"file://{tmp_path}/a%20mirror/debian.json"
    assert reader.read([wanted("debian", source)], ["bookworm"]).sources[0].source == source


@pytest.mark.parametrize(
    "source",
    ["ftp://mirror.example.org/x", "file://mirror.example.org/x", "https://me:word@mirror.example.org/x", "http://[/"],
)
def test_a_source_that_is_neither_web_nor_file_is_refused(reader: FileAdvisories, source: str) -> None:
    with pytest.raises(InputError) as refused:
        reader.read([wanted("debian", source)], ["bookworm"])
    assert refused.value.next_step
    assert "word" not in str(refused.value).replace("password", "")


def test_a_file_that_is_not_there_is_told_by_its_name(reader: FileAdvisories, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json cannot be read: there is no such file"):
        reader.read([wanted("debian", tmp_path / "missing.json")], ["bookworm"])


def test_formats_and_severities_are_those_of_the_estate(reader: FileAdvisories, tmp_path: Path) -> None:
    assert {one.format for one in samples(tmp_path)} == set(AdvisoryFormat)
    found = reader.read(samples(tmp_path), ["bookworm", "bullseye", "trixie"]).vulnerabilities
    assert {one.severity for one in found.values()} <= {*Severity, ""}


def test_limits_leave_room_for_the_real_trackers() -> None:
    assert Limits().file_bytes > 100_000_000
    assert Limits().members > 100_000
