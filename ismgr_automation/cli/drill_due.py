"""`ismgr drill due` and `ismgr drill calendar`: what schedules ask for, carried out one after another, and what became
of each of their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli import drill_units
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Worktree
from ismgr_automation.cli.plan import looked_up, opened
from ismgr_automation.core.errors import (
    Cancelled,
    ExitCode,
    IsmgrError,
    LeaseHeld,
    LeaseLost,
    PolicyDenied,
    SettingsError,
)
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.held import Held
    from ismgr_automation.engines.calendars import Event
    from ismgr_automation.estate.model import Estate as Documents
    from ismgr_automation.recovery.result import DrillResult
    from ismgr_automation.recovery.schedule import Outlook, Slot, Turn

EPILOG = """Examples:

  ismgr drill due                                   what is due now, and why others are not

  ismgr drill due --run                             carry it out, one drill after another, without asking

  ismgr --json drill due | jq '.alarms'             for monitoring

Exit codes: 0 nothing is due, or all that was due passed; 2 something is due (without --run); 6 an alarm: no drill
passed for longer than a schedule allows. With --run that of the first drill that did not pass: 1 and 3 refused, 4 an
engine failed, all before any effect and on record; 5 stopped with part of it done, 130 stopped on request (after both
no other is begun); 6 an objective was missed or the drill proves nothing.
"""

CALENDAR = """Examples:

  ismgr drill calendar                              the next 90 days: local time, UTC, what forbids a drill

  ismgr drill calendar --from 2026-01-01 --days 365     a year for an auditor: each planned drill and its record

  ismgr drill calendar --ics drills.ics             for the calendars of people
"""

FUTURE_DAYS = 366
AN_ALARM = ExitCode.OBJECTIVE_MISSED

Name = Annotated[
    str, typer.Argument(metavar="[NAME]", help="A DrillSchedule; all of them otherwise.", show_default=False)
]


def register(topic: typer.Typer) -> None:
    """Add the commands to `ismgr drill`."""
    topic.command("due", epilog=EPILOG)(due)
    topic.command("calendar", epilog=CALENDAR)(calendar)
    drill_units.register(topic)


def due(
    ctx: typer.Context,
    name: Name = "",
    run: Annotated[bool, typer.Option("--run", help="Carry out what is due, and record what was skipped.")] = False,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Tell which drills are due now, and why others are not; with --run carry them out, one after another.

    Approvals that are missing are a refusal. Times that passed without a drill are put on record with their reason.
    """
    from ismgr_automation.cli.drill_calendar_views import due_json, show_due

    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        codes, kept = _carried_out(face, estate, name) if run else ((), ())
        found = estate.drills_due(name)
        zones = {one.name: one.time_zone for one in estate.documents.schedules.values()}
    code = next((one for one in codes if one), 0) or _code(found, asked_only=not run)
    body = {**due_json(found, kept), "exit_code": code}
    face.result(body, lambda console: show_due(found, kept, zones, console))
    return code


def _code(found: Outlook, *, asked_only: bool) -> int:
    if found.alarms:
        return int(AN_ALARM)
    return int(ExitCode.CHANGES if asked_only and found.due else ExitCode.DONE)


def _carried_out(face: Face, estate: Estate, name: str) -> tuple[Sequence[int], Sequence[DrillResult]]:
    """Exit codes of the drills that were begun or refused, and the records of those that were skipped."""
    codes: list[int] = []
    kept: list[DrillResult] = []
    tried: set[Slot] = set()
    while not face.cancelled.is_set():
        found = estate.drills_due(name)
        if not found.unrecorded and not _untried(found, tried):
            break
        try:
            code = _next(face, estate, name, tried, kept)
        except LeaseHeld as problem:
            face.error(problem)
            break
        codes += [code] if code is not None else []
        if code in {ExitCode.PARTLY_APPLIED, ExitCode.CANCELLED}:
            # what was left in the middle comes first
            break
    return codes, kept


def _next(face: Face, estate: Estate, name: str, tried: set[Slot], kept: list[DrillResult]) -> int | None:
    """Under one lease: record what was skipped, and carry out the drill whose turn it is. None when it is nobody's."""
    from ismgr_automation.cli.apply import held

    with held(face, estate, "drill due", None) as lease:
        # somebody may have had the lease since we looked
        found = estate.drills_due(name, held=lease)
        kept += estate.skip_drills(lease, found.unrecorded)
        turn = next(iter(_untried(found, tried)), None)
        if turn is None:
            return None
        tried.add(turn.slot)
        try:
            return _drill(face, estate, lease, turn)
        except (LeaseLost, LeaseHeld, Cancelled) as problem:
            # it stays due
            face.error(problem)
            return int(ExitCode.CANCELLED if isinstance(problem, Cancelled) else problem.exit_code)
        except IsmgrError as problem:
            face.error(problem)
            refused = replace(turn, reason=f"refused before anything was touched: {problem.summary}")
            kept += estate.skip_drills(lease, [refused])
            return int(problem.exit_code)


def _drill(face: Face, estate: Estate, lease: Held, turn: Turn) -> int:
    from ismgr_automation.cli.apply import finish, from_now, planner
    from ismgr_automation.cli.drill import measured
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.converge.drill_calendar import for_occasion

    with progress(face):
        composed = for_occasion(lease.plan_drill(turn.slot.plan, turn.slot.mode), turn.slot)
    done = from_now(face, lease, composed, yes=True)
    if done is None:
        raise PolicyDenied(
            f"There was nothing to do for a {turn.slot.mode} of {turn.slot.plan}.",
            next_step="Look with `ismgr drill plan` what it would do.",
        )
    return measured(face, estate, done, finish(face, done, None, again=planner(composed)))


def _untried(found: Outlook, tried: set[Slot]) -> tuple[Turn, ...]:
    return tuple(one for one in found.due if one.slot not in tried)


def calendar(
    ctx: typer.Context,
    name: Name = "",
    days: Annotated[int, typer.Option("--days", min=1, max=FUTURE_DAYS, help="How many days.")] = 90,
    start: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first day, in UTC; today otherwise.")
    ] = None,
    ics: Annotated[
        Path | None, typer.Option("--ics", metavar="FILE", help="Write it as an iCalendar.", dir_okay=False)
    ] = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Show the times of all schedules: what will be and what forbids it, what was and how it ended."""
    from ismgr_automation.cli.drill_calendar_views import show_calendar, turn_json

    face: Face = ctx.obj
    begin = _begin(start)
    end = begin + timedelta(days=days)
    with opened(face, ref, worktree=True) if worktree else looked_up(face, ref) as estate:
        found = estate.drill_calendar(begin, end, name)
        documents = estate.documents
    zones = {one.name: one.time_zone for one in documents.schedules.values()}
    body: JsonObject = {
        "type": "drill-calendar",
        "begin": begin.isoformat(),
        "end": end.isoformat(),
        "turns": [turn_json(one) for one in found],
        "file": str(ics) if ics is not None else None,
    }
    if ics is not None:
        _write(ics, documents, found)
    face.result(body, lambda console: show_calendar(found, zones, console, file=ics))
    return int(ExitCode.DONE)


def _begin(text: str | None) -> datetime:
    if text is None:
        return datetime.combine(datetime.now(UTC).date(), time(), tzinfo=UTC)
    try:
        return datetime.combine(date.fromisoformat(text), time(), tzinfo=UTC)
    except ValueError:
        raise SettingsError(f"{text!r} is no day.", next_step="Write it as 2026-03-29.") from None


def _write(path: Path, documents: Documents, found: Sequence[Turn]) -> None:
    """Turns as an iCalendar. Raises ``SettingsError`` for a file that cannot be written."""
    from ismgr_automation.engines.calendars import write

    events = [_event(documents, one) for one in found]
    text = write(events, name=f"{documents.document.name} drills", stamp=datetime.now(UTC))
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as problem:
        raise SettingsError(
            f"Cannot write {path}: {problem.strerror}.", next_step="Name a file that you may write."
        ) from None


def _event(documents: Documents, turn: Turn) -> Event:
    """From its jittered beginning for as long as its deadlines allow."""
    from ismgr_automation.core.windows import Occurrence
    from ismgr_automation.engines.calendars import Event
    from ismgr_automation.recovery.path import at_most

    slot = turn.slot
    plan = documents.recoveries.get(slot.plan)
    takes = at_most(plan, slot.mode) if plan is not None else timedelta()
    ended = f": {turn.result.verdict}" if turn.result is not None else ""
    schedule = documents.schedules.get(slot.schedule)
    lines = [schedule.description if schedule is not None else "", turn.reason, *(one.words for one in turn.bans)]
    return Event(
        occurrence=Occurrence(begins=slot.begins, ends=slot.begins + (takes or timedelta(minutes=1))),
        rule=f"schedule/{slot.schedule}",
        summary=f"Drill {slot.schedule}: {slot.mode} of {slot.plan}{ended}",
        description="\n".join(filter(None, lines)),
    )
