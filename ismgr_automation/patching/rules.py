"""What a baseline says of one version of one package: holds, pins, the deny list, and its rules in order."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import assert_never

from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.expressions import RULE, Expression, Given
from ismgr_automation.estate.maintenance import BaselineRule, PatchBaseline, Severity, Verdict
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.knowledge import Hole
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Installed, Offered


class Standing(StrEnum):
    """Where a package of a host stands."""

    APPROVE = "approve"
    DEFER = "defer"
    DENY = "deny"
    HELD = "held"
    """The host or the baseline holds it as it is."""
    PINNED = "pinned"
    """The baseline says the exact version, whether it is there or still has to come."""
    EXEMPT = "exempt"
    """It is left unpatched by an exemption."""
    UP_TO_DATE = "up-to-date"
    """Nothing newer is offered. It may have vulnerabilities all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What was decided of a version, by which rule, and why, for people. ``rule`` is empty where no rule decided."""

    standing: Standing
    rule: str = ""
    why: str

    @property
    def goes(self) -> bool:
        """Whether the version may be installed."""
        return self.standing is Standing.APPROVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One offered version beside what is installed, with all that rules may ask of it."""

    offered: Offered
    mends: tuple[Hole, ...]
    severity: Severity | None
    """The worst of what it mends; None: it mends nothing."""
    security: bool
    exploited: bool
    epss: float
    seen: date | None
    """The day (UTC) on which we saw it first."""
    age_days: int
    downgrade: bool = False


class Rules:
    """The rules of one baseline, compiled, as they are on one day."""

    def __init__(self, baseline: PatchBaseline, day: date) -> None:
        """Raises ``InputError`` for a rule that does not compile."""
        self._baseline = baseline
        self._day = day
        self._rules = tuple((one, Expression.compile(one.when, RULE)) for one in baseline.rules)
        self._deny = tuple((one, *one.partition("=")[::2]) for one in baseline.deny)
        self._givens: dict[Hashable, Given] = {}

    def standpoint(self, host: Host) -> tuple[Hashable, ...]:
        """What of a host the answers depend on."""
        given = Given.of(f"host {host.name}", host=host)
        return tuple(rule.standpoint(host, given) for _, rule in self._rules)

    def pin(self, package: str) -> str:
        """The exact version that a package must have; empty: there is no pin."""
        return self._baseline.pins.get(package, "")

    def may_downgrade(self, package: str) -> bool:
        """Whether the pin of a package may be older than what is installed."""
        return package in self._baseline.allow_downgrades

    def held(self, installed: Installed) -> Ruling | None:
        """Why a package stays as it is whatever is offered; None: nobody holds it."""
        if installed.held:
            return Ruling(standing=Standing.HELD, why="the host itself holds it (apt-mark hold)")
        for pattern in self._baseline.holds:
            if fnmatchcase(installed.name, pattern):
                why = f"baseline {self._baseline.name} holds {pattern}"
                return Ruling(standing=Standing.HELD, rule=pattern, why=why)
        return None

    def denied(self, package: str, version: str) -> Ruling | None:
        """Why a version is never installed, pinned or not; None: it is on no deny list."""
        for whole, name, pattern in self._deny:
            if fnmatchcase(package, name) and fnmatchcase(version, pattern or "*"):
                why = f"{version} is on the deny list of baseline {self._baseline.name} ({whole})"
                return Ruling(standing=Standing.DENY, rule=whole, why=why)
        return None

    def judge(self, host: Host, standpoint: tuple[Hashable, ...], installed: Installed, candidate: Candidate) -> Ruling:
        """What the first rule that holds says of a version. A rule that cannot be evaluated defers it."""
        denied = self.denied(installed.name, candidate.offered.version)
        if denied is not None:
            return denied
        asked = _asked(installed, candidate)
        hostless = self._given(installed, asked)

        def whole() -> Given:
            return Given.of(f"{installed.name} on {host.name}", host=host, package=asked)

        for (document, rule), point in zip(self._rules, standpoint, strict=True):
            try:
                holds = rule.holds_for(point, hostless, whole)
            except InputError as problem:
                why = f"rule {document.name} cannot be evaluated: {problem.summary}"
                return Ruling(standing=Standing.DEFER, rule=document.name, why=why)
            if holds:
                return self._said(document, candidate)
        return Ruling(standing=Standing.DEFER, why=f"no rule of baseline {self._baseline.name} holds for it")

    def _given(self, installed: Installed, asked: Mapping[str, object]) -> Given:
        """Values without a host, shared by all who ask the same."""
        key = tuple(asked.values())
        if key not in self._givens:
            self._givens[key] = Given.of(installed.name, package=asked)
        return self._givens[key]

    def _said(self, rule: BaselineRule, candidate: Candidate) -> Ruling:
        because = f": {rule.reason}" if rule.reason else ""
        match rule.then:
            case Verdict.APPROVE:
                return self._approved(rule, candidate, because)
            case Verdict.DEFER:
                return Ruling(standing=Standing.DEFER, rule=rule.name, why=f"rule {rule.name} defers it{because}")
            case Verdict.DENY:
                return Ruling(standing=Standing.DENY, rule=rule.name, why=f"rule {rule.name} denies it{because}")
            case _:
                assert_never(rule.then)

    def _approved(self, rule: BaselineRule, candidate: Candidate, because: str) -> Ruling:
        # what was never seen is seen today
        begun = candidate.seen or self._day
        from_day = begun + timedelta(days=math.ceil(duration(rule.after) / timedelta(days=1)))
        if self._day < from_day:
            why = f"too young: first seen on {begun}, rule {rule.name} approves it on {from_day}"
            return Ruling(standing=Standing.DEFER, rule=rule.name, why=why)
        return Ruling(standing=Standing.APPROVE, rule=rule.name, why=f"rule {rule.name} approves it{because}")


def _asked(installed: Installed, candidate: Candidate) -> Mapping[str, object]:
    """A package as rules see it."""
    offered = candidate.offered
    return {
        "name": installed.name,
        "source": offered.source,
        "version": offered.version,
        "installed": installed.version,
        "section": offered.section or installed.section,
        "origin": offered.origin,
        "suite": offered.suite,
        "severity": str(candidate.severity or ""),
        "cves": tuple(one.cve for one in candidate.mends),
        "security": candidate.security,
        "exploited": candidate.exploited,
        "epss": candidate.epss,
        "age_days": candidate.age_days,
        "downgrade": candidate.downgrade,
    }
