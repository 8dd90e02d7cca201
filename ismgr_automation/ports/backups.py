"""What is asked of backups: what there is, one more, and whether what lies there can be restored. A restore goes into a
scratch folder that no client and no other machine can reach; what it proves is decided in ``recovery``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted


class BackupKind(StrEnum):
    """How much a backup holds of its own."""

    FULL = "full"
    DIFF = "diff"
    INCR = "incr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup of a database, as its repository tells of it."""

    label: str
    kind: BackupKind
    began_at: datetime
    ended_at: datetime
    size_bytes: int
    """Of the database that would be restored."""
    stored_bytes: int
    """Of what lies in the repository for it, all that it depends on included."""
    wal_first: str
    wal_last: str
    """The log without which it is no consistent database."""
    broken: bool = False
    """Pages of it had wrong checksums when it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a repository holds of one database. ``trouble`` is why it cannot be used, in the repository's own words;
    no backup at all is none of its troubles."""

    read_at: datetime
    """By the clock of the host that was asked."""
    cipher: str = ""
    trouble: str = ""
    backups: tuple[Backup, ...] = ()
    """The oldest first."""
    wal_first: str = ""
    wal_last: str = ""
    """The newest segment of the log in the archive."""
    newest_at: datetime | None = None
    """When that segment came into the archive: what was written before then should be restorable."""

    @property
    def latest(self) -> Backup | None:
        """The newest backup."""
        return self.backups[-1] if self.backups else None

    def last(self, kind: BackupKind) -> Backup | None:
        """The newest backup of a kind."""
        return next((one for one in reversed(self.backups) if one.kind is kind), None)

    @property
    def age(self) -> timedelta | None:
        """How old the newest write is that should be restorable, were there one in each moment: the backup's RPO as it
        is claimed. None without a backup or an archive."""
        if self.latest is None:
            return None
        moments = [one for one in (self.newest_at, self.latest.ended_at) if one is not None]
        return max(timedelta(), self.read_at - max(moments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where backups of one database are asked about: a host whose configuration knows the stanza."""

    fleet: Fleet
    host: str
    stanza: str
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """A copy of one backup below ``folder``, in a folder of the run's own. After ``deadline`` the host itself takes
    away whatever is left of it."""

    place: Place
    run: str
    label: str
    need_bytes: int
    """How much room there must be."""
    deadline: timedelta
    version: str
    """PostgreSQL's major version."""
    folder: str = "/var/lib/ismgr/restore"
    settings: Mapping[str, str] = field(default_factory=dict)
    """More of the scratch server's; none of them opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a query of the scratch server gave, or why it gave nothing."""

    ok: bool
    text: str


class Restoring(Protocol):
    """One restore, step by step. What fails is a result; raises ``Cancelled``. Nothing of it is reached over a network:
    its server has a socket in its own folder alone, archives nothing, and follows nobody."""

    def prepare(self) -> Acted:
        """Make room, and order its removal from the host before there is anything to remove."""
        ...

    def restore(self) -> Acted:
        """Bring the backup's files into place. Each file's checksum is compared on the way."""
        ...

    def recover(self) -> Acted:
        """Start the server, let it replay the archive to its end, and return when it takes queries as a primary. Its
        readings: ``position`` and ``segment_bytes`` (how far it got), ``timeline``, ``newest`` (the moment of the last
        commit that was replayed, as ISO 8601; empty for none), ``log`` (its last complaint)."""
        ...

    def isolated(self) -> Asked:
        """Whether no process of it has a socket of any network."""
        ...

    def ask(self, database: str, query: str) -> Asked:
        """The rows of a query, columns apart by ``|``."""
        ...

    def sound(self) -> Asked:
        """Whether every table and index is in itself consistent."""
        ...

    def remove(self) -> Acted:
        """Take everything away, and look. Safe to call at any time, and again; by whoever resumes as well."""
        ...

    def close(self) -> None:
        """Let go of connections. Safe to call twice."""
        ...


class Backups(Protocol):
    """Backups of databases."""

    def read(self, place: Place, context: Context) -> Catalogue:
        """What there is. Raises ``Unreachable``, ``EngineFailed`` for an answer that cannot be read, ``Cancelled``."""
        ...

    def take(self, place: Place, kind: BackupKind, context: Context) -> Acted:
        """Make a backup now."""
        ...

    def verify(self, place: Place, context: Context) -> Asked:
        """Read everything in the repository and compare its checksums."""
        ...

    def restoring(self, request: RestoreRequest, context: Context) -> Restoring:
        """A restore that has not begun."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesPlace:
    """Where files are kept from: a host, and its own settings of the repository, which hold the password."""

    fleet: Fleet
    host: str
    settings: str
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Files as they were at one moment."""

    id: str
    at: datetime
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesCatalogue:
    """What a repository holds of one host, the oldest first."""

    read_at: datetime
    snapshots: tuple[Snapshot, ...] = ()

    @property
    def age(self) -> timedelta | None:
        """That of the newest snapshot; None without one."""
        return max(timedelta(), self.read_at - self.snapshots[-1].at) if self.snapshots else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Files that were restored, beside those that are in use. ``same`` are files that nobody has written to since the
    snapshot, and that are the same; ``differ`` names those that should be and are not."""

    ok: bool
    words: str = ""
    files: int = 0
    size_bytes: int = 0
    same: int = 0
    differ: tuple[str, ...] = ()


class FilesRestoring(Protocol):
    """A restore of files, as ``Restoring``."""

    def read_all(self) -> Asked:
        """Read everything in the repository and compare its checksums."""
        ...

    def restore(self) -> Acted:
        """Bring the snapshot's files into a scratch folder."""
        ...

    def compare(self) -> Compared:
        """Compare them with those in use."""
        ...

    def remove(self) -> Acted:
        """As in ``Restoring``."""
        ...

    def close(self) -> None:
        """As in ``Restoring``."""
        ...


class FileBackups(Protocol):
    """Backups of files."""

    def read(self, place: FilesPlace, context: Context) -> FilesCatalogue:
        """What there is. Raises as ``Backups.read``."""
        ...

    def take(self, place: FilesPlace, context: Context) -> Acted:
        """Make a snapshot now."""
        ...

    def restoring(
        self, place: FilesPlace, snapshot: Snapshot, run: str, deadline: timedelta, context: Context
    ) -> FilesRestoring:
        """A restore that has not begun."""
        ...
