"""Hosts of a fleet share decisions: each gets what it would get alone, worked out plainly (``oracle``)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from ismgr_automation.estate.maintenance import PatchBaseline
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.updates import Decider, Question, Update
from ismgr_automation.ports.advisories import Advisories, Fix, Vulnerability
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import HostFacts, Installed, Offered
from tests.patching import oracle
from tests.patching.cases import DAY, baseline, exemption, facts, waivers

FLEETS = 150
NAMES = ["apt", "bash", "curl"]
VERSIONS = ["1.0-1", "1.0-1+deb12u1", "1.1-1~bpo12+1", "1.1-1", "1:0.1-1"]
OF_HOSTS = [
    *('host.labels.role == "db"', 'host.site == "dc1"', 'host.name == "host-1"', "has(host.labels.role)"),
    *('host.labels.role == package.name || host.site == "dc2"', '"dbs" in host.groups'),
]
OF_PACKAGES = ['package.name == "bash"', 'package.version == "1.1-1"', 'package.source.startsWith("src-c")']
OF_OFFERS = ["package.security", "package.age_days > 5", 'package.severity in ["high", "unknown"]', "true"]
ERRORS = ["int(package.name) > 0", "package.cves[1] != package.cves[0]", "int(host.labels.role) > 0"]
OF_CVES = ['cve == ""', 'cve == "CVE-2026-1"', 'cve != "CVE-2026-2"']


class Fleet:
    """A fleet by chance: few different things on many hosts, so that much is alike and little is equal."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)  # noqa: S311  a test wants repeatable choices
        self.packages = [self._package(name) for name in NAMES for _ in range(2)]
        self.offers = [self._offer(name) for name in NAMES for _ in range(3)]
        self.hosts = [self._host(f"host-{number}") for number in range(8)]

    def question(self) -> Question:
        """What is asked for all hosts."""
        scopes = [self._condition(OF_HOSTS, OF_PACKAGES, OF_CVES, OF_CVES) for _ in range(3)]
        scopes.append(f'({self.dice.choice(OF_HOSTS)}) && cve == ""')
        documents = [
            exemption(name=f"e{n}", scope=scope, approver=self.dice.choice(["Ada", "Ada", "Bob"]))
            for n, scope in enumerate(scopes)
        ]
        seen = {version_key(one): datetime(2026, 11, 20 - at, tzinfo=UTC) for at, one in enumerate(self.offers[:7])}
        return Question(
            baseline=self._baseline(),
            advisories=self._advisories(),
            waivers=waivers(*documents),
            first_seen=seen,
            day=DAY,
        )

    def facts(self, host: Host) -> HostFacts:
        """What is read of one host: some of the packages and some of what is on offer for them."""
        mine = {one.name: one for one in self.dice.sample(self.packages, 4)}
        found = facts(tuple(mine.values()), tuple(self.dice.sample(self.offers, 4)), host=host.name)
        return replace(found, codename=self.dice.choice(["bookworm", "bookworm", "trixie"]))

    def data_classes(self) -> tuple[str, ...]:
        """Those of one host."""
        return self.dice.choice([(), ("phi",)])

    def _condition(self, *kinds: list[str]) -> str:
        some = [self.dice.choice(one) for one in self.dice.sample(kinds, self.dice.randint(1, 3))]
        return self.dice.choice([" && ", " && ", " || "]).join(some)

    def _baseline(self) -> PatchBaseline:
        rules = [
            {"name": f"r{n}", "when": self._condition(OF_HOSTS, OF_PACKAGES, OF_OFFERS, OF_OFFERS, ERRORS)}
            | self.dice.choice([{"after": f"{3 * n}d"}, {"after": "0s"}, {"then": "defer"}, {"then": "deny"}])
            for n in range(4)
        ]
        return baseline(
            rules=rules,
            pins=self.dice.choice([{}, {}, {self.dice.choice(NAMES): self.dice.choice(VERSIONS)}]),
            holds=self.dice.choice([[], [], [], ["apt"], ["b*"]]),
            deny=self.dice.choice([[], [], ["curl"], ["*=1.1-1"], ["bash=1:*", "apt=1.1*"]]),
            allow_downgrades=self.dice.choice([[], NAMES]),
            severities=self.dice.choice([{}, {"CVE-2026-1": "critical"}]),
            sla={"profile": self.dice.choice(["cis", "hipaa-2025"]), "data_classes": {"phi": {"high": 3}}},
        )

    def _host(self, name: str) -> Host:
        role = self.dice.choice(["db", "web", "bash", "7", ""])
        return Host(
            name=name,
            address="192.0.2.1",
            origin="",
            labels={"role": role} if role else {},
            site=self.dice.choice(["dc1", "dc2"]),
            groups=self.dice.choice([(), ("dbs",)]),
        )

    def _package(self, name: str) -> Installed:
        version = self.dice.choice(VERSIONS[:4])
        return Installed(
            name=name,
            architecture="amd64",
            version=version,
            source=f"src-{name}",
            source_version=version,
            section=self.dice.choice(["", "libs"]),
            status=self.dice.choice(["ii", "ii", "ii", "hi"]),
        )

    def _offer(self, name: str) -> Offered:
        version = self.dice.choice(VERSIONS)
        return Offered(
            name=name,
            architecture="amd64",
            version=version,
            source=f"src-{name}",
            source_version=version,
            digest=f"sha256:{self.dice.choice('ab')}",
            origin="Debian",
            suite=self.dice.choice(["stable", "stable-security"]),
            candidate=self.dice.choice([True, False]),
        )

    def _advisories(self) -> Advisories:
        known: dict[str, Vulnerability] = {}
        fixes: dict[str, list[Fix]] = {}
        for number in range(6):
            cve, source = f"CVE-2026-{number}", f"src-{NAMES[number % 3]}"
            known[cve] = Vulnerability(
                cve=cve,
                severity=self.dice.choice(["critical", "high", "high", "low", ""]),
                published=self.dice.choice([None, DAY - timedelta(days=self.dice.randint(0, 40))]),
                exploited=self.dice.choice([None, None, DAY - timedelta(days=self.dice.randint(0, 40))]),
                epss=self.dice.choice([None, 0.25, 0.75]),
            )
            for release in self.dice.choice([["bookworm"], ["bookworm", "trixie"]]):
                fixed = self.dice.choice(["", *VERSIONS])
                fixes.setdefault(source, []).append(Fix(cve=cve, source=source, release=release, fixed=fixed))
        return Advisories(fixes={name: tuple(found) for name, found in fixes.items()}, vulnerabilities=known)


def _placeless(update: Update) -> Update:
    """An error names the host on which it was met first, whoever shares it."""
    ruling = update.decision.ruling
    why = re.sub(r" on host-\d", "", ruling.why)
    return replace(update, decision=replace(update.decision, ruling=replace(ruling, why=why)))


@pytest.mark.parametrize("seeds", [range(at, at + FLEETS // 5) for at in range(0, FLEETS, FLEETS // 5)], ids=str)
def test_every_host_of_a_fleet_gets_what_it_would_get_alone(seeds):
    for seed in seeds:
        fleet = Fleet(seed)
        question = fleet.question()
        decider = Decider(question)
        for host in fleet.hosts:
            read, data_classes = fleet.facts(host), fleet.data_classes()
            together = decider.decide(host, read, data_classes)
            alone = oracle.decided(question, host, read, data_classes)
            assert list(map(_placeless, together)) == list(map(_placeless, alone)), f"fleet {seed}, {host.name}"
