"""What is remembered between patch runs: since when a version is known to us, what hosts were like, what was installed
before, who was away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from ismgr_automation.core.events import Emit
from ismgr_automation.ports.packages import HostFacts, Move


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VersionKey:
    """What has an age: one file of one version of one package. Another digest is another thing, and begins anew."""

    source: str
    """Origin and package: ``Debian/openssl``."""
    version: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What two ledgers gave each other: entries that are new, or earlier, on each side now."""

    taken: int = 0
    given: int = 0


class FirstSeen(Protocol):
    """Since when versions are known to us, outside of the branches that plans read. Entries are only ever added."""

    def known(self, keys: Sequence[VersionKey]) -> Mapping[VersionKey, datetime]:
        """Those of the keys that were seen before, with when."""
        ...

    def ever(self, sources: Sequence[str]) -> Mapping[VersionKey, datetime]:
        """All that was ever seen of these (``VersionKey.source``), with when: also what nobody offers any more."""
        ...

    def see(self, keys: Sequence[VersionKey], now: datetime) -> int:
        """Remember keys that were never seen; those that were keep their time. Returns how many were new."""
        ...

    def everything(self) -> Mapping[VersionKey, datetime]:
        """All that was ever seen, with when."""
        ...

    def exchange(self, remote: str, emit: Emit) -> Exchanged:
        """Give what was seen here to a remote that others share, and take what they saw: of each entry the earlier
        time. Raises ``SettingsError`` for a remote that nobody named, and ``EngineError`` when it cannot be had."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A host that could not be reached when it was its turn."""

    host: str
    baseline: str
    since: datetime
    expires_at: datetime
    run: str = ""
    """The run that missed it; empty: it was away when the plan was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patched:
    """What one run did to one host's packages, for a rollback later."""

    run: str
    host: str
    at: datetime
    moves: tuple[Move, ...]
    """What was made; where that went wrong and nothing went back, what was begun too: it may have to be undone."""
    took: timedelta
    rebooted: bool = False
    restart: timedelta | None = None
    """How long the host was away for it."""
    rolled_back: str = ""
    """The run that undid it; empty: nobody did."""
    snapshot: str = ""
    """The snapshot that the host was put back to for it; empty: its packages went back, or nothing did."""


class PatchStore(Protocol):
    """What the database keeps of patching, for one environment. Raises ``EngineError``."""

    def facts(self, hosts: Sequence[str] | None = None) -> Mapping[str, HostFacts]:
        """The last reading of each host (of all without ``hosts``)."""
        ...

    def keep_facts(self, facts: Sequence[HostFacts]) -> None:
        """Keep readings; an older one of the same host is replaced."""
        ...

    def waiting(self) -> tuple[Waiting, ...]:
        """Who is in the queue, the longest waiting first."""
        ...

    def enqueue(self, waiting: Sequence[Waiting]) -> None:
        """Put hosts into the queue; who is there already keeps its place and its expiry."""
        ...

    def dequeue(self, hosts: Sequence[str]) -> None:
        """Take hosts out of the queue."""
        ...

    def patched(self, host: str | None = None, limit: int = 200, *, run: str | None = None) -> tuple[Patched, ...]:
        """What was done, the newest first; on one host, or by one run."""
        ...

    def keep_patched(self, patched: Sequence[Patched]) -> None:
        """Remember what a run did; the same run and host again replaces what was said before."""
        ...

    def durations(self, host: str, limit: int = 50) -> tuple[timedelta, ...]:
        """How long past runs took on a host, the newest first."""
        ...
