"""The journal of a drill as those who work on it use it: what they write is on the disk before they go on, and what was
written before tells who resumes what may have been done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ismgr_automation.core.errors import EngineError
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.drills import DrillJournal
from ismgr_automation.ports.recovery import Acted


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The journal of a drill, written by several threads. ``clock`` tells nanoseconds, as verbs and probe do."""

    journal: DrillJournal
    clock: Callable[[], int]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: list[int] = field(default_factory=list)
    """From when to when the last entry was being written; the next one tells it."""

    def wrote(self, entry: JsonObject) -> None:
        """Have it on the disk. Raises ``EngineError`` where that cannot be."""
        with self._lock:
            began = self.clock()
            self.journal.write({**entry, "ns": began, **({"kept_ns": list(self._kept)} if self._kept else {})})
            self._kept[:] = [began, self.clock()]

    def tried(self, entry: JsonObject) -> None:
        """Have it on the disk where that can be: for what must be done also without a journal."""
        with suppress(EngineError):
            self.wrote(entry)

    def all(self, what: str, leg: str = "") -> tuple[JsonObject, ...]:
        """The entries of one kind; of one leg, or of all."""
        return tuple(one for one in self.journal.entries() if one["what"] == what and (not leg or one["leg"] == leg))

    def first(self, what: str, leg: str = "") -> JsonObject | None:
        """The first entry of one kind."""
        return next(iter(self.all(what, leg)), None)

    def last(self, what: str, leg: str = "") -> JsonObject | None:
        """The last entry of one kind."""
        return next(reversed(self.all(what, leg)), None)

    def proven(self, leg: str) -> dict[str, float]:
        """Who could connect before the fence of a leg was raised, and in how many milliseconds."""
        found: dict[str, float] = {}
        for one in self.journal.entries():
            if one.get("leg") == leg and one["what"] == "leg-began":
                break
            took = one.get("milliseconds") if one["what"] == "witnesses" and one.get("leg") == leg else None
            if isinstance(took, Mapping):
                found |= {name: float(str(value)) for name, value in took.items()}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A step of a drill that was tried. ``found``: it was done already; ``rule``: which one forbade it."""

    leg: str
    task: str
    action: str
    acted: Acted
    found: bool = False
    rule: str = ""

    @property
    def entry(self) -> JsonObject:
        """Its line in the journal."""
        return {
            "what": "task-ended",
            "leg": self.leg,
            "task": self.task,
            "action": self.action,
            "ok": self.acted.ok,
            **span(self.acted.began_ns, self.acted.ended_ns),
            "found": self.found,
            "rule": self.rule,
            "words": self.acted.words,
            "readings": dict(self.acted.readings),
        }

    def report(self, context: Context) -> None:
        """Tell those who watch the run."""
        took = (self.acted.ended_ns - self.acted.began_ns) / 1e9
        context.emit(StepReported(step=f"{self.leg}: {self.task}", detail=self.acted.words, seconds=took))


def span(began_ns: int, ended_ns: int) -> JsonObject:
    """From when to when, as entries of the journal have it."""
    return {"began_ns": began_ns, "ended_ns": ended_ns}
