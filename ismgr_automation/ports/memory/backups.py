"""Backups in memory: what a repository says it has, what a restore of it would hold, and the scratch folders that are
there. Nothing is kept or restored anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.ports.backups import (
    Asked,
    Backup,
    BackupKind,
    Catalogue,
    Compared,
    FilesCatalogue,
    FilesPlace,
    Place,
    RestoreRequest,
    Snapshot,
)
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Acted

SEGMENT_BYTES = 1 << 24
SOME_TIME = datetime(2026, 11, 1, tzinfo=UTC)


def memory_backup(number: int = 1, kind: BackupKind = BackupKind.FULL) -> Backup:
    """A small backup, made on that day."""
    began = SOME_TIME + timedelta(days=number)
    return Backup(
        label=f"{began:%Y%m%d}-010000{kind[0].upper()}",
        kind=kind,
        began_at=began,
        ended_at=began + timedelta(minutes=1),
        size_bytes=1 << 20,
        stored_bytes=1 << 18,
        wal_first="000000010000000000000006",
        wal_last="000000010000000000000006",
    )


class MemoryBackupWorld:
    """What there is. ``faults`` says why a step fails, by its name (``read``, ``take``, ``prepare``, ``restore``,
    ``recover``, ``isolated``, ``sound``, ``verify``, ``remove``; ``files read``, ``files restore`` and so on);
    ``deaths`` what is raised when it is asked for. ``position``, ``newest`` and ``log`` are what a recovery would come
    to, ``held`` the numbers of the client's writes that a restore would hold, ``answers`` what queries give, by their
    text. ``scratch`` has the folders that are there (``HOST RUN``); ``work`` is called with each step."""

    def __init__(self) -> None:
        """One backup with some log, and one snapshot."""
        self.catalogue = Catalogue(
            read_at=SOME_TIME + timedelta(days=1, minutes=2),
            cipher="aes-256-cbc",
            backups=(memory_backup(),),
            wal_first="000000010000000000000001",
            wal_last="000000010000000000000008",
            newest_at=SOME_TIME + timedelta(days=1, minutes=2),
        )
        self.position = 9 * SEGMENT_BYTES
        self.newest = ""
        self.log = ""
        self.held: Callable[[], frozenset[int]] = frozenset
        self.answers: dict[str, str] = {}
        self.files = FilesCatalogue(
            read_at=SOME_TIME + timedelta(hours=1),
            snapshots=(Snapshot(id="b43724c5", at=SOME_TIME, paths=("/srv/documents",)),),
        )
        self.compared = Compared(ok=True, files=4, size_bytes=600, same=4)
        self.faults: dict[str, str] = {}
        self.deaths: dict[str, BaseException] = {}
        self.scratch: set[str] = set()
        self.calls: list[str] = []
        self.clock: Callable[[], int] = lambda: 0
        self.work: Callable[[], None] = lambda: None

    def acted(self, name: str, context: Context) -> Acted:
        """One step, as its fault says."""
        began = self.clock()
        words = self.called(name, context)
        return Acted(ok=not words, began_ns=began, ended_ns=self.clock(), words=words)

    def called(self, name: str, context: Context) -> str:
        """Note a call, and why it fails; raises its death, or ``Cancelled``."""
        self.calls.append(name)
        if context.cancelled.is_set():
            raise Cancelled(f"{name} was stopped.", next_step="Run it again.")
        self.work()
        if name in self.deaths:
            raise self.deaths.pop(name)
        return self.faults.get(name, "")


@dataclass(frozen=True, slots=True)
class MemoryBackups:
    """``ports.backups.Backups``."""

    world: MemoryBackupWorld

    def read(self, place: Place, context: Context) -> Catalogue:  # noqa: ARG002  one repository
        """What the world says."""
        trouble = self.world.called("read", context)
        return replace(self.world.catalogue, trouble=trouble) if trouble else self.world.catalogue

    def take(self, place: Place, kind: BackupKind, context: Context) -> Acted:  # noqa: ARG002  one repository
        """One more, on the day after the last one."""
        done = self.world.acted("take", context)
        if done.ok:
            known = self.world.catalogue
            made = memory_backup(len(known.backups) + 1, kind)
            self.world.catalogue = replace(known, read_at=made.ended_at, backups=(*known.backups, made))
        return done

    def verify(self, place: Place, context: Context) -> Asked:  # noqa: ARG002  one repository
        """All is well, unless a fault says otherwise."""
        words = self.world.called("verify", context)
        return Asked(ok=not words, text=words)

    def restoring(self, request: RestoreRequest, context: Context) -> MemoryRestoring:
        """Begins nothing."""
        return MemoryRestoring(self.world, request, context)


@dataclass(frozen=True, slots=True)
class MemoryRestoring:
    """``ports.backups.Restoring``."""

    world: MemoryBackupWorld
    request: RestoreRequest
    context: Context

    @property
    def folder(self) -> str:
        """Its name in ``scratch``."""
        return f"{self.request.place.host} {self.request.run}"

    def prepare(self) -> Acted:
        """The folder is there afterwards; one that is there already is in the way."""
        done = self.world.acted("prepare", self.context)
        if self.folder in self.world.scratch:
            return replace(done, ok=False, words=f"{self.folder} is there already")
        if done.ok:
            self.world.scratch.add(self.folder)
        return done

    def restore(self) -> Acted:
        """As its fault says."""
        return self.world.acted("restore", self.context)

    def recover(self) -> Acted:
        """As far as the world says."""
        done = self.world.acted("recover", self.context)
        if not done.ok:
            return done
        world = self.world
        readings: dict[str, int | float | str | bool] = {
            "position": world.position,
            "segment_bytes": SEGMENT_BYTES,
            "timeline": 2,
            "newest": world.newest,
            "log": world.log,
        }
        return replace(done, readings=readings)

    def isolated(self) -> Asked:
        """As its fault says."""
        words = self.world.called("isolated", self.context)
        return Asked(ok=not words, text=words)

    def ask(self, database: str, query: str) -> Asked:  # noqa: ARG002  one database
        """The client's numbers, or what the world has for the text of the query."""
        words = self.world.called("ask", self.context)
        if words:
            return Asked(ok=False, text=words)
        if "to_regclass" in query:
            return Asked(ok=True, text="t")
        if query.startswith("SELECT number FROM"):
            return Asked(ok=True, text="\n".join(map(str, sorted(self.world.held()))))
        known = self.world.answers.get(query)
        return Asked(ok=known is not None, text=known if known is not None else "there is no such table")

    def sound(self) -> Asked:
        """As its fault says."""
        words = self.world.called("sound", self.context)
        return Asked(ok=not words, text=words)

    def remove(self) -> Acted:
        """The folder is gone, unless a fault says otherwise."""
        done = self.world.acted("remove", self.context)
        if done.ok:
            self.world.scratch.discard(self.folder)
        return done

    def close(self) -> None:
        """There is nothing to let go of."""


@dataclass(frozen=True, slots=True)
class MemoryFileBackups:
    """``ports.backups.FileBackups``."""

    world: MemoryBackupWorld

    def read(self, place: FilesPlace, context: Context) -> FilesCatalogue:  # noqa: ARG002  one repository
        """What the world says."""
        self.world.called("files read", context)
        return self.world.files

    def take(self, place: FilesPlace, context: Context) -> Acted:  # noqa: ARG002  one repository
        """As its fault says."""
        return self.world.acted("files take", context)

    def restoring(
        self,
        place: FilesPlace,
        snapshot: Snapshot,  # noqa: ARG002  one kind of files
        run: str,
        deadline: timedelta,  # noqa: ARG002  nobody waits
        context: Context,
    ) -> MemoryFilesRestoring:
        """Begins nothing."""
        return MemoryFilesRestoring(self.world, f"{place.host} {run} files", context)


@dataclass(frozen=True, slots=True)
class MemoryFilesRestoring:
    """``ports.backups.FilesRestoring``."""

    world: MemoryBackupWorld
    folder: str
    context: Context

    def read_all(self) -> Asked:
        """As its fault says."""
        words = self.world.called("files check", self.context)
        return Asked(ok=not words, text=words)

    def restore(self) -> Acted:
        """The folder is there afterwards."""
        done = self.world.acted("files restore", self.context)
        self.world.scratch.add(self.folder)
        return done

    def compare(self) -> Compared:
        """What the world says."""
        self.world.called("files compare", self.context)
        return self.world.compared

    def remove(self) -> Acted:
        """The folder is gone, unless a fault says otherwise."""
        done = self.world.acted("files remove", self.context)
        if done.ok:
            self.world.scratch.discard(self.folder)
        return done

    def close(self) -> None:
        """There is nothing to let go of."""
