"""What is kept of drills: the journal of one while it runs, and the results of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.json import JsonObject


class DrillJournal(Protocol):
    """The journal of one drill on its hot path: lines that are on the disk before ``write`` returns. Made by whoever
    begins the drill, read by whoever resumes it; a last line that was torn by a crash is left out."""

    @property
    def folder(self) -> Path:
        """The drill's own folder, where its probe keeps its log too. It outlives the run."""
        ...

    def write(self, entry: JsonObject) -> None:
        """Append one entry. Raises ``EngineError`` when it cannot be made durable: then nothing may be done."""
        ...

    def entries(self) -> Sequence[JsonObject]:
        """All entries, in order; none for a drill that never began."""
        ...

    def ask_to_stop(self, by: str) -> None:
        """Leave word for whoever carries the drill out, now or later, that it is to stop. Raises ``EngineError``."""
        ...

    def asked_to_stop(self) -> str:
        """Who asked for that first; empty: nobody has."""
        ...


class DrillStore(Protocol):
    """The results of the drills of one environment, newest first. Raises ``EngineError``."""

    def keep(self, run: str, plan: str, result: JsonObject) -> None:
        """Keep a result, in place of an earlier one of the same run."""
        ...

    def results(self, plan: str = "", limit: int = 100) -> Sequence[JsonObject]:
        """Results, newest first; of one plan, or of all."""
        ...

    def result(self, run: str) -> JsonObject | None:
        """The result of one run."""
        ...

    def note(self, run: str, note: JsonObject) -> None:
        """Append what a person wrote down about a drill. Nothing that was appended is ever changed."""
        ...

    def notes(self, run: str = "") -> Sequence[JsonObject]:
        """What was appended about one run, or about all, the oldest first."""
        ...
