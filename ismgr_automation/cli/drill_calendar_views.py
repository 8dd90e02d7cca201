"""Calendars of drills for people and machines: what is due, what forbids it, and what became of each time. Values in,
text or JSON out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ismgr_automation.cli.drill_views import COLORS
from ismgr_automation.core.json import JsonObject
from ismgr_automation.core.windows import zone
from ismgr_automation.planning.timing import clock
from ismgr_automation.recovery.result import DrillResult
from ismgr_automation.recovery.schedule import Alarm, Outlook, Slot, State, Turn

STYLES: Mapping[State, str] = {
    State.AHEAD: "",
    State.WAITING: "cyan",
    State.DUE: "bold green",
    State.FORBIDDEN: "yellow",
    State.BEGUN: "bold cyan",
    State.DONE: "",
    State.SKIPPED: "yellow",
}


def show_due(found: Outlook, kept: Sequence[DrillResult], zones: Mapping[str, str], console: Console) -> None:
    """What is due, what is not and why, what was put on record, what comes next, and alarms last."""
    listed = found.current
    if listed:
        rows = [(_cells(one, zones), _why(one, found.now)) for one in listed]
        _print(("schedule", "drill", "its time", "now"), rows, console)
    else:
        console.print("No drill has its time now.", markup=False)
    for result in kept:
        words = f"on record as skipped: schedule/{result.schedule}, run {result.run}: {'; '.join(result.reasons)}"
        console.print(words, markup=False)
    for name, slot in sorted(found.coming.items()):
        console.print(f"next of schedule/{name}: {_local(slot.begins, zones.get(name))}", markup=False)
    for alarm in found.alarms:
        console.print(f"[bold red]alarm:[/] {escape(alarm.words)}")


def show_calendar(
    found: Sequence[Turn], zones: Mapping[str, str], console: Console, *, file: Path | None = None
) -> None:
    """A line for each time; what forbids it, or how it ended, stands last."""
    if file is not None:
        console.print(f"{len(found)} drills in {file}.", markup=False)
        return
    if not found:
        console.print("No schedule has a time then.", markup=False)
        return
    rows = []
    for one in found:
        schedule, drill, local, state = _cells(one, zones)
        moments = (f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}" for moment in (one.slot.at, one.slot.begins))
        utc, begins = map(Text, moments)
        rows.append(((schedule, drill, local, utc, begins, state), _why(one, None)))
    _print(("schedule", "drill", "local time", "UTC", "begins (UTC)", "now"), rows, console)


def due_json(found: Outlook, kept: Sequence[DrillResult]) -> JsonObject:
    """What is due as a result."""
    return {
        "type": "drills-due",
        "at": found.now.isoformat(),
        "turns": [turn_json(one) for one in found.current],
        "recorded": [one.run for one in kept],
        "next": {name: _slot_json(slot) for name, slot in sorted(found.coming.items())},
        "alarms": [_alarm_json(one) for one in found.alarms],
    }


def turn_json(one: Turn) -> JsonObject:
    """One time of a schedule."""
    return {
        **_slot_json(one.slot),
        "state": str(one.state),
        "forbidden_by": [ban.words for ban in one.bans],
        "free_from": _iso(one.free),
        "reason": one.reason,
        "run": one.result.run if one.result is not None else None,
        "verdict": str(one.result.verdict) if one.result is not None else None,
    }


def _slot_json(slot: Slot) -> JsonObject:
    return {
        "schedule": slot.schedule,
        "plan": slot.plan,
        "mode": str(slot.mode),
        "at": _iso(slot.at),
        "begins": _iso(slot.begins),
        "latest": _iso(slot.latest),
    }


def _alarm_json(one: Alarm) -> JsonObject:
    return {
        "schedule": one.schedule,
        "plan": one.plan,
        "mode": str(one.mode),
        "after_seconds": one.after.total_seconds(),
        "last_passed": _iso(one.last),
        "summary": one.words,
    }


def _print(heads: Sequence[str], rows: Sequence[tuple[Sequence[Text], str]], console: Console) -> None:
    """Columns as wide as they must be, and below each line why it is so: no word is cut off for a narrow terminal."""
    lines = [(tuple(Text(one, "bold") for one in heads), ""), *rows]
    widths = [max(cells[index].cell_len for cells, _ in lines) for index in range(len(heads))]
    for cells, why in lines:
        for cell, width in zip(cells, widths, strict=True):
            cell.pad_right(width - cell.cell_len)
        line = Text("  ").join(cells)
        line.rstrip()
        console.print(line)
        if why:
            console.print(f"  {why}", markup=False, style="dim")


def _cells(one: Turn, zones: Mapping[str, str]) -> tuple[Text, Text, Text, Text]:
    slot = one.slot
    state = Text(str(one.state), STYLES[one.state])
    if one.state is State.DONE and one.result is not None:
        state = Text(str(one.result.verdict), COLORS[one.result.verdict])
    local = Text(_local(slot.at, zones.get(slot.schedule)))
    return (Text(slot.schedule), Text(f"{slot.mode} of {slot.plan}"), local, state)


def _why(one: Turn, now: datetime | None) -> str:
    """In words, why it is not due; ``now`` where that is what is asked."""
    match one.state:
        case State.AHEAD | State.FORBIDDEN:
            return _forbidden(one)
        case State.WAITING:
            return f"it begins at {clock(one.slot.begins)}" + (f"; {_forbidden(one)}" if one.bans else "")
        case State.DUE:
            return f"until {clock(one.slot.latest)}" if now is not None else ""
        case State.BEGUN:
            return one.reason
        case State.DONE:
            return f"run {one.result.run}" if one.result is not None else ""
        case State.SKIPPED:
            return one.reason if one.result is not None else f"{one.reason}; not on record yet"


def _forbidden(one: Turn) -> str:
    if not one.bans:
        return ""
    free = f"free from {clock(one.free)}" if one.free is not None else "never free in its time"
    return f"{'; '.join(ban.words for ban in one.bans)}; {free}"


def _local(moment: datetime, name: str | None) -> str:
    """On the clock of its schedule, with its offset; in UTC where there is no such schedule any more."""
    return clock(moment.astimezone(zone(name) if name is not None else UTC))


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None
