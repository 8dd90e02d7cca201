"""Records of the Open Source Vulnerability format, as far as they are about Debian's packages or rate a CVE."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import cmp_to_key, reduce
from pathlib import Path
from typing import Any

from debian.debian_support import version_compare

from ismgr_automation.engines.advisories.findings import (
    Findings,
    Key,
    Said,
    agree,
    combine,
    is_version,
    is_word,
    shortened,
    urgency_rating,
)
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.places import Mistakes, plain
from ismgr_automation.engines.advisories.ratings import Rating, scored, word
from ismgr_automation.engines.advisories.releases import releases_of
from ismgr_automation.engines.advisories.shapes import (
    OSV_RECORD,
    OsvAffected,
    OsvEvent,
    OsvRange,
    OsvRecord,
    OsvSeverity,
    fitted,
)
from ismgr_automation.engines.advisories.unpack import json_of, texts_of
from ismgr_automation.ports.advisories import Fix

RANK = 2
_BEFORE_ALL = "0"
_CVE = re.compile(r"(?:DEBIAN-|UBUNTU-)?(?P<cve>CVE-[0-9]{4}-[0-9]{4,})")
_by_version = cmp_to_key(version_compare)


def read(path: Path, name: str, releases: Collection[str], limits: Limits, known: Mapping[str, str]) -> Findings:
    """What the records say of these releases; withdrawn ones are left out. ``known``: codenames by release number.

    Raises ``InputError`` with the place for what is no record.
    """
    mistakes = Mistakes(name)
    fixes: dict[Key, Fix] = {}
    said: dict[str, Said] = {}
    entries, dated = 0, None
    for file, keys, raw in _raw(path, name, limits):
        record = fitted(OSV_RECORD, raw, mistakes, keys, file)
        if mistakes.full:
            break
        if record is None:
            continue
        entries += 1
        dated = _later(dated, record.modified)
        if record.withdrawn is not None:
            continue
        reading = _Reading(record, mistakes, keys, file)
        for fix in reading.fixes(releases, known):
            key = Key(fix.source, fix.cve, fix.release)
            fixes[key] = agree(fixes[key], fix) if key in fixes else fix
        for cve, one in reading.said().items():
            # the summary of the first in the alphabet, so that the order of records does not matter
            pair = sorted((one, said.get(cve, one)), key=lambda each: each.summary)
            said[cve] = combine(*pair)
    mistakes.raise_if_any("made of OSV records")
    return Findings(rank=RANK, entries=entries, dated=dated, fixes=fixes, said=said)


def _raw(path: Path, name: str, limits: Limits) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Every record before it is looked at: its file, the keys that lead to it there, and itself."""
    for file, text in texts_of(path, name, limits):
        for line, part in _parts(text, file):
            tree = json_of(part, file, line)
            if isinstance(tree, list):
                yield from ((file, (index,), one) for index, one in enumerate(tree))
            else:
                yield file, (), tree


def _parts(text: str, file: str) -> Iterator[tuple[int, str]]:
    """The whole text, or its lines where each is a record of its own; each with the number of its first line."""
    head, _, rest = text.lstrip().partition("\n")
    if file.endswith((".jsonl", ".ndjson")) or (head.startswith("{") and head.rstrip().endswith("}") and rest.strip()):
        yield from ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    else:
        yield 1, text


class _Reading:
    """One record, and where its mistakes are noted."""

    def __init__(self, record: OsvRecord, mistakes: Mistakes, keys: tuple[int, ...], file: str) -> None:
        self._record = record
        self._mistakes = mistakes
        self._keys = keys
        self._file = file
        self._cves = _names(record)

    def fixes(self, releases: Collection[str], known: Mapping[str, str]) -> Iterator[Fix]:
        """One for each CVE, package and release."""
        for index, affected in enumerate(self._record.affected):
            package = affected.package
            meant = releases_of(package.ecosystem, releases, known) if package is not None else ()
            fixed = self._fixed(affected, index) if meant else None
            if package is None or fixed is None:
                continue
            if not is_word(package.name):
                self._wrong(("affected", index, "package", "name"), "this is no name of a source package")
                continue
            urgency = plain(_text(affected.ecosystem_specific, "urgency"))
            for release in meant:
                for cve in self._cves:
                    yield Fix(cve=cve, source=package.name, release=release, fixed=fixed, urgency=urgency)

    def said(self) -> Mapping[str, Said]:
        """Of each CVE the same. Several in one record share a word; a score and a summary are always those of one."""
        record = self._record
        summary = shortened(record.summary or record.details or "")
        ratings = [one for one in self._ratings() if one is not None]
        if len(self._cves) > 1:
            summary = ""
            ratings = [one if one.score is None else _worded(one) for one in ratings]
        common = Said(
            summary=summary,
            published=record.published.date() if record.published else None,
        )
        made = reduce(combine, (Said(rating=one) for one in ratings), common)
        return dict.fromkeys(self._cves, made)

    def _ratings(self) -> Iterator[Rating | None]:
        yield word(_text(self._record.database_specific, "severity"))
        yield from self._scored(self._record.severity, ("severity",))
        for index, affected in enumerate(self._record.affected):
            yield from self._scored(affected.severity, ("affected", index, "severity"))
            yield urgency_rating(_text(affected.ecosystem_specific, "urgency"))

    def _scored(self, severities: Collection[OsvSeverity], keys: tuple[str | int, ...]) -> Iterator[Rating | None]:
        for index, one in enumerate(severities):
            try:
                yield scored(one.type, one.score)
            except ValueError as problem:
                self._wrong((*keys, index, "score"), str(problem))

    def _fixed(self, affected: OsvAffected, index: int) -> str | None:
        """The version from which on nothing is affected any more, empty if there is none; None: nothing is said."""
        ends = [
            self._end(one, ("affected", index, "ranges", number, "events"))
            for number, one in enumerate(affected.ranges)
            if one.type == "ECOSYSTEM" and one.events
        ]
        if not ends:
            return "" if affected.versions else None
        return "" if "" in ends else max(ends, key=_by_version)

    def _end(self, one: OsvRange, keys: tuple[str | int, ...]) -> str:
        for number, event in enumerate(one.events):
            version = _version(event)
            if not is_version(version):
                self._wrong((*keys, number), "this names no version of a Debian package")
                return ""
        beginnings = [event.introduced for event in one.events if event.introduced is not None]
        if len(one.events) == len(beginnings) + 1 and set(beginnings) == {_BEFORE_ALL}:
            # nearly every range: comparing versions would take longer than all else
            return next((event.fixed or "" for event in one.events if event.introduced is None), "")
        last = max(one.events, key=lambda event: (_by_version(_version(event)), event.fixed is None))
        return last.fixed or ""

    def _wrong(self, keys: tuple[str | int, ...], summary: str) -> None:
        self._mistakes.at_key((*self._keys, *keys), summary, self._file)


def _version(event: OsvEvent) -> str:
    return event.fixed or event.introduced or event.last_affected or ""


def _names(record: OsvRecord) -> tuple[str, ...]:
    """The CVEs that a record is about. ``related`` ones count only where nothing else is said, as in advisories that
    were converted before OSV had ``upstream``; a record without any CVE is known by its own id."""
    for names in ((record.id,), (*record.aliases, *record.upstream), record.related):
        found = {match["cve"] for match in map(_CVE.fullmatch, names) if match}
        if found:
            return tuple(sorted(found))
    return (record.id,)


def _worded(rating: Rating) -> Rating:
    return word(rating.severity) or rating


def _text(values: Mapping[str, Any] | None, key: str) -> str:
    value = (values or {}).get(key)
    return value if isinstance(value, str) else ""


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
