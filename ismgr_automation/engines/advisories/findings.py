"""What one source says, reduced to what is asked, and the rules by which several sources become one answer. Whatever
order they come in, the answer is the same. Reads and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import reduce
from typing import NamedTuple

from debian.debian_support import Version

from ismgr_automation.engines.advisories.places import plain
from ismgr_automation.engines.advisories.ratings import WORSE, Rating, word
from ismgr_automation.ports.advisories import Fix, Vulnerability

SUMMARY_LENGTH = 200
_VERSION = re.compile(r"(?:[0-9]+:)?[0-9A-Za-z][0-9A-Za-z.+~:-]*")
_WORD = re.compile(r"[!-~]{1,200}")
NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Key(NamedTuple):
    """What a ``Fix`` is about."""

    source: str
    cve: str
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one source says of one CVE."""

    summary: str = ""
    rating: Rating | None = None
    published: date | None = None
    exploited: date | None = None
    exploited_due: date | None = None
    epss: float | None = None
    epss_at: datetime = NEVER
    """When that probability was computed: of two, the newer counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """One source. ``rank`` says how much its word weighs where sources differ about the same fix or summary."""

    rank: int
    entries: int
    dated: datetime | None = None
    fixes: Mapping[Key, Fix] = field(default_factory=dict)
    said: Mapping[str, Said] = field(default_factory=dict)


def is_version(text: str) -> bool:
    """Whether a text is a version of a Debian package.

    >>> is_version("2:1.0~rc1-1+deb12u1"), is_version("1.0 beta")
    (True, False)
    """
    return _VERSION.fullmatch(text) is not None


def is_word(text: str) -> bool:
    """Whether a text can be the name of a package or of a vulnerability.

    >>> is_word("libc++"), is_word("a b")
    (True, False)
    """
    return _WORD.fullmatch(text) is not None


def shortened(text: str) -> str:
    r"""One line, cut between words.

    >>> shortened("A buffer\n overflow")
    'A buffer overflow'
    """
    line = " ".join(plain(text[: 2 * SUMMARY_LENGTH]).split())
    return line if len(line) <= SUMMARY_LENGTH else line[:SUMMARY_LENGTH].rpartition(" ")[0] + " ..."


def agree(one: Fix, other: Fix) -> Fix:
    """Of two sources of equal weight: affected outweighs not affected, a fix outweighs none, and of two fixes the
    higher version counts, which both call mended."""
    chosen = max(one, other, key=_strictness)
    worse = max(one.urgency, other.urgency, key=_urgency)
    return chosen if chosen.urgency == worse else replace(chosen, urgency=worse)


def combine(one: Said, other: Said) -> Said:
    """Two sources about one CVE, but for the summary, which is the first one's unless it has none."""
    newest = max(one, other, key=lambda said: (said.epss is not None, said.epss_at, said.epss or 0.0))
    return Said(
        summary=one.summary or other.summary,
        rating=_heavier(one.rating, other.rating),
        published=_earlier(one.published, other.published),
        exploited=_earlier(one.exploited, other.exploited),
        exploited_due=_earlier(one.exploited_due, other.exploited_due),
        epss=newest.epss,
        epss_at=newest.epss_at,
    )


def fixes_of(sources: Sequence[Findings]) -> Mapping[str, tuple[Fix, ...]]:
    """All fixes by source package, sorted. Where two sources speak of the same, the one of higher rank is believed."""
    kept: dict[Key, Fix] = {}
    for rank in sorted({one.rank for one in sources}):
        level: dict[Key, Fix] = {}
        for one in sources:
            if one.rank == rank:
                for key, fix in one.fixes.items():
                    level[key] = agree(level[key], fix) if key in level else fix
        kept |= level
    found: dict[str, list[Fix]] = {}
    for key in sorted(kept):
        found.setdefault(key.source, []).append(kept[key])
    return {source: tuple(fixes) for source, fixes in found.items()}


def vulnerabilities_of(cves: Iterable[str], sources: Sequence[Findings]) -> Mapping[str, Vulnerability]:
    """What all sources know of these CVEs, sorted."""
    found = {}
    for cve in sorted(set(cves)):
        said = [(one.rank, one.said[cve]) for one in sources if cve in one.said]
        said.sort(key=lambda ranked: (-ranked[0], ranked[1].summary))
        found[cve] = _vulnerability(cve, reduce(combine, (one for _rank, one in said), Said()))
    return found


def urgency_rating(urgency: str) -> Rating | None:
    """The rating in Debian's urgency, which any other rating outweighs."""
    return word(urgency, rank=0)


def _vulnerability(cve: str, said: Said) -> Vulnerability:
    return Vulnerability(
        cve=cve,
        summary=said.summary,
        severity=said.rating.severity if said.rating else "",
        score=said.rating.score if said.rating else None,
        vector=said.rating.vector if said.rating else "",
        published=said.published,
        exploited=said.exploited,
        exploited_due=said.exploited_due,
        epss=said.epss,
    )


def _strictness(fix: Fix) -> tuple[bool, bool, Version, str]:
    return fix.affected, bool(fix.fixed), Version(fix.fixed or "0"), fix.fixed


def _urgency(text: str) -> tuple[int, str]:
    rating = urgency_rating(text)
    return WORSE.index(rating.severity) if rating else -1, text


def _heavier(one: Rating | None, other: Rating | None) -> Rating | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda rating: rating.weight)


def _earlier(one: date | None, other: date | None) -> date | None:
    return min((day for day in (one, other) if day is not None), default=None)
