"""Where state is kept. Files are read straight from disk, which costs no process; any other backend is asked through
the engine. Nothing is ever removed here but the lock of an engine that is dead, and notes that it left half written."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.engines.pulumi.state import NEVER, Checkpoint

STACKS = Path(".pulumi", "stacks")
LOCKS = Path(".pulumi", "locks", "organization")
META = Path(".pulumi", "meta.yaml")
NOTE = ".attrs"
"""How the name of a note ends that the engine keeps beside each of its files: content type and checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackId:
    """A stack in a backend: stacks of one name may exist in several projects."""

    project: str
    name: str

    def __str__(self) -> str:
        return f"organization/{self.project}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Who holds a stack. ``dead`` is true when it was this host and the process is gone, None when we cannot know."""

    path: Path
    user: str
    host: str
    pid: int
    since: str
    dead: bool | None


class Backend(Protocol):
    """What we read of a backend."""

    def read(self, stack: StackId) -> Checkpoint:
        """The stack's record; ``NEVER`` when there is none."""
        ...

    def named(self, name: str) -> tuple[StackId, ...]:
        """Every stack of that name, in whatever project."""
        ...


class Cli(Protocol):
    """Runs the engine once and returns its standard output; None when it says that there is no such stack."""

    def __call__(self, *arguments: str) -> str | None:
        """Raises ``EngineError`` for anything else that goes wrong."""
        ...


def folder_of(url: str) -> Path | None:
    """The folder of a ``file://`` backend; None for any other backend."""
    parts = urlsplit(url)
    return Path(parts.netloc + parts.path).expanduser() if parts.scheme == "file" else None


@dataclass(frozen=True, slots=True)
class Files:
    """State in a folder, in the layout of the engine's file backend (``.pulumi/stacks/PROJECT/STACK.json``)."""

    root: Path

    def read(self, stack: StackId) -> Checkpoint:
        """The record in the stack's file. The engine replaces the file by a rename, so it is always a whole one."""
        path = self.file(stack)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return NEVER
        except OSError as problem:
            raise _unreadable(path, problem.strerror or str(problem)) from problem
        try:
            body = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
            return Checkpoint(body["checkpoint"].get("latest"))
        except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError) as problem:
            raise _unreadable(path, f"it is damaged: {problem}") from problem

    def named(self, name: str) -> tuple[StackId, ...]:
        """Every stack of that name, by looking into each project's folder."""
        files = {path.parent.name for ending in (".json", ".json.gz") for path in self.stacks.glob(f"*/{name}{ending}")}
        return tuple(StackId(project=project, name=name) for project in sorted(files))

    @property
    def stacks(self) -> Path:
        """The folder with one folder per project."""
        return self.root / STACKS

    def file(self, stack: StackId) -> Path:
        """The stack's file, compressed or not."""
        plain = self.stacks / stack.project / f"{stack.name}.json"
        packed = plain.with_name(plain.name + ".gz")
        return packed if packed.exists() else plain

    def locks(self, stack: StackId) -> tuple[Lock, ...]:
        """Who holds the stack now; usually nobody."""
        found = []
        for path in sorted((self.root / LOCKS / stack.project / stack.name).glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # it was given back just now
                found.append(_lock(path))
        return tuple(found)

    def release(self, stack: StackId, pid: int) -> None:
        """Remove the lock of an engine process of ours that is dead because we killed it."""
        for lock in self.locks(stack):
            if lock.pid == pid and lock.host == socket.gethostname():
                self.remove(lock)

    @staticmethod
    def remove(lock: Lock) -> None:
        """Remove a lock whose owner is dead."""
        lock.path.unlink(missing_ok=True)
        _note(lock.path).unlink(missing_ok=True)

    def remove_cut_short(self, stack: StackId) -> tuple[Path, ...]:
        """Remove notes that no engine can read: which ones. It writes them in place, so who is killed then leaves an
        empty one, and without a note the file itself can be read, with such a one it cannot ("failed to load
        checkpoint: EOF")."""
        notes = (_note(self.file(stack)), _note(self.root / META))
        found = tuple(one for one in notes if one.exists() and not _whole(one))
        for one in found:
            one.unlink(missing_ok=True)
        return found

    def snapshot(self, stack: StackId, checkpoint: Checkpoint, into: Path) -> None:
        """Make a backend of its own below ``into``: this stack as it was just read, the others as links for programs
        that refer to them. A preview there cannot write to the real one, and sees one moment of it."""
        target = Files(into)
        (target.stacks / stack.project).mkdir(parents=True)
        (into / META).write_text("version: 1\n")
        for path in self.stacks.glob("*/*.json*"):
            if path.suffix in {".json", ".gz"} and path != self.file(stack):
                link = target.stacks / path.relative_to(self.stacks)
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(path)
        write(target.stacks / stack.project / f"{stack.name}.json", stack, checkpoint)


def write(path: Path, stack: StackId, checkpoint: Checkpoint) -> None:
    """Write a stack's record as the engine would."""
    body = {"version": 3, "checkpoint": {"stack": str(stack), "latest": checkpoint.deployment}}
    path.write_text(json.dumps(body))


@dataclass(frozen=True, slots=True)
class Asked:
    """Any backend that is no folder: object stores, PostgreSQL, the vendor's service."""

    cli: Cli

    def read(self, stack: StackId) -> Checkpoint:
        """The record as ``pulumi stack export`` prints it, secrets encrypted."""
        text = self.cli("stack", "export", "--stack", str(stack))
        if text is None:
            return NEVER
        body: Mapping[str, Any] = json.loads(text)
        return Checkpoint(body.get("deployment") or {})

    def named(self, name: str) -> tuple[StackId, ...]:
        """Every stack of that name, as ``pulumi stack ls`` lists them."""
        listed = json.loads(self.cli("stack", "ls", "--all", "--json") or "[]")
        parts = [str(one["name"]).split("/") for one in listed]
        return tuple(StackId(project=one[-2], name=name) for one in parts if len(one) > 1 and one[-1] == name)


def _note(path: Path) -> Path:
    return path.with_name(path.name + NOTE)


def _whole(note: Path) -> bool:
    try:
        return isinstance(json.loads(note.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def _lock(path: Path) -> Lock:
    try:
        body = json.loads(path.read_text())
    except ValueError:
        body = {}
    pid, host = int(body.get("pid", 0)), str(body.get("hostname", ""))
    since = str(body.get("timestamp", ""))
    return Lock(
        path=path,
        user=str(body.get("username", "")),
        host=host,
        pid=pid,
        since=since,
        dead=_is_dead(pid, since) if host == socket.gethostname() else None,
    )


def _is_dead(pid: int, since: str) -> bool | None:
    """Gone, or the id belongs by now to another process, which started after the lock was taken. A clock that was set
    meanwhile moves that start, so an engine is never taken for another process."""
    import psutil

    try:
        owner = psutil.Process(pid)
        started, name = owner.create_time(), owner.name()
        taken = datetime.fromisoformat(since).astimezone(UTC).timestamp()
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError):
        return None
    later = started > taken + 1
    return None if later and "pulumi" in name else later


def _unreadable(path: Path, why: str) -> EngineFailed:
    return EngineFailed(
        f"The state file {path} cannot be read: {why}.",
        engine="pulumi",
        subject=str(path),
        untouched="Nothing was touched.",
        next_step=f"Look at the file; the engine keeps its previous version beside it in {path.name}.bak.",
    )


def ensure_folder(root: Path) -> None:
    """The state folder exists and is ours alone. Raises ``InputError`` when it cannot be made."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise InputError(f"The state folder {root} cannot be made: {problem.strerror}.") from problem
    if not os.access(root, os.W_OK | os.X_OK):
        raise InputError(f"The state folder {root} cannot be written.")
