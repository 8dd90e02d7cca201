"""`ismgr window`: when hosts may be touched, and which rule says no. Reads documents: no stack and no host is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Worktree
from ismgr_automation.cli.plan import opened
from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.maintenance import Scope

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.core.windows import Occurrence
    from ismgr_automation.engines.calendars import Event
    from ismgr_automation.estate.maintenance import Freeze, MaintenanceWindow
    from ismgr_automation.planning.timing import Calendar, Clearance

EPILOG = """Examples:

  ismgr window list                                  windows and freezes, and what opens next

  ismgr window next nightly -n 10                    the next ten openings

  ismgr window check -t host/db1.dc1 --needs 45m     may it be patched now? exit 3 with the rule that says no

  ismgr window export --out maintenance.ics          for the calendars of people
"""

FUTURE_DAYS = 366

At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Another moment than now, with its offset: 2026-03-29T01:00+01:00."),
]


def register(app: typer.Typer) -> None:
    """Add `ismgr window`."""
    topic = typer.Typer(
        help="When hosts may be touched, and which rule says no.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.command("list", epilog=EPILOG)(list_)
    topic.command("next", epilog=EPILOG)(next_)
    topic.command("check", epilog=EPILOG)(check)
    topic.command("export", epilog=EPILOG)(export)
    app.add_typer(topic, name="window")


def list_(ctx: typer.Context, at: At = None, ref: Ref = "HEAD", worktree: Worktree = False) -> int:
    """List windows and freezes: what is open or holds, until when, and what comes next."""
    face: Face = ctx.obj
    now = _moment(at)
    with opened(face, ref, worktree=worktree) as estate:
        calendar = estate.calendar(now)
    windows = [_window_json(one, calendar, now) for _, one in sorted(calendar.windows.items())]
    freezes = [_freeze_json(one, now) for one in sorted(calendar.freezes.values(), key=lambda one: one.begins)]
    body: JsonObject = {"type": "windows", "at": _iso(now), "windows": windows, "freezes": freezes}
    face.result(body, lambda console: _table(calendar, now, console))
    return 0


def next_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The window.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="How many.")] = 5,
    at: At = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Show when a window opens next, on its own clock; what is open now comes first."""
    from ismgr_automation.planning.timing import openings

    face: Face = ctx.obj
    now = _moment(at)
    with opened(face, ref, worktree=worktree) as estate:
        calendar = estate.calendar(now)
    window = _named(calendar, name)
    found = list(islice(openings(window, calendar, now), count))
    body: JsonObject = {"type": "window-next", "name": window.name, "openings": [_span_json(one) for one in found]}
    face.result(body, lambda console: _openings(window, found, console))
    return 0


def check(
    ctx: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Option("-t", "--target", metavar="ADDRESS", help="What is worked on: host/NAME, group/NAME, stack/NAME."),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option("-w", "--window", metavar="NAME", help="The window to use, not those of the hosts' baselines."),
    ] = None,
    needs: Annotated[str, typer.Option("--needs", metavar="TIME", help="How long the work takes.")] = "30m",
    work: Annotated[Scope, typer.Option("--work", help="Which kind of work.")] = Scope.PATCH,
    at: At = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Ask whether work may begin; exit 3 (reason outside-window) names each rule that says no.

    Hosts are the machines of Site documents. For others, and without -t, only freezes for everybody count.
    """
    from ismgr_automation.planning.documented import asked
    from ismgr_automation.planning.timing import clear_for_all, earliest, refused

    face: Face = ctx.obj
    now, span = _moment(at), _needs(needs)
    with opened(face, ref, worktree=worktree) as estate:
        calendar = estate.calendar(now)
        question = asked(estate.documents, target or (), window or (), scope=work, needs=span)
    if not face.json:
        for note in question.notes:
            face.errors.print(note, markup=False)
    found = clear_for_all(question.works, calendar, now)
    if found.obstacles:
        raise refused(found, first=earliest(question.works, calendar, now))
    hosts = sorted({host.name for one in question.works for host in one.hosts})
    body: JsonObject = {
        "type": "window-check",
        "at": _iso(now),
        "needs_seconds": span.total_seconds(),
        "work": str(work),
        "hosts": list(hosts),
        "may_begin": True,
        "ends": _iso(found.ends),
        "notes": list(question.notes),
    }
    face.result(body, lambda console: _cleared(found, hosts, console))
    return 0


def export(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write it there.", dir_okay=False)
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=FUTURE_DAYS, help="How far ahead.")] = 90,
    at: At = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Write windows and freezes as an iCalendar that other calendars read; each event keeps its identity."""
    from ismgr_automation.engines.calendars import write

    face: Face = ctx.obj
    now = _moment(at)
    with opened(face, ref, worktree=worktree) as estate:
        calendar = estate.calendar(now)
        name = estate.documents.document.name
    events = list(_events(calendar, now, now + timedelta(days=days)))
    text = write(events, name=name, stamp=now)
    if out is None:
        face.result({"type": "calendar", "calendar": text}, lambda _console: typer.echo(text, nl=False))
        return 0
    try:
        out.write_text(text, encoding="utf-8", newline="")
    except OSError as problem:
        raise SettingsError(
            f"Cannot write {out}: {problem.strerror}.", next_step="Name a file that you may write."
        ) from None
    body: JsonObject = {"type": "calendar", "file": str(out), "events": len(events)}
    face.result(body, lambda console: console.print(f"{len(events)} events in {out}.", markup=False))
    return 0


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    wrong = SettingsError(f"{text!r} is no moment.", next_step="Write it with its offset: 2026-03-29T01:00+01:00.")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise wrong
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong from None


def _needs(text: str) -> timedelta:
    from ismgr_automation.estate.resolve import duration

    try:
        return duration(text)
    except (KeyError, ValueError, OverflowError):
        raise SettingsError(
            f"{text!r} is no length of time.", next_step="Write a number and s, m, h or d, such as 30m."
        ) from None


def _named(calendar: Calendar, name: str) -> MaintenanceWindow:
    known = calendar.windows
    plain = name.removeprefix("window/")
    if plain not in known:
        wrong = Diagnostic(
            summary=f"there is no window {plain!r}",
            expected=", ".join(sorted(known)) or "a document of kind MaintenanceWindow",
            suggestion=did_you_mean(plain, known),
        )
        raise InputError(f"There is no window {plain} in this estate.", diagnostics=[wrong])
    return known[plain]


def _two(window: MaintenanceWindow, calendar: Calendar, now: datetime) -> tuple[Occurrence | None, Occurrence | None]:
    """What is open now, and what opens next."""
    from ismgr_automation.planning.timing import openings

    found: list[Occurrence | None] = list(islice(openings(window, calendar, now), 2))
    first, second = (*found, None, None)[:2]
    return (first, second) if first is not None and first.covers(now) else (None, first)


def _window_json(window: MaintenanceWindow, calendar: Calendar, now: datetime) -> JsonObject:
    current, coming = _two(window, calendar, now)
    return {
        "name": window.name,
        "description": window.description,
        "time_zone": window.time_zone,
        "open": current is not None,
        "current": _span_json(current) if current is not None else None,
        "next": _span_json(coming) if coming is not None else None,
        "cutoff_seconds": _needs(window.cutoff).total_seconds(),
    }


def _freeze_json(freeze: Freeze, now: datetime) -> JsonObject:
    return {
        "name": freeze.name,
        "state": _state(freeze, now),
        "begins": _iso(freeze.begins),
        "ends": _iso(freeze.ends),
        "reason": freeze.reason,
        "owner": freeze.owner,
        "selector": freeze.selector,
        "work": [str(one) for one in freeze.work],
    }


def _state(freeze: Freeze, now: datetime) -> str:
    return "ahead" if now < freeze.begins else "holds" if now < freeze.ends else "over"


def _span_json(one: Occurrence) -> JsonObject:
    return {"begins": _iso(one.begins), "ends": _iso(one.ends), "seconds": (one.ends - one.begins).total_seconds()}


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None


def _table(calendar: Calendar, now: datetime, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from ismgr_automation.planning.timing import clock, local, spoken

    if not calendar.windows and not calendar.freezes:
        console.print("There are no windows and no freezes: work may always begin.")
        return
    table = Table("rule", "now", "next", "for", box=None, pad_edge=False)
    for name, window in sorted(calendar.windows.items()):
        current, coming = _two(window, calendar, now)
        state = Text(f"open until {local(current.ends, window)}", "green") if current is not None else Text("closed")
        opens = local(coming.begins, window) if coming is not None else ""
        length = spoken(coming.ends - coming.begins) if coming is not None else ""
        table.add_row(f"window/{name}", state, opens, length)
    for freeze in sorted(calendar.freezes.values(), key=lambda one: one.begins):
        word = _state(freeze, now)
        shown = Text(f"holds until {clock(freeze.ends)}", "yellow") if word == "holds" else Text(word)
        begins = clock(freeze.begins) if word == "ahead" else ""
        table.add_row(f"freeze/{freeze.name}", shown, begins, Text(freeze.reason))
    console.print(table)


def _openings(window: MaintenanceWindow, found: list[Occurrence], console: Console) -> None:
    from ismgr_automation.planning.timing import local, spoken

    if not found:
        console.print(f"window/{window.name} does not open again.", markup=False)
    for one in found:
        length = spoken(one.ends - one.begins)
        console.print(f"{local(one.begins, window)} until {local(one.ends, window)}  {length}", markup=False)


def _cleared(found: Clearance, hosts: list[str], console: Console) -> None:
    from ismgr_automation.planning.timing import clock

    ends = f", and must be over by {clock(found.ends)}" if found.ends is not None else ""
    who = f" on {len(hosts)} host{'s' if len(hosts) != 1 else ''}" if hosts else ""
    console.print(f"Work{who} may begin{ends}.", markup=False)


def _events(calendar: Calendar, now: datetime, end: datetime) -> Iterator[Event]:
    from ismgr_automation.core.windows import Occurrence, until
    from ismgr_automation.engines.calendars import Event
    from ismgr_automation.planning.timing import occurrences

    for name, window in calendar.windows.items():
        for one in until(occurrences(window, calendar, now), end):
            summary = f"{name}: {one.name}" if one.name not in {"", name} else name
            yield Event(
                occurrence=one,
                rule=f"window/{name}",
                summary=f"Maintenance window {summary}",
                description=window.description,
            )
    for freeze in calendar.freezes.values():
        if freeze.ends > now and freeze.begins < end:
            yield Event(
                occurrence=Occurrence(begins=freeze.begins.astimezone(UTC), ends=freeze.ends.astimezone(UTC)),
                rule=f"freeze/{freeze.name}",
                summary=f"Freeze {freeze.name}: {freeze.reason}",
                description=f"Asked for by team {freeze.owner}. Holds up: {', '.join(freeze.work)}.",
            )
