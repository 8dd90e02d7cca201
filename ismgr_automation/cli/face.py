"""What every command is given: where the estate is, how to speak (to people or machines), how to print a result."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ismgr_automation.core.errors import InputError, IsmgrError
from ismgr_automation.core.events import Emit, Event
from ismgr_automation.core.json import JsonObject

RESULT_FORMAT = "ismgr.result/1"


@dataclass(slots=True, kw_only=True)
class Face:
    """How one invocation speaks: JSON lines on stdout for machines, or text on stdout and progress on stderr."""

    directory: Path = field(default_factory=Path)
    json: bool = False
    environment: str | None = None
    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(soft_wrap=True, highlight=False))
    errors: Console = field(default_factory=lambda: Console(stderr=True, soft_wrap=True, highlight=False))
    watch: Emit | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    def emit(self, event: Event) -> None:
        """Show one event: a JSON line, or whatever the human view of the moment does with it."""
        if self.json:
            self._line(event.to_json(datetime.now(UTC)))
        elif self.watch is not None:
            self.watch(event)

    def result(self, body: JsonObject, human: Callable[[Console], None]) -> None:
        """Print the result: one JSON object of format ``ismgr.result/1``, or the human view."""
        if self.json:
            self._line({"format": RESULT_FORMAT, **body})
        else:
            human(self.console)

    def error(self, problem: IsmgrError) -> None:
        """Print an error: one JSON object, or sentences on stderr."""
        if self.json:
            self._line(_error_body(problem))
            return
        self.errors.print("[bold red]error:[/]", problem.summary, markup=True, end="\n")
        if isinstance(problem, InputError):
            for diagnostic in problem.diagnostics:
                self.errors.print(f"  {diagnostic}", markup=False)
        detail = getattr(problem, "detail", "")
        if detail:
            self.errors.print(detail.rstrip(), markup=False, style="dim")
        for line in (problem.untouched, problem.next_step):
            if line:
                self.errors.print(f"  {line}", markup=False)

    def _line(self, body: JsonObject) -> None:
        sys.stdout.write(json.dumps(body, sort_keys=False, separators=(",", ":")) + "\n")
        sys.stdout.flush()


def _error_body(problem: IsmgrError) -> JsonObject:
    diagnostics = problem.diagnostics if isinstance(problem, InputError) else ()
    return {
        "format": RESULT_FORMAT,
        "type": "error",
        "reason": problem.reason,
        "exit_code": int(problem.exit_code),
        "summary": problem.summary,
        "untouched": problem.untouched,
        "next_step": problem.next_step,
        "diagnostics": [
            {
                "severity": str(one.severity),
                "summary": one.summary,
                "path": one.position.path if one.position else None,
                "line": one.position.line if one.position else None,
                "column": one.position.column if one.position else None,
                "expected": one.expected,
                "suggestion": one.suggestion,
            }
            for one in diagnostics
        ],
    }
