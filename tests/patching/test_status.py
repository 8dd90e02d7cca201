"""How an estate stands: counts and rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from ismgr_automation.core.json import canonical
from ismgr_automation.patching.sla import State
from ismgr_automation.patching.status import COLUMNS, Covered, cells, met, rows, status, tally_values, values
from ismgr_automation.patching.updates import Decider, Question
from tests.patching.cases import DAY, HOST, advisories, baseline, exemption, facts, installed, offered, waivers

CVES = {
    "CVE-2026-1": {"fixed": "1.1-1", "severity": "critical", "published": date(2026, 11, 1)},
    "CVE-2026-2": {"fixed": "1.1-1", "severity": "low", "published": date(2026, 11, 10)},
    "CVE-2026-3": {"severity": "high", "published": date(2026, 1, 1)},
    "CVE-2026-4": {"published": date(2026, 11, 1)},
}
WAIVER = exemption(scope='cve == "CVE-2026-3"')
COVERED = Covered(
    hosts=["db1", "db2", "web1"],
    groups={"dbs": ["db1", "db2"], "webs": ["web1", "elsewhere"]},
    services={"records": ["db1", "web1"]},
)


def _updates(hosts=("db1", "db2"), cves=CVES):
    decider = Decider(
        Question(baseline=baseline(), advisories=advisories(cves), waivers=waivers(WAIVER), first_seen={}, day=DAY)
    )
    offers = (offered("1.1-1"), offered("2.0-1", "other", source="other"))
    read = facts((installed("1.0-1"), installed("1.0-1", "other", source="other")), offers)
    return [one for name in hosts for one in decider.decide(replace(HOST, name=name), read)]


def _counts(tally):
    return {str(state): count for state, count in tally.counts.items() if count}


def test_everything_is_counted_by_host_group_service_and_severity():
    found = status(_updates(), COVERED, DAY)
    each = {"breached": 1, "ok": 1, "excepted": 1, "unknown": 1}
    twice = {name: 2 * count for name, count in each.items()}
    assert [(one.name, _counts(one)) for one in found.hosts] == [("db1", each), ("db2", each), ("web1", {})]
    assert [(one.name, _counts(one)) for one in found.groups] == [("dbs", twice), ("webs", {})]
    assert [(one.name, _counts(one)) for one in found.services] == [("records", each)]
    assert {one.name: _counts(one) for one in found.severities if any(one.counts.values())} == {
        "critical": {"breached": 2},
        "high": {"excepted": 2},
        "low": {"ok": 2},
        "unknown": {"unknown": 2},
    }
    assert _counts(found.total) == twice
    assert (found.total.updates, found.total.breaches) == (4, 4)


def test_the_oldest_due_day_is_that_of_what_is_not_excepted():
    found = status(_updates(), COVERED, DAY)
    assert found.total.oldest_due == date(2026, 11, 15)
    assert {one.name: one.oldest_due for one in found.severities if one.oldest_due} == {
        "critical": date(2026, 11, 15),
        "low": date(2027, 2, 8),
    }


@pytest.mark.parametrize(
    ("cves", "unread", "well"),
    [
        ({}, (), True),
        ({"CVE-2026-2": CVES["CVE-2026-2"]}, (), True),
        ({"CVE-2026-3": CVES["CVE-2026-3"]}, (), True),
        ({"CVE-2026-1": CVES["CVE-2026-1"]}, (), False),
        ({"CVE-2026-4": CVES["CVE-2026-4"]}, (), False),
        ({}, ("web1",), False),
        ({}, ("elsewhere",), True),
    ],
    ids=["nothing", "in time", "excepted", "breached", "unknown", "a host unread", "a host of others unread"],
)
def test_all_is_well_only_where_nothing_is_breached_or_unknown(cves, unread, well):
    found = status(_updates(cves=cves), replace(COVERED, unread=unread), DAY)
    assert met(found) is well


def test_a_host_that_was_not_read_counts_in_its_group():
    found = status(_updates(), replace(COVERED, unread=["web1"]), DAY)
    assert found.unread == ("web1",)
    assert [(one.name, one.unread) for one in found.groups] == [("dbs", 0), ("webs", 1)]


def test_there_is_a_row_for_each_vulnerability_and_for_an_update_that_has_none():
    found = list(rows(status(_updates(hosts=("db1",)), COVERED, DAY)))
    assert [(one.package, one.cve, one.state, one.days_left) for one in found] == [
        ("demo", "CVE-2026-1", State.BREACHED, -5),
        ("demo", "CVE-2026-2", State.OK, 80),
        ("demo", "CVE-2026-3", State.EXCEPTED, -293),
        ("demo", "CVE-2026-4", State.UNKNOWN, None),
        ("other", "", State.OK, None),
    ]
    assert found[2].exemptions == ("carried",)


def test_a_row_is_json_and_a_line_of_a_table():
    row = next(rows(status(_updates(hosts=("db1",)), COVERED, DAY)))
    assert tuple(values(row)) == COLUMNS
    assert canonical(values(row))
    told = dict(zip(COLUMNS, cells(row), strict=True))
    assert told["due"] == "2026-11-15"
    assert (told["cve"], told["state"], told["days_left"], told["exploited"]) == ("CVE-2026-1", "breached", "-5", "")


def test_a_tally_is_json():
    found = tally_values(status(_updates(), COVERED, DAY).total)
    assert canonical(found)
    assert found["breaches"] == 4
    assert found["oldest_due"] == "2026-11-15"
