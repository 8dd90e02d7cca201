"""The human view of events: a line for each finished thing, a moving bar while something runs. Never steers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ismgr_automation.cli.face import Face
from ismgr_automation.core import events
from ismgr_automation.core.events import Event

LONGEST = 60
"""Characters of a moving line's last word; longer ones are cut."""


@contextmanager
def progress(face: Face) -> Iterator[None]:
    """Show events on stderr while the block runs; nothing in JSON mode or when asked to be quiet."""
    if face.json or face.quiet:
        yield
        return
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[last]}[/]"),
        console=face.errors,
        transient=True,
        disable=not face.errors.is_terminal,
    )
    view = _View(bars, face.errors)
    before, face.watch = face.watch, view.show
    try:
        with bars:
            yield
    finally:
        face.watch = before


class _View:
    def __init__(self, bars: Progress, console: Console) -> None:
        self._bars = bars
        self._console = console
        self._running: dict[str, TaskID] = {}
        self._round: TaskID | None = None

    def show(self, event: Event) -> None:  # noqa: C901, PLR0912  one case for each kind of event
        match event:
            case events.EstateLoaded(name=name, commit=commit, documents=count):
                self._line(f"read [bold]{escape(name)}[/] at {escape(commit[:12])} ({count} documents)")
            case events.ObservationStarted(subject=subject, how=how):
                self._begin(str(subject), how)
            case events.ObservationFinished(subject=subject, how=how, found=found, seconds=seconds):
                self._end(str(subject))
                self._line(f"  {escape(how):<8} {escape(str(subject)):<24} {escape(found)} [dim]{seconds:.1f} s[/]")
            case events.RoundStarted(round=number, waves=waves, changes=changes):
                self._begin_round(number, waves, changes)
            case events.WaveStarted(wave=wave, addresses=addresses):
                self._line(f"wave {wave}: {escape(', '.join(map(str, addresses)))}")
            case events.ChangeStarted(subject=subject, action=action):
                self._begin(str(subject), action)
            case events.ChangeFinished():
                self._changed(event)
            case events.ResourceStepped(subject=subject, resource=resource, operation=operation):
                self._last(str(subject), f"{operation} {resource}")
            case events.TaskFinished(subject=subject, host=host, task=task):
                self._last(str(subject), f"{host}: {task}")
            case events.CheckFinished(host=host, check=check, verdict=verdict, message=message):
                if verdict in ("failed", "error"):
                    self._line(f"  [red]{escape(verdict)}[/] {escape(host)}: {escape(check)} {escape(message[:200])}")
            case events.StepReported(step=step, detail=detail, seconds=seconds):
                took = f" [dim]{_took(seconds)}[/]" if seconds is not None else ""
                self._line(f"{escape(step)} {escape(detail)}{took}")
            case events.OutputSeen(text=text):
                self._line(f"  [dim]{escape(text.rstrip())}[/]")
            case _:
                return

    def _line(self, text: str) -> None:
        self._console.print(text)

    def _begin(self, subject: str, what: str) -> None:
        self._running[subject] = self._bars.add_task(escape(f"{what} {subject}"), total=None, last="")

    def _end(self, subject: str) -> None:
        task = self._running.pop(subject, None)
        if task is not None:
            self._bars.remove_task(task)

    def _last(self, subject: str, word: str) -> None:
        task = self._running.get(subject)
        if task is not None:
            self._bars.update(task, last=escape(word[:LONGEST]))

    def _begin_round(self, number: int, waves: int, changes: int) -> None:
        if self._round is not None:
            self._bars.remove_task(self._round)
        self._round = self._bars.add_task(f"round {number}", total=changes, last="")
        self._line(f"round {number}: {changes} change{'s' * (changes != 1)} in {waves} wave{'s' * (waves != 1)}")

    def _changed(self, event: events.ChangeFinished) -> None:
        self._end(str(event.subject))
        if self._round is not None:
            self._bars.advance(self._round)
        color = "green" if event.outcome == "landed" else "red"
        words = f" {escape(event.summary)}" if event.summary else ""
        self._line(
            f"  [{color}]{escape(event.outcome):<8}[/] {escape(str(event.subject)):<24} {event.changed} changed"
            f" [dim]{event.seconds:.1f} s[/]{words}"
        )


def _took(seconds: float) -> str:
    """A time for which a tenth of a second may be nothing.

    >>> _took(0.0412), _took(3.51)
    ('41 ms', '3.5 s')
    """
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
