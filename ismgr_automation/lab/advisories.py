"""What the world says of the lab's packages, in the four formats in which it says so, and the waiver for one of them:
texts whose dates are counted from a day. Vulnerabilities and packages are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from ismgr_automation.core.json import JsonObject
from ismgr_automation.lab import patches

FOLDER, EXEMPTIONS = "advisories", "exemptions.yaml"
SHIPPED_DAY = date(2026, 11, 26)
"""The day that the example's own files are counted from."""
RELEASES: Mapping[str, str] = {"bookworm": "Debian:12", "trixie": "Debian:13"}
"""Codenames of the releases that are concerned, and what OSV calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """One vulnerability, and the version of a source package that mends it. ``age`` is in days since it was published;
    without a ``vector`` nobody has rated it; ``exploited`` is since how many days it is known to be."""

    cve: str
    source: str
    fixed: str
    summary: str
    age: int
    urgency: str
    epss: float
    vector: str = ""
    exploited: int | None = None


ADVISORIES: tuple[Advisory, ...] = (
    Advisory(
        cve="CVE-2026-90001", source=patches.AGENT, fixed="2.1", age=20, urgency="high", epss=0.91274, exploited=9,
        summary="records-agent runs what a record says before it is checked.",
        vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    ),
    Advisory(
        cve="CVE-2026-90002", source=patches.MOTD, fixed="1.1", age=28, urgency="medium", epss=0.02418,
        summary="records-motd shows names of records to whoever may log in.",
        vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N",
    ),
    Advisory(
        cve="CVE-2026-90003", source="records-utils", fixed="1:3.0-1+deb12u1", age=10, urgency="low", epss=0.00117,
        summary="records-tools follows links in its folder for temporary files.",
        vector="CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:L/I:L/A:L",
    ),
    Advisory(
        cve="CVE-2026-90004", source="records-utils", fixed="1:3.0-1+deb12u1", age=4, urgency="not yet assigned",
        epss=0.00043, summary="records-tools reads beyond the end of a record.",
    ),
    Advisory(
        cve="CVE-2026-90005", source=patches.BROKEN, fixed="1.1", age=6, urgency="medium", epss=0.00871,
        summary="records-broken restores archives outside of the folder that it was given.",
        vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:N/I:H/A:H",
    ),
    Advisory(
        cve="CVE-2026-90006", source=patches.AUDIT, fixed="1.4", age=12, urgency="medium", epss=0.00355,
        summary="records-audit lets an administrator of the application rewrite what was logged.",
        vector="CVSS:3.1/AV:N/AC:L/PR:H/UI:N/S:U/C:H/I:H/A:H",
    ),
)  # fmt: skip
"""One that is exploited and overdue, one that is due soon, two of one package of which nobody has rated one, that of
the update that fails, and that of the package with a waiver."""

_EXEMPTION = """\
# What is left unpatched, where, why, by whose leave, and until when.
kind: Exemption
name: audit-at-db1-dc1
scope: package.name == "records-audit" && host.name == "db1.dc1"
owner: registry
approver: ben@two-sites.test
reason: Version 1.4 writes another format, which the auditors' archive cannot read before its own update.
ticket: REC-231
compensating_control: Only two administrators can log in to the database, over the management network.
issued: {issued}
expires: {expires}
"""


def files(day: date) -> Mapping[str, str]:
    """Everything with a date, by path inside an estate, as it would be on a day."""
    texts = {
        f"{FOLDER}/debian.json": _json(_debian()),
        f"{FOLDER}/osv.json": _json([_osv(one, day) for one in ADVISORIES]),
        f"{FOLDER}/kev.json": _json(_kev(day)),
        f"{FOLDER}/epss.csv": _epss(day),
    }
    issued, expires = day - timedelta(days=6), day + timedelta(days=60)
    return {**texts, EXEMPTIONS: _EXEMPTION.format(issued=issued, expires=expires)}


def renew(estate: Path, today: date) -> tuple[Path, ...]:
    """Count the dates of files that are still as the example ships them from ``today``; returns their paths below
    ``estate``. What somebody has changed, and an estate without such files, stays as it is."""
    new = files(today)
    shipped = [
        name
        for name, text in files(SHIPPED_DAY).items()
        if (estate / name).is_file() and (estate / name).read_text() == text
    ]
    for name in shipped:
        (estate / name).write_text(new[name])
    return tuple(Path(name) for name in shipped)


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def _debian() -> JsonObject:
    found: dict[str, JsonObject] = {}
    for one in ADVISORIES:
        state: JsonObject = {"status": "resolved", "fixed_version": one.fixed, "urgency": one.urgency}
        issue: JsonObject = {
            "description": one.summary,
            "scope": "remote",
            "releases": {
                release: {**state, "repositories": {f"{release}-security": one.fixed}} for release in RELEASES
            },
        }
        found[one.source] = {**found.get(one.source, {}), one.cve: issue}
    return {**found}


def _osv(one: Advisory, day: date) -> JsonObject:
    published = f"{day - timedelta(days=one.age)}T08:00:00Z"
    record: JsonObject = {
        "schema_version": "1.6.0",
        "id": one.cve,
        "published": published,
        "modified": f"{day}T04:00:00Z",
        "summary": one.summary,
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": one.source},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": one.fixed}]}],
            }
            for ecosystem in RELEASES.values()
        ],
    }
    return {**record, "severity": [{"type": "CVSS_V3", "score": one.vector}]} if one.vector else record


def _kev(day: date) -> JsonObject:
    exploited = [(one, day - timedelta(days=one.exploited)) for one in ADVISORIES if one.exploited is not None]
    return {
        "title": "Catalog of known exploited vulnerabilities",
        "catalogVersion": f"{day:%Y.%m.%d}",
        "dateReleased": f"{day}T05:00:00Z",
        "count": len(exploited),
        "vulnerabilities": [
            {
                "cveID": one.cve,
                "vendorProject": "Two Sites",
                "product": one.source,
                "vulnerabilityName": one.summary,
                "dateAdded": str(added),
                "shortDescription": one.summary,
                "requiredAction": f"Update to {one.fixed} or later.",
                "dueDate": str(added + timedelta(days=7)),
                "knownRansomwareCampaignUse": "Unknown",
                "notes": "",
                "cwes": [],
            }
            for one, added in exploited
        ],
    }


def _epss(day: date) -> str:
    rows = "".join(f"{one.cve},{one.epss:.5f},{min(0.99, one.epss + 0.05):.5f}\n" for one in ADVISORIES)
    return f"#model_version:v2026.01.01,score_date:{day}T00:00:00+0000\ncve,epss,percentile\n{rows}"
