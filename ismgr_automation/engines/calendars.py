"""iCalendar texts: the times that their events take, and our own windows and freezes as events that other calendars
read. Text in, text out; which of these times means what is not decided here."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.windows import LONGEST, YEARS, Occurrence, Recurrence, rule_flaws
from ismgr_automation.core.windows import zone as zone_named

if TYPE_CHECKING:
    from icalendar import Calendar, Component

LARGEST = 4 * 1024 * 1024
"""Characters of a text."""
MOST_EVENTS = 5000
MOST_RULES = 200

_LINE = re.compile(r"(?P<name>[A-Za-z0-9-]+)(?P<parameters>(;[^:\"]*(\"[^\"]*\"[^:\"]*)*)?):(?P<value>.*)", re.DOTALL)
_MARGIN = timedelta(days=2)
_OWN = "X-ISMGR-SECONDS"
"""Where an event's own length is kept while it is repeated: the library repeats lengths on the wall, not elapsed."""

_ZONES = threading.Lock()
"""The library keeps the zones that calendars define for the whole process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One time as it is written into a calendar."""

    occurrence: Occurrence
    rule: str
    """What it belongs to: ``window/nightly``. With its beginning it makes the event's identity."""
    summary: str
    description: str = ""


class _Line(NamedTuple):
    """One unfolded content line; ``number`` is that of its first part, ``event`` counts events from 0, -1 outside."""

    number: int
    name: str
    parameters: str
    value: str
    event: int
    within: str


def read(text: str, *, path: str, zone: str, begin: datetime, end: datetime) -> tuple[Occurrence, ...]:
    """The times of a calendar's events that are not over at ``begin`` and begin before ``end``, in order.

    Repetitions, exceptions and moved occurrences are worked out; each takes the elapsed time of its event. Times that
    name no zone, and whole days, are those of ``zone``. Cancelled events, and those that take no time, are left out.
    Raises ``InputError`` with what is wrong, in which line of ``path``.
    """
    lines = _lines(text, path)
    there = zone_named(zone)
    with _ZONES:
        calendar = _parsed(text, path, lines)
        for index, event in enumerate(calendar.walk("VEVENT")):
            _prepare(event, there, path, [one for one in lines if one.event == index])
        found = _repeated(calendar, path, begin - _MARGIN, end + _MARGIN)
        times = [_occurrence(one, there) for one in found if str(one.get("STATUS", "")).upper() != "CANCELLED"]
    return tuple(sorted(one for one in times if one.begins < one.ends and one.ends > begin and one.begins < end))


def write(events: Iterable[Event], *, name: str, stamp: datetime) -> str:
    """An iCalendar with these events, in UTC. The same events and ``stamp`` give the same text, and the same event has
    the same identity each time, so that a calendar that subscribes sees it once."""
    from icalendar import Calendar
    from icalendar import Event as Entry

    calendar = Calendar()
    calendar.add("PRODID", "-//ismgr//windows//EN")
    calendar.add("VERSION", "2.0")
    calendar.add("CALSCALE", "GREGORIAN")
    calendar.add("X-WR-CALNAME", name)
    for one in sorted(events, key=lambda event: (event.occurrence, event.rule)):
        entry = Entry()
        identity = f"{name}\0{one.rule}\0{one.occurrence.begins.astimezone(UTC).isoformat()}"
        entry.add("UID", f"{sha256(identity.encode()).hexdigest()[:40]}@ismgr")
        entry.add("DTSTAMP", stamp.astimezone(UTC).replace(microsecond=0))
        entry.add("DTSTART", one.occurrence.begins.astimezone(UTC))
        entry.add("DTEND", one.occurrence.ends.astimezone(UTC))
        entry.add("SUMMARY", one.summary)
        if one.description:
            entry.add("DESCRIPTION", one.description)
        entry.add("CATEGORIES", [one.rule.partition("/")[0]])
        calendar.add_component(entry)
    return bytes(calendar.to_ical()).decode()


def _lines(text: str, path: str) -> list[_Line]:
    """The content lines, unfolded; raises for what is not one, and for rules that a window could not have."""
    if len(text) > LARGEST:
        raise _wrong(path, 1, "the calendar is larger than calendars ever are", f"at most {LARGEST} characters")
    found: list[_Line] = []
    open_: list[tuple[str, int]] = []
    events = 0
    for number, line in _unfolded(text):
        match = _LINE.fullmatch(line)
        if match is None:
            raise _wrong(path, number, "this is no line of a calendar", "NAME:VALUE")
        name, value = match["name"].upper(), match["value"]
        if name == "BEGIN":
            open_.append((value.upper(), number))
        inside = open_[-1][0] if open_ else ""
        event = events if any(part == "VEVENT" for part, _ in open_) else -1
        found.append(_Line(number, name, match["parameters"].upper(), value, event, inside))
        if name == "END":
            if value.upper() != inside:
                raise _wrong(path, number, f"END:{value} closes nothing", f"END:{inside}" if inside else "")
            open_.pop()
            events += value.upper() == "VEVENT"
    if open_:
        raise _wrong(path, open_[-1][1], f"{open_[-1][0]} is not closed", f"END:{open_[-1][0]}")
    _refuse_excess(found, path)
    return found


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    current, start = "", 0
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"), start=1):
        if line[:1] in {" ", "\t"} and current:
            current += line[1:]
            continue
        if current:
            yield start, current
        current, start = line.strip(), number
    if current:
        yield start, current


def _refuse_excess(lines: Sequence[_Line], path: str) -> None:
    """Raise for more than a calendar of windows could need; the library itself knows no bounds."""
    tops = [one for one in lines if one.name == "BEGIN" and one.value.upper() == "VCALENDAR"]
    if len(tops) != 1 or lines[0] is not tops[0]:
        number = tops[1].number if len(tops) > 1 else 1
        raise _wrong(path, number, "the file is not one calendar", "BEGIN:VCALENDAR once, in the first line")
    events = [one for one in lines if one.name == "BEGIN" and one.value.upper() == "VEVENT"]
    rules = [one for one in lines if one.name == "RRULE"]
    for found, most, noun in ((events, MOST_EVENTS, "events"), (rules, MOST_RULES, "repeated events")):
        if len(found) > most:
            raise _wrong(path, found[most].number, f"the calendar has {len(found)} {noun}", f"at most {most}")
    for one in rules:
        for flaw in rule_flaws(one.value):
            raise _wrong(path, one.number, f"RRULE: {flaw.summary}", flaw.expected, flaw.suggestion)
        if one.within in {"STANDARD", "DAYLIGHT"} and "FREQ=YEARLY" not in one.value.upper():
            raise _wrong(path, one.number, "a time zone does not change its clocks by the year", "FREQ=YEARLY")
    for one in lines:
        if one.name == "RDATE" and "VALUE=PERIOD" in one.parameters:
            raise _wrong(path, one.number, "an RDATE with periods is not supported", "an event of its own")


def _parsed(text: str, path: str, lines: Sequence[_Line]) -> Calendar:
    from icalendar import Calendar
    from icalendar.timezone import tzp

    tzp.use_zoneinfo()  # forgets the zones that calendars before this one defined
    try:
        calendar = Calendar.from_ical(text.removeprefix("\ufeff"))
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError) as problem:
        raise _wrong(path, 1, f"the calendar cannot be read: {_first(problem)}") from None
    if not isinstance(calendar, Calendar):
        raise _wrong(path, 1, "the file is not one calendar", "BEGIN:VCALENDAR once, in the first line")
    for index, event in enumerate(calendar.walk("VEVENT")):
        for name, message in event.errors:
            own = [one for one in lines if one.event == index]
            raise _wrong(path, _number(own, str(name)), f"{name} of this event cannot be read: {message}")
    return calendar


def _prepare(event: Component, there: ZoneInfo, path: str, lines: Sequence[_Line]) -> None:
    """Refuse an event that makes no sense, and note the elapsed time that it takes."""
    start, end, length = (_value(event, name) for name in ("DTSTART", "DTEND", "DURATION"))
    for name, value in (("DTSTART", start), ("DTEND", end)):
        number = _number(lines, name)
        if (value is None and name == "DTSTART") or not isinstance(value, date | None):
            raise _wrong(path, number, f"this event has no {name} that is a time", "20260104T010000")
        if value is not None and value.year not in YEARS:
            raise _wrong(path, number, f"{name} is in the year {value.year}", f"{YEARS.start} to {YEARS.stop - 1}")
        if isinstance(value, datetime) and value.tzinfo is None and "TZID=" in _parameters(lines, name):
            raise _wrong(path, number, f"nobody knows the time zone of {name}", "a VTIMEZONE, or an IANA name")
    assert isinstance(start, date)  # noqa: S101  looked at above
    took = _utc(end, there) - _utc(start, there) if isinstance(end, date) else length
    if isinstance(took, timedelta) and not timedelta() <= took <= LONGEST:
        name = "DTEND" if isinstance(end, date) else "DURATION"
        raise _wrong(path, _number(lines, name), "this event ends before it begins, or takes more than a year")
    if isinstance(start, datetime):
        event[_OWN] = str(took.total_seconds() if isinstance(took, timedelta) else 0)
    for rule in (one for one in lines if one.name == "RRULE"):
        first = datetime.combine(start, start.time() if isinstance(start, datetime) else time())
        again = Recurrence(start=first, zone=there.key, duration=timedelta(1), rule=rule.value)
        if next(again.occurrences(datetime(YEARS.start, 1, 1, tzinfo=UTC)), None) is None:
            raise _wrong(path, rule.number, "this rule never holds")


def _repeated(calendar: Calendar, path: str, begin: datetime, end: datetime) -> Sequence[Any]:
    import recurring_ical_events  # type: ignore[import-untyped]

    try:
        return list(recurring_ical_events.of(calendar, components=["VEVENT"]).between(begin, end))
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as problem:
        raise _wrong(path, 1, f"the events cannot be worked out: {_first(problem)}") from None


def _occurrence(event: Component, there: ZoneInfo) -> Occurrence:
    own, start, end = event.get(_OWN), _value(event, "DTSTART"), _value(event, "DTEND")
    assert isinstance(start, date)  # noqa: S101  every event that is repeated was prepared
    begins = _utc(start, there)
    ends = _utc(end, there) if own is None and isinstance(end, date) else begins + timedelta(seconds=float(str(own)))
    return Occurrence(begins=begins, ends=ends, name=str(event.get("SUMMARY", "")))


def _utc(value: date, there: ZoneInfo) -> datetime:
    """A time of an event as a moment: whole days begin at midnight, and what names no zone is local."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=there)).astimezone(UTC)


def _value(event: Component, name: str) -> object:
    found = event.get(name)
    return getattr(found[0] if isinstance(found, list) else found, "dt", None)


def _parameters(lines: Sequence[_Line], name: str) -> str:
    return next((one.parameters for one in lines if one.name == name), "")


def _number(lines: Sequence[_Line], name: str) -> int:
    """The line of a property, or of the event's beginning."""
    return next((one.number for one in lines if one.name == name.upper()), lines[0].number if lines else 1)


def _first(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(".")


def _wrong(path: str, number: int, summary: str, expected: str = "", suggestion: str = "") -> InputError:
    place = Position(path, number, 1)
    flaw = Diagnostic(summary=summary, position=place, expected=expected, suggestion=suggestion)
    return InputError(f"The calendar {path} cannot be read.", diagnostics=[flaw])
