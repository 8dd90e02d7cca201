"""Reads the cases of tests/cases/patching, and builds what decisions are made of: one package ``demo`` of the source
``demo-src`` on one host, unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from ismgr_automation.estate.documents import Team
from ismgr_automation.estate.maintenance import Exemption, PatchBaseline
from ismgr_automation.patching.exemptions import Waivers
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.updates import Decider, Decision, Question
from ismgr_automation.ports.advisories import Advisories, Fix, Vulnerability
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Boot, HostFacts, Installed, Offered

CASES = Path(__file__).parent.parent / "cases" / "patching"
DAY = date(2026, 11, 20)
HOST = Host(name="db1", address="192.0.2.1", origin="", labels={"role": "db"}, site="dc1")
TEAM = Team.model_validate(
    {
        "kind": "Team",
        "name": "operations",
        "members": [
            {"name": "Ada", "email": "ada@example.org", "roles": ["approver"]},
            {"name": "Bob", "roles": ["author"]},
        ],
    }
)


def load(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((CASES / name).read_text())


def baseline(**fields: Any) -> PatchBaseline:
    given = {"name": "all", "selector": "true", "rules": [{"name": "everything", "when": "true"}], **fields}
    return PatchBaseline.model_validate({"kind": "PatchBaseline", **given})


def exemption(**fields: Any) -> Exemption:
    given = {
        "name": "carried",
        "scope": "true",
        "owner": "operations",
        "approver": "Ada",
        "reason": "the vendor is asked",
        "issued": date(2026, 11, 10),
        "expires": date(2026, 11, 30),
        **fields,
    }
    return Exemption.model_validate({"kind": "Exemption", **given})


def waivers(*documents: Exemption, day: date = DAY, teams: tuple[Team, ...] = (TEAM,)) -> Waivers:
    return Waivers({one.name: one for one in documents}, {one.name: one for one in teams}, day)


def installed(version: str, name: str = "demo", **fields: Any) -> Installed:
    given = {"architecture": "amd64", "source": "demo-src", "source_version": version, "section": "utils", **fields}
    return Installed(name=name, version=version, **given)


def offered(version: str, name: str = "demo", **fields: Any) -> Offered:
    given = {
        "architecture": "amd64",
        "source": "demo-src",
        "source_version": version,
        "digest": f"sha256:{version}",
        "origin": "Debian",
        "suite": "stable",
        **fields,
    }
    return Offered(name=name, version=version, **given)


def facts(packages: tuple[Installed, ...], offers: tuple[Offered, ...] = (), host: str = "db1") -> HostFacts:
    return HostFacts(
        host=host,
        read_at=datetime(2026, 11, 20, 6, tzinfo=UTC),
        distribution="debian",
        release="12",
        codename="bookworm",
        kernel="6.1.0",
        kernel_installed="",
        boot=Boot(boot_id="one", init_started=1),
        installed=packages,
        offered=offers,
    )


def advisories(cves: Mapping[str, Mapping[str, Any]]) -> Advisories:
    """``fixed``, ``release`` and ``affected`` are the fix's, all else the vulnerability's."""
    fixes = tuple(
        Fix(
            cve=cve,
            source="demo-src",
            release=said.get("release", "bookworm"),
            fixed=said.get("fixed", ""),
            affected=said.get("affected", True),
            urgency=said.get("urgency", ""),
        )
        for cve, said in cves.items()
    )
    own = ("severity", "published", "exploited", "epss")
    known = {
        cve: Vulnerability(cve=cve, **{key: said[key] for key in own if key in said}) for cve, said in cves.items()
    }
    return Advisories(fixes={"demo-src": fixes}, vulnerabilities=known)


def decided(case: Mapping[str, Any]) -> Decision | None:
    """What is decided of the one package of a case; None: it is not listed."""
    offers = tuple(offered(**{key: value for key, value in one.items() if key != "seen"}) for one in case["offered"])
    seen = {
        version_key(one): datetime.combine(said["seen"], datetime.max.time(), UTC)
        for one, said in zip(offers, case["offered"], strict=True)
        if "seen" in said
    }
    question = Question(
        baseline=baseline(**case.get("baseline", {})),
        advisories=advisories(case.get("cves", {})),
        waivers=waivers(*(exemption(**one) for one in case.get("exemptions", ()))),
        first_seen=seen,
        day=case.get("day", DAY),
    )
    package = installed(case["installed"], status=case.get("status", "ii"))
    found = Decider(question).decide(HOST, facts((package,), offers), case.get("data_classes", ()))
    return found[0].decision if found else None
