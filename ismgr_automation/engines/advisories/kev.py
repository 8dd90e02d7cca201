"""CISA's catalog of known exploited vulnerabilities: since when, and by when it wants them gone."""

from __future__ import annotations

from pathlib import Path

from ismgr_automation.engines.advisories.findings import Findings, Said, combine, shortened
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.places import Mistakes
from ismgr_automation.engines.advisories.shapes import KEV_CATALOG, fitted
from ismgr_automation.engines.advisories.unpack import json_of, text_of

RANK = 1


def read(path: Path, name: str, limits: Limits) -> Findings:
    """The whole catalog. Raises ``InputError`` with the place for what is not its JSON."""
    mistakes = Mistakes(name)
    catalog = fitted(KEV_CATALOG, json_of(text_of(path, name, limits), name), mistakes)
    mistakes.raise_if_any("CISA's catalog of known exploited vulnerabilities")
    said: dict[str, Said] = {}
    for entry in catalog.vulnerabilities if catalog else ():
        one = Said(summary=shortened(entry.vulnerabilityName), exploited=entry.dateAdded, exploited_due=entry.dueDate)
        said[entry.cveID] = combine(said.get(entry.cveID, one), one)
    return Findings(
        rank=RANK,
        entries=len(catalog.vulnerabilities) if catalog else 0,
        dated=catalog.dateReleased if catalog else None,
        said=said,
    )
