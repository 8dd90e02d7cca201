"""Deciding for many hosts: values in, values out, no host asked. Run as a child process, so that time and memory are
its own: `python -m bench.decide 1000 300`."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from ismgr_automation.estate.documents import Team
from ismgr_automation.estate.maintenance import Exemption, PatchBaseline
from ismgr_automation.patching.exemptions import Waivers
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.status import Covered, status
from ismgr_automation.patching.steps import steps
from ismgr_automation.patching.updates import Decider, Question, Update
from ismgr_automation.ports.advisories import Advisories, Fix, Vulnerability
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Boot, HostFacts, Installed, Offered

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROLES = ("cache", "database", "edge", "mail", "web")
SEVERITIES = ("critical", "high", "medium", "low", "")
LEVELS = 3
"""How many versions of each package are in use: hosts differ in what is installed."""

BASELINE = PatchBaseline.model_validate(
    {
        "kind": "PatchBaseline",
        "name": "all",
        "selector": "true",
        "rules": [
            {"name": "never", "when": 'package.name == "package-7"', "then": "deny"},
            {"name": "exploited", "when": "package.exploited || package.epss > 0.5"},
            {"name": "databases", "when": 'host.labels.role == "database" && !package.security', "then": "defer"},
            {"name": "urgent", "when": 'package.severity in ["critical", "high", "unknown"]', "after": "1d"},
            {"name": "security", "when": "package.security", "after": "3d"},
            {"name": "others", "when": 'package.origin == "Debian"', "after": "7d"},
        ],
        "sla": {"data_classes": {"phi": {"critical": 7}}},
    }
)


def exemptions(count: int) -> dict[str, Exemption]:
    """Half of them for one host each, half for one package everywhere."""
    scopes = [
        f'host.name == "host-{number}" && cve == "CVE-2026-{number}"'
        if number % 2
        else f'package.source == "package-{number}" && cve != ""'
        for number in range(count)
    ]
    return {
        f"waiver-{number}": Exemption.model_validate(
            {
                "kind": "Exemption",
                "name": f"waiver-{number}",
                "scope": scope,
                "owner": "operations",
                "approver": "Ada",
                "reason": "measured",
                "issued": DAY - timedelta(days=5),
                "expires": DAY + timedelta(days=20),
            }
        )
        for number, scope in enumerate(scopes)
    }


def facts(host: str, number: int, packages: int, offered: int) -> HostFacts:
    """One reading, of which every text is its own, as after parsing. Hosts lag behind differently."""
    installed: list[Installed] = []
    offers: list[Offered] = []
    for index in range(packages):
        name, level = f"package-{index}", (index + number) % LEVELS
        version = f"1.{level}-1+deb12u1"
        installed.append(
            Installed(name=name, architecture="amd64", version=version, source=name, source_version=version)
        )
        if index < offered:
            offers.extend(_offer(name, version) for version in ("1.4-1+deb12u2", "1.5-1"))
    return HostFacts(
        host=host,
        read_at=NOON,
        distribution="debian",
        release="12",
        codename="bookworm",
        kernel="6.1.0-28-amd64",
        kernel_installed="6.1.0-28-amd64",
        boot=Boot(boot_id=host, init_started=1),
        installed=tuple(installed),
        offered=tuple(offers),
    )


def _offer(name: str, version: str) -> Offered:
    return Offered(
        name=name,
        architecture="amd64",
        version=version,
        source=name,
        source_version=version,
        digest=f"sha256:{name}-{version}",
        origin="Debian",
        suite="stable-security" if "deb12" in version else "stable",
    )


def advisories(packages: int) -> Advisories:
    """Two CVEs for each third package."""
    numbers = range(0, packages, 3)
    fixes = {
        f"package-{number}": tuple(
            Fix(cve=f"CVE-2026-{number}{part}", source=f"package-{number}", release="bookworm", fixed=fixed)
            for part, fixed in (("", "1.4-1"), ("9999", ""))
        )
        for number in numbers
    }
    known = {
        one.cve: Vulnerability(
            cve=one.cve, severity=SEVERITIES[at % len(SEVERITIES)], published=DAY - timedelta(days=at % 60)
        )
        for at, one in enumerate(fix for found in fixes.values() for fix in found)
    }
    return Advisories(fixes=fixes, vulnerabilities=known)


def measure(hosts: int, packages: int, offered: int) -> Iterator[tuple[str, float, int]]:
    """What was done, how many seconds it took, and how many updates there were."""
    machines = [
        Host(name=f"host-{number}", address="192.0.2.1", origin="", labels={"role": ROLES[number % len(ROLES)]})
        for number in range(hosts)
    ]
    read = [facts(one.name, number, packages, offered) for number, one in enumerate(machines)]
    team = Team.model_validate(
        {"kind": "Team", "name": "operations", "members": [{"name": "Ada", "roles": ["approver"]}]}
    )
    waived = exemptions(50)
    seen = {version_key(one): NOON - timedelta(days=5) for one in read[0].offered}
    known = advisories(packages)
    gc.collect()
    started = time.process_time()
    waivers = Waivers(waived, {"operations": team}, DAY)
    decider = Decider(Question(baseline=BASELINE, advisories=known, waivers=waivers, first_seen=seen, day=DAY))
    updates: list[Update] = []
    for number, (one, found) in enumerate(zip(machines, read, strict=True)):
        updates.extend(decider.decide(one, found, ("phi",) if number % 4 == 0 else ()))
    yield "decide", time.process_time() - started, len(updates)
    started = time.process_time()
    status(updates, Covered(hosts=[one.name for one in machines]), DAY)
    yield "status", time.process_time() - started, len(updates)
    started = time.process_time()
    made = steps(updates, {})
    yield "steps", time.process_time() - started, len(made)


def main() -> None:
    """Print a JSON list: what usually is on offer, and everything on offer at once."""
    hosts, packages = map(int, sys.argv[1:3])
    found = [
        {
            "name": f"{name}, {hosts} hosts x {packages} packages, {offered} of them on offer",
            "seconds": seconds,
            "count": n,
        }
        for offered in (packages // 8, packages)
        for name, seconds, n in measure(hosts, packages, offered)
    ]
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
