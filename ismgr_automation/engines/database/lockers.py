"""Which processes of this machine have a SQLite file locked: the kernel's own list of locks, looked up by the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

LOCKS = Path("/proc/locks")
BESIDE = ("-wal", "-shm")
"""Where SQLite keeps the locks of a file with a write-ahead log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locker:
    """A process that has the file locked. ``stopped``: it was paused (``SIGSTOP``, Ctrl-Z) and goes on with SIGCONT."""

    pid: int
    command: str
    stopped: bool

    def __str__(self) -> str:
        """As words for people.

        >>> str(Locker(pid=42, command="ismgr apply", stopped=True))
        'process 42 (ismgr apply), which is stopped'
        """
        return f"process {self.pid} ({self.command}){', which is stopped' if self.stopped else ''}"


def lockers(path: Path) -> tuple[Locker, ...]:
    """Who has a write lock on the file, or on what lies beside it; in the order of process ids, without ourselves.

    Empty where the kernel does not tell: another system, a process of another container, a file system that hides
    which file is meant.
    """
    files = {one for suffix in ("", *BESIDE) if (one := _identity(path.with_name(path.name + suffix))) is not None}
    pids = {pid for pid, identity in _locks() if identity in files} - {os.getpid()}
    return tuple(found for pid in sorted(pids) if (found := _look(pid)) is not None)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return os.major(found.st_dev), os.minor(found.st_dev), found.st_ino


def _locks() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Process and file of every write lock; a row ``1: POSIX  ADVISORY  WRITE 4711 fe:00:131 0 EOF``."""
    try:
        rows = LOCKS.read_text()
    except OSError:
        return
    # who only waits has an arrow in front
    for pid, file in re.findall(r"^\d+: \w+ +\w+ +WRITE (\d+) (\S+)", rows, re.MULTILINE):
        major, minor, inode = file.split(":")
        yield int(pid), (int(major, 16), int(minor, 16), int(inode))


def _look(pid: int) -> Locker | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            command = _command(process.cmdline()) or process.name()
            stopped = process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
            return Locker(pid=pid, command=command, stopped=stopped)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _command(words: list[str]) -> str:
    """The program and its subcommands, without interpreter, folders and options: values are nobody's business.

    >>> _command(["/usr/bin/python3", "/opt/venv/bin/ismgr", "patch", "apply", "--yes"])
    'ismgr patch apply'
    """
    named = list(takewhile(lambda word: not word.startswith("-"), words))
    names = [Path(word).name for word in named[:2]] + named[2:]
    return " ".join(names[1:4] if len(names) > 1 and names[0].startswith("python") else names[:3])
