"""Which vulnerabilities an installed version has, and what is known of each: advisories put in order for many
questions. What cannot be read counts as open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from ismgr_automation.estate.maintenance import Severity
from ismgr_automation.patching.versions import at_least, ordered
from ismgr_automation.ports.advisories import Advisories, Fix, Vulnerability

_URGENCIES: Mapping[str, Severity] = {
    "high": Severity.HIGH,
    "medium": Severity.MEDIUM,
    "low": Severity.LOW,
    "unimportant": Severity.NEGLIGIBLE,
}
"""Debian's own words, which count where nobody else has rated a vulnerability."""

WORST = (
    Severity.CRITICAL,
    Severity.UNKNOWN,
    Severity.HIGH,
    Severity.MEDIUM,
    Severity.LOW,
    Severity.NEGLIGIBLE,
)
"""From the worst on. What nobody rated may be critical; what is rated critical is not hidden behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """One CVE in one source package of one release."""

    cve: str
    fixed: str
    """The first source version without it; empty: there is none yet."""
    severity: Severity
    published: date | None = None
    exploited: date | None = None
    epss: float = 0.0

    def mended_by(self, source_version: str) -> bool:
        """Whether a version of the source package is without it."""
        return bool(self.fixed) and at_least(source_version, self.fixed)


def releases(advisories: Advisories) -> frozenset[str]:
    """The releases that any source speaks of, be it to say that they never had something. Of hosts of another release
    nobody knows what they have."""
    return frozenset(fix.release for fixes in advisories.fixes.values() for fix in fixes)


class Knowledge:
    """Advisories, with the severities of ours that replace theirs."""

    def __init__(self, advisories: Advisories, severities: Mapping[str, Severity] | None = None) -> None:
        self._advisories = advisories
        self._severities = severities or {}
        self._holes: dict[tuple[str, str], tuple[Hole, ...]] = {}
        self._open: dict[tuple[str, str, str], tuple[Hole, ...]] = {}

    def open(self, source: str, version: str, release: str) -> tuple[Hole, ...]:
        """What a version of a source package has in a release, by CVE."""
        key = (source, version, release)
        if key not in self._open:
            holes = self._of(source, release)
            self._open[key] = tuple(one for one in holes if not one.mended_by(version))
        return self._open[key]

    def _of(self, source: str, release: str) -> tuple[Hole, ...]:
        key = (source, release)
        if key not in self._holes:
            fixes: dict[str, list[Fix]] = {}
            for one in self._advisories.fixes.get(source, ()):
                # one source that says affected is enough
                if one.release == release and one.affected:
                    fixes.setdefault(one.cve, []).append(one)
            self._holes[key] = tuple(self._hole(cve, said) for cve, said in sorted(fixes.items()))
        return self._holes[key]

    def _hole(self, cve: str, said: list[Fix]) -> Hole:
        known = self._advisories.vulnerabilities.get(cve, Vulnerability(cve=cve))
        # sources that differ: the later version is the one that all call mended
        versions = ordered({one.fixed for one in said if one.fixed})
        return Hole(
            cve=cve,
            fixed=versions[-1] if versions else "",
            severity=self._severity(known, said),
            published=known.published,
            exploited=known.exploited,
            epss=known.epss or 0.0,
        )

    def _severity(self, known: Vulnerability, said: list[Fix]) -> Severity:
        if known.cve in self._severities:
            return self._severities[known.cve]
        if known.severity in set(Severity) - {Severity.UNKNOWN}:
            return Severity(known.severity)
        urgencies = [_URGENCIES[one.urgency] for one in said if one.urgency in _URGENCIES]
        return worst_of(urgencies) or Severity.UNKNOWN


def worst_of(severities: Iterable[Severity]) -> Severity | None:
    """The worst; None where there is none at all.

    >>> worst_of([Severity.HIGH, Severity.UNKNOWN]).value
    'unknown'
    """
    return min(severities, key=WORST.index, default=None)
