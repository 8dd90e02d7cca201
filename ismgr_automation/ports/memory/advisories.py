"""The double of a reader of advisories: hands out what it was given, and fails where it was told to. Opens nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.ports.advisories import Advisories, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAdvisories:
    """``ports.advisories.AdvisoryReader`` over ``known``. ``failing`` has the error of a source by its name, ``asked``
    notes the sources of each reading, and whether they were to be fresh."""

    known: Advisories = field(default_factory=Advisories)
    failing: dict[str, IsmgrError] = field(default_factory=dict)
    asked: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)

    def read(self, wanted: Sequence[Wanted], releases: Sequence[str], *, fresh: bool = False) -> Advisories:
        """What is known of these releases; of ``sources`` only those that are wanted."""
        names = tuple(one.source for one in wanted)
        self.asked.append((names, fresh))
        for name in names:
            if name in self.failing:
                raise self.failing[name]
        some = {
            source: tuple(fix for fix in fixes if fix.release in releases) for source, fixes in self.known.fixes.items()
        }
        fixes = {source: kept for source, kept in some.items() if kept}
        cves = {fix.cve for kept in fixes.values() for fix in kept}
        return Advisories(
            fixes=fixes,
            vulnerabilities={cve: one for cve, one in self.known.vulnerabilities.items() if cve in cves},
            sources=tuple(one for one in self.known.sources if one.source in names),
        )
