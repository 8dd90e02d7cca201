"""The journal of a drill in a plain file, each line on the disk before anybody goes on. Knows lines and disks; what an
entry says is not its business."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.json import JsonObject

ENGINE = "drill journal"
NAME = "journal.jsonl"
STOP = "stop"


@dataclass(frozen=True, slots=True)
class FileDrillJournal:
    """A ``ports.drills.DrillJournal`` in ``folder/journal.jsonl``. The folder is made with the first entry."""

    folder: Path
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def write(self, entry: JsonObject) -> None:
        """Append one entry, and have it on the disk."""
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            with self._guard:
                self._append(line)
        except OSError as problem:
            raise self._failed("written", problem) from problem

    def entries(self) -> Sequence[JsonObject]:
        """All whole lines."""
        try:
            data = (self.folder / NAME).read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as problem:
            raise self._failed("read", problem) from problem
        # what stands after the last line end was torn by a crash: it was never reported as written
        *whole, _ = data.split(b"\n")
        try:
            return tuple(json.loads(line) for line in whole)
        except ValueError as problem:
            raise self._failed("read", problem) from problem

    def ask_to_stop(self, by: str) -> None:
        """A file of its own: two processes do not write to one journal."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError), (self.folder / STOP).open("x", encoding="utf-8") as file:
                file.write(by)
        except OSError as problem:
            raise self._failed("asked to stop", problem) from problem

    def asked_to_stop(self) -> str:
        """Who asked. A file without a word is a request as well: its writer died."""
        try:
            return (self.folder / STOP).read_text(encoding="utf-8") or "somebody"
        except OSError:
            return ""  # who is not heard has not asked

    def _append(self, line: bytes) -> None:
        path = self.folder / NAME
        new = not path.exists()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            if size and os.pread(handle, 1, size - 1) != b"\n":
                os.ftruncate(handle, os.pread(handle, size, 0).rfind(b"\n") + 1)
            os.write(handle, line)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        if new:
            _sync(self.folder)

    def _failed(self, how: str, problem: Exception) -> EngineFailed:
        return EngineFailed(
            f"The journal of the drill cannot be {how}: {problem}.",
            engine=ENGINE,
            subject=str(self.folder / NAME),
            next_step="See that the disk has room and the file may be written; `ismgr resume` then goes on.",
        )


def _sync(folder: Path) -> None:
    """A file that is new must be found again, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
