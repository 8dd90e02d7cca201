"""Exemptions as an OpenVEX document."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from ismgr_automation.core.json import canonical
from ismgr_automation.patching.updates import Decider, Question
from ismgr_automation.patching.vex import Issuer, document, purl
from tests.patching.cases import DAY, HOST, advisories, baseline, exemption, facts, installed, waivers

CVES = {name: {"severity": "high", "published": DAY} for name in ("CVE-2026-1", "CVE-2026-2", "CVE-2026-3")}
CARRIED = exemption(
    scope='cve == "CVE-2026-1"', compensating_control="The port is closed.", ticket="OPS-1", reason="no mended version"
)
UNTOUCHED = exemption(
    name="untouched", scope='cve == "CVE-2026-2"', justification="vulnerable_code_not_in_execute_path"
)
ISSUER = Issuer(author="operations", timestamp=datetime(2026, 11, 20, 12, tzinfo=UTC))


def _document(issuer=ISSUER, version="1:1.0-1+deb12u1", hosts=("db1", "db2")):
    documents = {one.name: one for one in (CARRIED, UNTOUCHED)}
    decider = Decider(
        Question(
            baseline=baseline(),
            advisories=advisories(CVES),
            waivers=waivers(*documents.values()),
            first_seen={},
            day=DAY,
        )
    )
    read = facts((installed(version),))
    updates = [one for name in hosts for one in decider.decide(replace(HOST, name=name), read)]
    return document(updates, documents, dict.fromkeys(hosts, read), issuer)


def test_only_what_is_exempt_is_told_with_its_status():
    found = _document()
    product = {"@id": "pkg:deb/debian/demo@1:1.0-1%2Bdeb12u1?arch=amd64&distro=debian-12"}
    assert found["@context"] == "https:" + "//openvex.dev/ns/v0.2.0"
    assert (found["author"], found["version"], found["timestamp"]) == ("operations", 1, "2026-11-20T12:00:00Z")
    assert found["statements"] == [
        {
            "vulnerability": {"name": "CVE-2026-1"},
            "products": [product],
            "status": "affected",
            "action_statement": "The port is closed. Exempted until 2026-11-30: no mended version",
            "status_notes": "exemption carried; owner operations; approved by Ada; ticket OPS-1",
        },
        {
            "vulnerability": {"name": "CVE-2026-2"},
            "products": [product],
            "status": "not_affected",
            "justification": "vulnerable_code_not_in_execute_path",
            "impact_statement": "the vendor is asked",
            "status_notes": "exemption untouched; owner operations; approved by Ada",
        },
    ]


def test_the_same_content_has_the_same_name_at_any_time_and_in_any_order():
    later = Issuer(author="operations", timestamp=ISSUER.timestamp + timedelta(days=1))
    assert _document()["@id"] == _document(later)["@id"] == _document(hosts=("db2", "db1"))["@id"]
    assert _document()["@id"] != _document(version="1:1.0-1+deb12u2")["@id"]


def test_the_name_is_the_uuid_of_the_content():
    found = _document()
    content = canonical({key: found[key] for key in ("author", "version", "statements")})
    assert found["@id"] == f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content.decode())}"


def test_packages_of_one_statement_come_in_order():
    seen = facts(tuple(installed("1.0-1", name) for name in "hgfedcba"))
    question = Question(
        baseline=baseline(), advisories=advisories(CVES), waivers=waivers(CARRIED), first_seen={}, day=DAY
    )
    (statement,) = document(Decider(question).decide(HOST, seen), {"carried": CARRIED}, {"db1": seen}, ISSUER)[
        "statements"
    ]
    names = [one["@id"].split("/")[2][0] for one in statement["products"]]
    assert names == list("abcdefgh")


def test_a_time_is_told_in_utc():
    east = datetime(2026, 11, 20, 13, tzinfo=timezone(timedelta(hours=1)))
    assert _document(Issuer(author="operations", timestamp=east)) == _document()


def test_signs_that_mean_something_in_a_url_are_escaped():
    found = purl("libstdc++6", "1.0~rc1-1+b1", "all", ("debian", "12"))
    assert found == "pkg:deb/debian/libstdc%2B%2B6@1.0~rc1-1%2Bb1?arch=all&distro=debian-12"
