"""What the example says of vulnerabilities fits the packages that the lab offers, and its dates can be counted anew."""

from __future__ import annotations

import csv
import json
from datetime import date, timedelta

import pytest
import yaml

from ismgr_automation import shipped
from ismgr_automation.estate.maintenance import MOST_DAYS, Exemption, Severity
from ismgr_automation.lab import advisories, patches
from ismgr_automation.lab.advisories import ADVISORIES, EXEMPTIONS, SHIPPED_DAY

EXAMPLE = shipped.root() / "examples" / "two-sites"
TODAY = date(2027, 3, 1)


@pytest.mark.parametrize("name", advisories.files(SHIPPED_DAY))
def test_the_example_ships_what_would_be_written_on_its_day(name):
    assert (EXAMPLE / name).read_text() == advisories.files(SHIPPED_DAY)[name]


def test_every_vulnerability_is_mended_by_the_second_version_of_a_package():
    mended = {one.fields.get("Source", one.name): one.version for one in patches.SECOND}
    for one in ADVISORIES:
        assert mended[one.source] == one.fixed
    assert patches.YOUNG not in {one.source for one in ADVISORIES}


def test_all_four_formats_speak_of_the_same_vulnerabilities():
    files = advisories.files(TODAY)
    cves = {one.cve for one in ADVISORIES}
    tracker = json.loads(files["advisories/debian.json"])
    assert {cve for issues in tracker.values() for cve in issues} == cves
    records = {record["id"]: record for record in json.loads(files["advisories/osv.json"])}
    assert set(records) == cves
    assert [cve for cve, record in records.items() if "severity" not in record] == ["CVE-2026-90004"]
    assert records["CVE-2026-90001"]["published"].startswith(str(TODAY - timedelta(days=20)))
    (known,) = json.loads(files["advisories/kev.json"])["vulnerabilities"]
    assert (known["cveID"], known["dateAdded"]) == ("CVE-2026-90001", str(TODAY - timedelta(days=9)))
    rows = csv.DictReader(files["advisories/epss.csv"].splitlines()[1:])
    assert {row["cve"] for row in rows} == cves


def test_the_exemption_holds_today_and_not_longer_than_its_severity_allows():
    waiver = Exemption.model_validate(yaml.safe_load(advisories.files(TODAY)[EXEMPTIONS]))
    assert waiver.issued <= TODAY < waiver.expires
    assert (waiver.expires - waiver.issued).days <= MOST_DAYS[Severity.HIGH]


def test_dates_are_counted_anew_where_nobody_has_changed_the_file(tmp_path):
    for name, text in advisories.files(SHIPPED_DAY).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    own = "# ours by now\n" + (tmp_path / EXEMPTIONS).read_text()
    (tmp_path / EXEMPTIONS).write_text(own)
    assert {str(path) for path in advisories.renew(tmp_path, TODAY)} == set(advisories.files(TODAY)) - {EXEMPTIONS}
    assert (tmp_path / EXEMPTIONS).read_text() == own
    assert (tmp_path / "advisories/kev.json").read_text() == advisories.files(TODAY)["advisories/kev.json"]
    assert advisories.renew(tmp_path, TODAY + timedelta(days=1)) == (
        (advisories.Path("advisories/debian.json"),)  # it has no dates, and is what it was
    )
    assert (tmp_path / "advisories/kev.json").read_text() == advisories.files(TODAY)["advisories/kev.json"]


def test_an_estate_without_such_files_gets_none(tmp_path):
    assert advisories.renew(tmp_path, TODAY) == ()
    assert list(tmp_path.iterdir()) == []
