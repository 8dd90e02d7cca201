"""Advisories: what the world knows of vulnerabilities, read from files or URLs, with its date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """In one release of one distribution: from which version of a source package on a vulnerability is mended."""

    cve: str
    source: str
    """The source package."""
    release: str
    """The release's codename: ``bookworm``."""
    fixed: str = ""
    """The first version that is mended; empty: no version is."""
    affected: bool = True
    """False: this release never had it (Debian's ``<not-affected>``, fixed version 0)."""
    urgency: str = ""
    """In the source's own words: Debian's ``high``, ``medium``, ``low``, ``unimportant``, ``not yet assigned``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerability:
    """What is known of one CVE, over all sources. ``severity`` is one of the words of ``estate.maintenance.Severity``,
    or empty where nobody rated it."""

    cve: str
    summary: str = ""
    severity: str = ""
    score: float | None = None
    """CVSS base score, 0 to 10."""
    vector: str = ""
    """The CVSS vector that the score comes from."""
    published: date | None = None
    """When the first advisory appeared, as far as any source says."""
    exploited: date | None = None
    """Since when it stands in the catalog of known exploited ones."""
    exploited_due: date | None = None
    """By when that catalog wants it gone."""
    epss: float | None = None
    """Probability (0 to 1) of being exploited in the next 30 days."""


class Basis(StrEnum):
    """Where the date of a source comes from."""

    DATA = "data"
    """The data says it of itself: its release, its score date."""
    COMMIT = "commit"
    """The last commit that changed the file."""
    FILE = "file"
    """The time of the file."""
    ANSWER = "answer"
    """What the server said of its answer, or else the time when it was fetched."""
    NONE = "none"
    """Nobody knows how old it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRead:
    """One source as it was read. ``dated`` is what the data itself says (its release, its score date) or else the
    time that ``basis`` names; ``fetched_at`` when we got it."""

    source: str
    format: str
    digest: str
    dated: datetime | None
    fetched_at: datetime
    entries: int
    problem: str = ""
    """Why it could not be read anew, where an older copy was taken instead."""
    basis: Basis = Basis.DATA

    @property
    def since(self) -> datetime | None:
        """From when on its age counts; None where nobody knows."""
        return None if self.basis is Basis.NONE else self.dated or self.fetched_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisories:
    """Everything that was read, put together."""

    fixes: Mapping[str, tuple[Fix, ...]] = field(default_factory=dict)
    """By source package."""
    vulnerabilities: Mapping[str, Vulnerability] = field(default_factory=dict)
    """By CVE."""
    sources: tuple[SourceRead, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One source to read: ``format`` is a word of ``estate.maintenance.AdvisoryFormat``, ``source`` an absolute path or
    a URL."""

    format: str
    source: str


class AdvisoryReader(Protocol):
    """Reads sources. Raises ``InputError`` for a source that is not of its format (with the place in the file), and
    ``Unreachable`` for a URL that cannot be had and of which there is no older copy."""

    def read(self, wanted: Sequence[Wanted], releases: Sequence[str], *, fresh: bool = False) -> Advisories:
        """All sources together, only what concerns these releases (codenames). ``fresh``: ask URLs again, whatever the
        age of the copies."""
        ...
