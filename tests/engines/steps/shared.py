"""What several processes of a test share without a database: who lives, what was done, gates to wait at."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote

from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.steps.rows import Place
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Unit

HOLDER = Holder(user="ana", host="desk", pid=os.getpid(), started=0.0)
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class FileExecutors:
    """``ports.runs.Executors``: a file for each one, holding until when it lives."""

    folder: Path

    def beat(self, executor: str, _holder: Holder, ttl: timedelta) -> None:
        target = self.folder / quote(executor, safe="")
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        fresh.write_text(str(time.time() + ttl.total_seconds()))
        fresh.replace(target)

    def living(self) -> tuple[str, ...]:
        now = time.time()
        return tuple(
            unquote(one.name)
            for one in sorted(self.folder.iterdir())
            if not one.name.startswith(".") and float(one.read_text()) > now
        )

    def gone(self, executor: str) -> None:
        (self.folder / quote(executor, safe="")).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Site:
    """One database of steps and a folder that the processes of a test share."""

    place: Place
    folder: Path

    @property
    def executors(self) -> FileExecutors:
        (self.folder / "living").mkdir(exist_ok=True)
        return FileExecutors(self.folder / "living")

    def note(self, words: str) -> None:
        """Add a line that all processes see."""
        with (self.folder / "notes").open("a") as notes:
            notes.write(f"{words}\n")

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def work(self, unit: Unit, who: str) -> JsonObject:
        """Note beginning and end; a unit whose key ends with ``slow`` waits for its gate in between."""
        self.note(f"begin {unit.key} {unit.attempt} {who}")
        if unit.key.endswith("slow") and unit.attempt == 1:
            wait_for((self.folder / "gate").exists)
        self.note(f"end {unit.key} {unit.attempt} {who}")
        return {"key": unit.key, "attempt": unit.attempt, "who": who}

    def open_gate(self) -> None:
        (self.folder / "gate").touch()


def wait_for(condition: object, patience: float = PATIENCE_S) -> None:
    """Return when it holds; fail when it does not in time."""
    assert callable(condition)
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def units(*names: str, run: str = "run-1") -> tuple[Unit, ...]:
    return tuple(Unit(run=run, round=1, key=f"stack/{name}") for name in names)
