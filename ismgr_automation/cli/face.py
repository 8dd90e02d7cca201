"""What every command is given: where the estate is, how to speak (to people or machines), how to print a result."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.errors import EngineError, InputError, IsmgrError, NotApproved, NotSigned, StalePlan
from ismgr_automation.core.events import Emit, Event
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from ismgr_automation.api import Wiring

RESULT_FORMAT = "ismgr.result/1"


def leave_stdout() -> None:
    """Nobody reads our output any more (``ismgr plan | head``): what follows goes nowhere, and the work goes on."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The library would end the process here, in the middle of whatever is going on."""
        leave_stdout()


def _console(*, stderr: bool = False) -> Console:
    # no emoji: ``:key:`` in a task's name is what somebody wrote
    return _Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)


@dataclass(slots=True, kw_only=True)
class Face:
    """How one invocation speaks: JSON lines on stdout for machines, or text on stdout and progress on stderr."""

    directory: Path = field(default_factory=Path)
    json: bool = False
    environment: str | None = None
    quiet: bool = False
    console: Console = field(default_factory=_console)
    errors: Console = field(default_factory=lambda: _console(stderr=True))
    watch: Emit | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    asking: bool = False
    """Somebody is being asked a question: Ctrl-C is the answer."""
    wiring: Wiring | None = None
    """What stands behind the estate's ports; None is the real world."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Events come from several threads, and a line is a line."""

    def emit(self, event: Event) -> None:
        """Show one event: a JSON line, or whatever the human view of the moment does with it."""
        if self.json:
            self._line(event.to_json(datetime.now(UTC)))
        elif self.watch is not None:
            self.watch(event)

    def result(self, body: JsonObject, human: Callable[[Console], None]) -> None:
        """Print the result: one JSON object of format ``ismgr.result/1``, or the human view."""
        if self.json:
            self._line({**body, "format": RESULT_FORMAT})
        else:
            human(self.console)

    def error(self, problem: IsmgrError) -> None:
        """Print an error: one JSON object, or sentences on stderr."""
        if self.json:
            self._line(_error_body(problem))
            return
        self.errors.print(f"[bold red]error:[/] {escape(problem.summary)}")
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
        with self.lock:
            try:
                sys.stdout.write(json.dumps(body, sort_keys=False, separators=(",", ":")) + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                leave_stdout()


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
        "detail": problem.detail if isinstance(problem, EngineError) else "",
        "moved": list(problem.moved) if isinstance(problem, StalePlan) else [],
        "missing": list(problem.missing) if isinstance(problem, NotApproved) else [],
        "commits": list(problem.commits) if isinstance(problem, NotSigned) else [],
        "diagnostics": [{"severity": str(one.severity), **diagnostic_json(one)} for one in diagnostics],
    }


def diagnostic_json(one: Diagnostic) -> JsonObject:
    """A diagnostic as JSON, without its severity; place is null where there is none."""
    return {
        "summary": one.summary,
        "path": one.position.path if one.position else None,
        "line": one.position.line if one.position else None,
        "column": one.position.column if one.position else None,
        "expected": one.expected,
        "suggestion": one.suggestion,
    }
