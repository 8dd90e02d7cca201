"""Evidence in plain files: a segment of lines for each run, its closing signature beside it. Knows bytes, newlines and
disks; what a record says is not its business."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.ports.evidence import EMPTY, Head, line_digest
from ismgr_automation.ports.signing import Signature, embedded_key

ENGINE = "evidence"
PATIENCE_SECONDS = 10.0
"""How long another process may take for one write."""
SEGMENT = re.compile(r"^(?P<number>[0-9]{6,})-(?P<run>.+)\.jsonl$")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """One file of lines."""

    number: int
    run: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """The segment that is written now; up to ``size`` everything in it is whole and on disk."""

    segment: _Segment
    fd: int
    size: int


class FileEvidenceLog:
    """``ports.evidence.EvidenceLog`` below ``ROOT/ENVIRONMENT``: ``000001-RUN.jsonl`` and ``000001-RUN.jsonl.sig``.

    Whoever holds the environment's lease may take the pen, also from a process that is still there but paused: each
    write looks whose pen it is, under a lock, so that one who wakes up late writes nothing. Half a line that a crash
    left is moved into a file beside its segment when the pen is taken.
    """

    def __init__(self, root: Path, environment: str) -> None:
        self._folder = root / environment
        self._environment = environment
        self._guard = threading.Lock()
        self._pen = ""
        self._head = EMPTY
        self._open: _Open | None = None
        self._broken: OSError | None = None

    def head(self) -> Head:
        """See the port. Raises ``EngineFailed`` when another process has taken the pen, or the log cannot be used."""
        with self._guard, self._turn():
            return self._head

    def append(self, run: str, lines: Sequence[bytes], signature: Signature | None = None) -> None:
        """See the port. After an error of the disk's own (not: no room) nothing more is written by this process."""
        if not lines:
            return
        with self._guard, self._turn():
            if json.loads(lines[0]).get("previous") != self._head.digest:
                raise self._failed("these lines do not follow what the log holds", "Look again where it ends.")
            try:
                current = self._segment(run)
                if signature is not None:
                    _keep(_beside(current.segment.path), signature.armored.encode())
            except OSError as problem:
                raise self._unwritten(problem) from problem
            data = b"".join(line + b"\n" for line in lines)
            self._write(current, data)
            self._open = replace(current, size=current.size + len(data))
            self._head = Head(sequence=self._head.sequence + len(lines), digest=line_digest(lines[-1]))

    def close(self) -> None:
        """See the port."""
        with self._guard:
            self._let_go()

    def segments(self) -> tuple[str, ...]:
        """See the port."""
        return tuple(dict.fromkeys(one.run for one in self._segments()))

    def read(self, run: str | None = None) -> Iterator[bytes]:
        """See the port. Raises ``EngineFailed`` when a file cannot be read."""
        for segment in self._segments():
            if run in {None, segment.run}:
                try:
                    with segment.path.open("rb") as file:
                        yield from (line.removesuffix(b"\n") for line in file)
                except OSError as problem:
                    raise self._unreadable(problem) from problem

    def signatures(self) -> Mapping[str, Signature]:
        """See the port. A file that holds no signature counts as one of nobody."""
        found: dict[str, Signature] = {}
        for segment in self._segments():
            with suppress(FileNotFoundError):
                armored = _beside(segment.path).read_text(encoding="utf-8", errors="replace")
                found[segment.run] = Signature(armored=armored, key=embedded_key(armored))
        return found

    def _segments(self) -> list[_Segment]:
        try:
            names = [one.name for one in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise self._unreadable(problem) from problem
        matches = [match for match in map(SEGMENT.match, names) if match]
        found = [_Segment(number=int(one["number"]), run=one["run"], path=self._folder / one.string) for one in matches]
        return sorted(found, key=lambda one: (one.number, one.run))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One look or write with the pen in our hand, and the lock held; the pen is taken when we have none yet."""
        if self._broken is not None:
            raise self._unwritten(self._broken)
        lock = self._locked()
        try:
            holder = os.pread(lock, 128, 0).decode(errors="replace").strip()
            if not self._pen:
                self._take(lock)
            elif holder != self._pen:
                raise self._failed(
                    f"process {holder.partition(' ')[0] or '?'} on this machine is writing it now",
                    "Whoever holds the lease writes; look with `ismgr lease`.",
                )
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        """Take the pen, cut half a line off, and see where the log ends."""
        pen = f"{os.getpid()} {secrets.token_hex(8)}"
        try:
            self._head = self._end()
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{pen}\n".encode(), 0)
        except OSError as problem:
            raise self._unwritten(problem) from problem
        self._pen = pen

    def _locked(self) -> int:
        """The file that says whose pen it is, locked for us. A write is short: nobody waits long."""
        try:
            _make(self._folder)
            fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            raise self._unwritten(problem) from problem
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    writer = os.pread(fd, 32, 0).decode(errors="replace").partition(" ")[0].strip()
                    os.close(fd)
                    raise self._failed(
                        f"process {writer or '?'} on this machine is in the middle of a write",
                        "Wait until that process has ended, or end it.",
                    ) from None
                time.sleep(0.005)
            else:
                return fd

    def _let_go(self) -> None:
        if self._open is not None:
            os.close(self._open.fd)
        self._open, self._pen = None, ""

    def _end(self) -> Head:
        for segment in reversed(self._segments()):
            data = segment.path.read_bytes()
            whole, torn = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
            if torn:
                # moved, not dropped: half a line may also be a whole one whose end somebody changed
                _keep(segment.path.with_name(f"{segment.path.name}.{len(whole)}.torn"), torn)
                _cut(segment.path, len(whole))
            if whole or torn:
                found = self._head_of(whole) if whole else self._before(segment)
                return replace(found, cut_bytes=len(torn))
        return EMPTY

    def _before(self, torn: _Segment) -> Head:
        """The head when the newest segment held nothing but half a line."""
        for segment in reversed(self._segments()):
            if segment.number < torn.number and (data := segment.path.read_bytes()):
                return self._head_of(data)
        return EMPTY

    def _head_of(self, whole: bytes) -> Head:
        last = whole.removesuffix(b"\n").rpartition(b"\n")[2]
        try:
            sequence = int(json.loads(last)["sequence"])
        except (ValueError, KeyError, TypeError) as problem:
            raise self._failed(
                "its last line is no record",
                f"See what happened to it with `ismgr audit verify`; move {self._folder} away to begin a new chain.",
            ) from problem
        return Head(sequence=sequence, digest=line_digest(last))

    def _segment(self, run: str) -> _Open:
        """The file to write to: that of the run when it is the newest, otherwise a new one."""
        if self._open is not None and self._open.segment.run == run:
            return self._open
        if self._open is not None:
            os.close(self._open.fd)
            self._open = None
        there = self._segments()
        if there and there[-1].run == run:
            newest = there[-1]
            fd = os.open(newest.path, os.O_WRONLY | os.O_APPEND)
        else:
            number = there[-1].number + 1 if there else 1
            newest = _Segment(number=number, run=run, path=self._folder / f"{number:06d}-{run}.jsonl")
            fd = os.open(newest.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            _sync_folder(self._folder)
        self._open = _Open(segment=newest, fd=fd, size=os.fstat(fd).st_size)
        return self._open

    def _write(self, current: _Open, data: bytes) -> None:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(current.fd, left) :]
        except OSError as problem:
            try:
                os.ftruncate(current.fd, current.size)
            except OSError as worse:
                self._broken = worse
            raise self._unwritten(problem) from problem
        try:
            os.fdatasync(current.fd)
        except OSError as problem:
            # what the disk has now cannot be known: a second try would be told a lie
            self._broken = problem
            raise self._unwritten(problem) from problem

    def _unwritten(self, problem: OSError) -> EngineFailed:
        return self._failed(
            f"it cannot be written: {problem.strerror or problem}",
            f"Make room, or give permission, in {self._folder}; nothing is done that cannot be recorded.",
        )

    def _unreadable(self, problem: OSError) -> EngineFailed:
        return self._failed(
            f"it cannot be read: {problem.strerror or problem}", f"Give this user permission in {self._folder}."
        )

    def _failed(self, why: str, next_step: str) -> EngineFailed:
        return EngineFailed(
            f"The evidence of environment {self._environment}: {why}.",
            engine=ENGINE,
            subject=str(self._folder),
            untouched="What was to be recorded has not begun.",
            next_step=next_step,
        )


def _beside(segment: Path) -> Path:
    return segment.with_name(f"{segment.name}.sig")


def _make(folder: Path) -> None:
    """A folder and those above it, each entered on disk in the one above."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _sync_folder(folder.parent)


def _keep(path: Path, data: bytes) -> None:
    """Write a whole file, or nothing."""
    new = path.with_name(f"{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
