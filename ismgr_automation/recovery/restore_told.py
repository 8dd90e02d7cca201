"""What a restore was, as values: a part of a drill's result. Nothing is judged here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreStep:
    """One step, in milliseconds after the loss was declared."""

    name: str
    ok: bool
    began_ms: float
    ended_ms: float
    words: str = ""

    @property
    def took_ms(self) -> float:
        """Its length."""
        return self.ended_ms - self.began_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """Something that must hold of what was restored, and whether it did."""

    name: str
    ok: bool
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesTold:
    """Files that were restored. ``age_s``: how old their snapshot was when the loss was declared."""

    name: str
    host: str
    ok: bool
    snapshot: str = ""
    taken_at: datetime | None = None
    age_s: float | None = None
    files: int = 0
    size_bytes: int = 0
    same: int = 0
    """How many of them nobody has written to since, and are the same in use."""
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTold:
    """One restore of a database. Its RTO is ``rto_ms``: from the declared loss until what was restored took queries.
    Its RPO is ``age_s``: how old the newest write in it was then."""

    host: str
    """Where it was restored."""
    repository: str
    """The host of the repository."""
    stanza: str
    label: str = ""
    kind: str = ""
    taken_at: datetime | None = None
    cipher: str = ""
    size_bytes: int = 0
    wal_first: str = ""
    wal_last: str = ""
    """The newest segment of the archive, when the loss was declared."""
    position: int | None = None
    """How far the log was replayed, in bytes since its beginning."""
    timeline: int | None = None
    """The one that the restored server went on with."""
    rto_ms: float | None = None
    newest_number: int | None = None
    """The newest of the drill's own acknowledged writes that is in it."""
    newest_at: datetime | None = None
    age_s: float | None = None
    steps: tuple[RestoreStep, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    files: tuple[FilesTold, ...] = ()
