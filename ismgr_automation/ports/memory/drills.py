"""Journals and results of drills that are forgotten with the process, and functions of an estate that nobody runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import FunctionCall


@dataclass(frozen=True, slots=True)
class MemoryDrillJournal:
    """A ``ports.drills.DrillJournal``. ``die_after``: the write of that number raises ``KeyboardInterrupt`` once it is
    done, as a process dies that is killed just then; 0: none does."""

    folder: Path
    lines: list[JsonObject] = field(default_factory=list)
    die_after: int = 0
    asked: list[str] = field(default_factory=list)

    def write(self, entry: JsonObject) -> None:
        """Keep it."""
        self.lines.append(entry)
        if self.die_after and len(self.lines) == self.die_after:
            raise KeyboardInterrupt

    def entries(self) -> Sequence[JsonObject]:
        """All that was kept."""
        return tuple(self.lines)

    def ask_to_stop(self, by: str) -> None:
        """Keep who asked."""
        self.asked.append(by)

    def asked_to_stop(self) -> str:
        """Who asked first."""
        return next(iter(self.asked), "")


@dataclass(frozen=True, slots=True)
class MemoryDrillStore:
    """A ``ports.drills.DrillStore``."""

    kept: dict[str, tuple[str, JsonObject]] = field(default_factory=dict)
    noted: list[tuple[str, JsonObject]] = field(default_factory=list)

    def keep(self, run: str, plan: str, result: JsonObject) -> None:
        """Keep it."""
        self.kept[run] = (plan, result)

    def results(self, plan: str = "", limit: int = 100) -> Sequence[JsonObject]:
        """Newest first: names of runs sort by time."""
        found = [result for _, (of, result) in sorted(self.kept.items(), reverse=True) if plan in {"", of}]
        return tuple(found[:limit])

    def result(self, run: str) -> JsonObject | None:
        """The result of one run."""
        found = self.kept.get(run)
        return found[1] if found is not None else None

    def note(self, run: str, note: JsonObject) -> None:
        """Append it."""
        self.noted.append((run, note))

    def notes(self, run: str = "") -> Sequence[JsonObject]:
        """In the order in which they were appended."""
        return tuple(note for of, note in self.noted if run in {"", of})


@dataclass(frozen=True, slots=True)
class MemoryFunctions:
    """``ports.recovery.Functions``: notes who was called, and answers by the function's name."""

    answers: dict[str, str | BaseException] = field(default_factory=dict)
    calls: list[FunctionCall] = field(default_factory=list)

    def call(self, call: FunctionCall, context: Context) -> str:  # noqa: ARG002  the port's
        """What is set for it, or nothing."""
        self.calls.append(call)
        answer = self.answers.get(call.function, "")
        if isinstance(answer, BaseException):
            raise answer
        return answer
