"""What is known of the vulnerabilities of a version: sources that differ, and what cannot be read."""

from __future__ import annotations

import pytest

from ismgr_automation.estate.maintenance import Severity
from ismgr_automation.patching.knowledge import WORST, Knowledge, worst_of
from ismgr_automation.ports.advisories import Advisories, Fix, Vulnerability


def _open(*fixes, version="1.0-1", **fields):
    said = tuple(Fix(**{"cve": "CVE-2026-1", "source": "demo", "release": "bookworm", **one}) for one in fixes)
    known = {"CVE-2026-1": Vulnerability(cve="CVE-2026-1", **fields)}
    return Knowledge(Advisories(fixes={"demo": said}, vulnerabilities=known)).open("demo", version, "bookworm")


@pytest.mark.parametrize(
    ("fixes", "fixed"),
    [
        ([{"fixed": "1.1-1"}], ["1.1-1"]),
        ([{"fixed": "1.1-1"}, {"fixed": "1.0-2"}], ["1.1-1"]),
        ([{"fixed": "1.1-1"}, {"fixed": ""}], ["1.1-1"]),
        ([{"fixed": "not a version"}], [""]),
        ([{"affected": False}], []),
        ([{"affected": False}, {"fixed": "1.1-1"}], ["1.1-1"]),
        ([{"fixed": "1.0-1"}], []),
        ([{"fixed": "1.1-1", "release": "trixie"}], []),
    ],
    ids=["one", "the later of two", "one says none", "unreadable", "never", "one says affected", "mended", "elsewhere"],
)
def test_a_vulnerability_is_open_until_all_sources_call_it_mended(fixes, fixed):
    assert [one.fixed for one in _open(*fixes)] == fixed


def test_an_installed_version_that_nobody_can_read_has_everything():
    assert len(_open({"fixed": "1.1-1"}, version="not a version")) == 1


@pytest.mark.parametrize(
    ("said", "urgency", "severity"),
    [
        ("high", "low", Severity.HIGH),
        ("", "low", Severity.LOW),
        ("unknown", "unimportant", Severity.NEGLIGIBLE),
        ("", "not yet assigned", Severity.UNKNOWN),
        ("moderate", "", Severity.UNKNOWN),
    ],
)
def test_a_severity_that_nobody_gave_is_unknown(said, urgency, severity):
    (hole,) = _open({"fixed": "1.1-1", "urgency": urgency}, severity=said)
    assert hole.severity is severity


def test_what_nobody_rated_hides_nothing_that_is_critical():
    assert set(WORST) == set(Severity)
    assert worst_of([Severity.UNKNOWN, Severity.CRITICAL]) is Severity.CRITICAL
    assert worst_of([Severity.UNKNOWN, Severity.HIGH]) is Severity.UNKNOWN
    assert worst_of([]) is None
