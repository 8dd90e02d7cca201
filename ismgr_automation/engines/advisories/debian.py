"""Debian's security tracker: which version of which source package mends which CVE in which release."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from pathlib import Path

from ismgr_automation.engines.advisories.findings import (
    Findings,
    Key,
    Said,
    combine,
    is_word,
    shortened,
    urgency_rating,
)
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.places import Mistakes
from ismgr_automation.engines.advisories.shapes import DEBIAN_ISSUES, DebianIssue, DebianRelease, fitted
from ismgr_automation.engines.advisories.unpack import json_of, text_of
from ismgr_automation.ports.advisories import Fix

RANK = 3
"""Debian has the last word on its own packages."""
NEVER_AFFECTED = "0"


def read(path: Path, name: str, releases: Collection[str], limits: Limits) -> Findings:
    """What the tracker says of these releases. Raises ``InputError`` with the place for what is not its JSON."""
    tree = json_of(text_of(path, name, limits), name)
    mistakes = Mistakes(name)
    fixes: dict[Key, Fix] = {}
    said: dict[str, Said] = {}
    entries = 0
    if not isinstance(tree, Mapping):
        mistakes.at_key((), "expected an object of source packages")
        tree = {}
    for source, raw in tree.items():
        if not is_word(source):
            mistakes.at_key((source,), "this is no name of a source package")
        issues = fitted(DEBIAN_ISSUES, raw, mistakes, (source,)) or {}
        for cve, issue in issues.items():
            entries += 1
            found = {fix.release: fix for fix in _fixes(source, cve, issue, releases, mistakes)}
            fixes |= {Key(source, cve, release): fix for release, fix in found.items()}
            if found:
                said[cve] = combine(said.get(cve, Said()), _said(issue, found.values()))
        if mistakes.full:
            break
    mistakes.raise_if_any("the JSON of Debian's security tracker")
    return Findings(rank=RANK, entries=entries, fixes=fixes, said=said)


def _fixes(source: str, cve: str, issue: DebianIssue, releases: Collection[str], mistakes: Mistakes) -> Iterator[Fix]:
    for release, state in issue.releases.items():
        if release not in releases:
            continue
        if state.status == "resolved" and not state.fixed_version:
            mistakes.at_key(
                (source, cve, "releases", release, "fixed_version"), "resolved, and no version says since when"
            )
            continue
        yield _fix(source, cve, release, state)


def _fix(source: str, cve: str, release: str, state: DebianRelease) -> Fix:
    affected = state.status != "resolved" or state.fixed_version != NEVER_AFFECTED
    fixed = state.fixed_version if affected and state.status == "resolved" else ""
    return Fix(cve=cve, source=source, release=release, fixed=fixed, affected=affected, urgency=state.urgency)


def _said(issue: DebianIssue, fixes: Collection[Fix]) -> Said:
    rated = (Said(rating=urgency_rating(fix.urgency)) for fix in fixes)
    return reduce(combine, rated, Said(summary=shortened(issue.description)))
