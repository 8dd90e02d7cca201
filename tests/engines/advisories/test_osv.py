"""OSV records: which CVEs, packages and releases they mean, in which containers they come, and how they rate."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from datetime import date
from pathlib import Path

import pytest

from ismgr_automation.engines.advisories import FileAdvisories
from ismgr_automation.ports.advisories import Advisories, Fix
from tests.engines.advisories.site import CASES, wanted
from tests.house.sources import ROOT

RECORDS = [json.loads(path.read_text()) for path in sorted((CASES / "osv").iterdir())]


def record(**more: object) -> dict[str, object]:
    return {"id": "CVE-2026-0001", "modified": "2026-11-20T08:00:00Z"} | more


def affected(*events: dict[str, str], ecosystem: str = "Debian:12", **more: object) -> dict[str, object]:
    package = {"ecosystem": ecosystem, "name": "nginx"}
    return {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]} | more


def read(reader: FileAdvisories, folder: Path, *records: dict[str, object]) -> Advisories:
    path = folder / "records.json"
    path.write_text(json.dumps(records))
    return reader.read([wanted("osv", path)], ["bookworm", "trixie"])


def as_folder(path: Path) -> Path:
    (path / "deep").mkdir(parents=True)
    for number, one in enumerate(RECORDS):
        (path / ("deep" if number else ".") / f"{number}.json").write_text(json.dumps(one))
    (path / "README.md").write_text("no record")
    (path / ".hidden.json").write_text("no record")
    (path / ".git").mkdir()
    (path / ".git" / "inside.json").write_text("no record")
    return path


def as_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.md", "no record")
        for number, one in enumerate(RECORDS):
            archive.writestr(f"deep/{number}.json", json.dumps(one, indent=1))
    return path


def as_list(path: Path) -> Path:
    path.write_text(json.dumps(RECORDS, indent=2))
    return path


def as_lines(path: Path) -> Path:
    path.write_text("\n\n".join(json.dumps(one) for one in RECORDS) + "\n")
    return path


def as_packed_lines(path: Path) -> Path:
    path.write_bytes(gzip.compress(as_lines(path).read_bytes()))
    return path


@pytest.mark.parametrize("container", [as_folder, as_zip, as_list, as_lines, as_packed_lines])
def test_records_say_the_same_in_whichever_container_they_come(
    reader: FileAdvisories, tmp_path: Path, container: object
) -> None:
    found = reader.read([wanted("osv", container(tmp_path / "records"))], ["bookworm"])  # type: ignore[operator]
    plain = reader.read([wanted("osv", CASES / "osv")], ["bookworm"])
    assert (found.fixes, found.vulnerabilities) == (plain.fixes, plain.vulnerabilities)
    assert found.sources[0].entries == len(RECORDS)


def test_a_single_record_is_a_source_as_well(reader: FileAdvisories) -> None:
    found = reader.read([wanted("osv", CASES / "osv" / "DSA-0001-1.json")], ["bullseye"])
    assert [(one.cve, one.fixed) for one in found.fixes["nginx"]] == [
        ("CVE-2026-0001", "1.18.0-6.1+deb11u4"),
        ("CVE-2026-0004", "1.18.0-6.1+deb11u4"),
    ]


def test_a_withdrawn_record_is_left_out(reader: FileAdvisories) -> None:
    found = reader.read([wanted("osv", CASES / "osv")], ["bookworm"])
    assert "CVE-2026-0005" not in found.vulnerabilities


def test_an_advisory_with_a_fix_outweighs_a_record_that_knows_none(reader: FileAdvisories) -> None:
    found = reader.read([wanted("osv", CASES / "osv")], ["bookworm"])
    fix = next(one for one in found.fixes["nginx"] if one.cve == "CVE-2026-0004")
    assert fix == Fix(
        cve="CVE-2026-0004", source="nginx", release="bookworm", fixed="1.22.1-9+deb12u1", urgency="medium"
    )


def test_version_four_of_cvss_outweighs_version_three_though_it_is_milder(reader: FileAdvisories) -> None:
    found = reader.read([wanted("osv", CASES / "osv")], ["bookworm"]).vulnerabilities["CVE-2026-0004"]
    assert (found.severity, found.vector[:8], found.score) == ("medium", "CVSS:4.0", 6.9)
    assert (found.summary, found.published) == ("A request that never ends keeps a worker busy.", date(2026, 11, 10))


def test_the_score_of_a_record_of_several_is_nobodys_own(reader: FileAdvisories, tmp_path: Path) -> None:
    vector = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
    both = record(
        id="DSA-1",
        aliases=["CVE-2026-0001", "CVE-2026-0002"],
        severity=vector,
        affected=[affected({"introduced": "0"})],
    )
    found = read(reader, tmp_path, both).vulnerabilities
    assert [(one.severity, one.score, one.vector) for one in found.values()] == [("critical", None, "")] * 2
    alone = read(reader, tmp_path, both | {"aliases": ["CVE-2026-0001"]}).vulnerabilities["CVE-2026-0001"]
    assert (alone.severity, alone.score) == ("critical", 9.8)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"id": "CVE-2026-0007", "aliases": ["CVE-2026-0008"]}, ["CVE-2026-0007"]),
        ({"id": "DEBIAN-CVE-2026-0007", "upstream": ["CVE-2026-0007"]}, ["CVE-2026-0007"]),
        (
            {"id": "GHSA-x", "aliases": ["CVE-2026-0007"], "upstream": ["CVE-2026-0008"]},
            ["CVE-2026-0007", "CVE-2026-0008"],
        ),
        ({"id": "GHSA-x", "aliases": ["CVE-2026-0007"], "related": ["CVE-2026-0008"]}, ["CVE-2026-0007"]),
        ({"id": "DSA-1", "related": ["CVE-2026-0008"]}, ["CVE-2026-0008"]),
        ({"id": "DSA-1", "aliases": None}, ["DSA-1"]),
    ],
)
def test_a_record_is_about_the_cves_that_it_names(
    reader: FileAdvisories, tmp_path: Path, names: dict[str, object], expected: list[str]
) -> None:
    found = read(reader, tmp_path, record(**names, affected=[affected({"introduced": "0"})]))
    assert list(found.vulnerabilities) == expected


@pytest.mark.parametrize(
    ("ecosystem", "expected"),
    [
        ("Debian:12", ["bookworm"]),
        ("Debian:13", ["trixie"]),
        ("Debian:trixie", ["trixie"]),
        ("Debian", ["bookworm", "trixie"]),
        ("Debian:11", []),
        ("Debian:99", []),
        ("Ubuntu:22.04", []),
        ("PyPI", []),
    ],
)
def test_an_ecosystem_means_the_releases_of_its_number(
    reader: FileAdvisories, tmp_path: Path, ecosystem: str, expected: list[str]
) -> None:
    found = read(reader, tmp_path, record(affected=[affected({"introduced": "0"}, ecosystem=ecosystem)]))
    assert [one.release for one in found.fixes.get("nginx", ())] == expected


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([[{"introduced": "0"}, {"fixed": "1.9"}]], "1.9"),
        ([[{"introduced": "0"}, {"fixed": "1.9"}, {"introduced": "1.10"}, {"fixed": "1.10+deb12u1"}]], "1.10+deb12u1"),
        ([[{"fixed": "1.10"}, {"introduced": "1.10~rc1"}, {"fixed": "1.9"}, {"introduced": "0"}]], "1.10"),
        ([[{"introduced": "0"}, {"fixed": "1.9"}], [{"introduced": "0"}, {"fixed": "1:0.1"}]], "1:0.1"),
        ([[{"introduced": "0"}, {"fixed": "1.9"}], [{"introduced": "2.0"}]], ""),
        ([[{"introduced": "0"}, {"fixed": "1.9"}, {"introduced": "2.0"}]], ""),
        ([[{"introduced": "0"}, {"last_affected": "1.9"}]], ""),
    ],
)
def test_the_fix_is_the_version_after_which_nothing_is_affected(
    reader: FileAdvisories, tmp_path: Path, ranges: list[list[dict[str, str]]], expected: str
) -> None:
    made = affected() | {"ranges": [{"type": "ECOSYSTEM", "events": events} for events in ranges]}
    (fix,) = read(reader, tmp_path, record(affected=[made])).fixes["nginx"]
    assert (fix.fixed, fix.affected) == (expected, True)


def test_a_release_that_becomes_known_is_found_though_the_record_was_read_before(tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text(
        json.dumps(record(affected=[affected({"introduced": "0"}, ecosystem="Debian:17")]))
    )
    asked = [wanted("osv", tmp_path / "records.json")], ["zurg"]
    reader = FileAdvisories(tmp_path / "cache", installed=tmp_path / "debian.csv")
    assert not reader.read(*asked).fixes
    (tmp_path / "debian.csv").write_text("version,codename,series\n17,Zurg,zurg\n")
    assert [one.release for one in reader.read(*asked).fixes["nginx"]] == ["zurg"]


def test_ranges_of_commits_say_nothing_of_packages(reader: FileAdvisories, tmp_path: Path) -> None:
    commits = [{"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "deadbeef"}]}]
    assert not read(reader, tmp_path, record(affected=[affected(ranges=commits)])).fixes


def test_a_record_without_packages_of_ours_still_rates_its_cve(reader: FileAdvisories, tmp_path: Path) -> None:
    rating = record(id="GHSA-x", aliases=["CVE-2026-0001"], database_specific={"severity": "MODERATE"})
    found = read(reader, tmp_path, record(affected=[affected({"introduced": "0"})]), rating)
    assert found.vulnerabilities["CVE-2026-0001"].severity == "medium"
    assert not read(reader, tmp_path, rating).vulnerabilities


def test_the_record_that_the_page_shows_is_read_as_it_stands(reader: FileAdvisories, tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/advisories.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    found = read(reader, tmp_path, json.loads(shown))
    assert [(one.cve, one.fixed) for one in found.fixes["clinic-viewer"]] == [("CVE-2026-0001", "2.4-1")]
    assert found.vulnerabilities["CVE-2026-0001"].severity == "high"
