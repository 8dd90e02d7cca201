"""When something may be done: occurrences in time, and how they recur on the wall clock of a time zone. Values and
arithmetic only; no clock is read here, and no rule, however hostile, makes work without bounds."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError

YEARS = range(1970, 2400)
"""Years that a window may begin in."""

LONGEST = timedelta(days=366)
"""The longest that an occurrence may be."""

LONGEST_RULE = 1000
"""Characters of a rule."""

MOST_A_DAY = 24
"""How often a rule may open a window on one day."""

_ERA = 7600
"""The calendar repeats every 400 years, weekdays included. The library looks for the next occurrence of a rule until
the end of year 9999, and does not count: rules are asked as late in the calendar as they can be."""

_OUT_OF_ORDER = timedelta(days=2)
"""How far two occurrences can change places when clocks, or the day (Samoa, 2011-12-30), are put forward."""

_MOST_JOINED = 1000

_DAYS = "MO|TU|WE|TH|FR|SA|SU"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Occurrence:
    """One time in which something is open: from ``begins`` until just before ``ends``, both aware, in UTC."""

    begins: datetime
    ends: datetime
    name: str = ""

    def covers(self, moment: datetime) -> bool:
        """Whether it is open at that moment."""
        return self.begins <= moment < self.ends


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFlaw:
    """What is wrong with a recurrence rule; ``offset`` counts characters of the rule from 0."""

    offset: int
    summary: str
    expected: str = ""
    suggestion: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """A time on the wall clock of ``zone``, once or repeated by an iCalendar ``rule``, open for ``duration`` of elapsed
    time: three hours are three hours, also when clocks change meanwhile.

    A wall-clock time that does not exist is taken with the offset from before the gap, one that exists twice is the
    first, as RFC 5545 says. Raises ``InputError`` for what is out of bounds.

    >>> once = Recurrence(start=datetime(2026, 3, 29, 1), zone="Europe/Berlin", duration=timedelta(hours=3))
    >>> [one.ends.isoformat() for one in once.occurrences(datetime(2026, 1, 1, tzinfo=UTC))]
    ['2026-03-29T03:00:00+00:00']
    """

    start: datetime
    """The first time, without a zone."""
    zone: str
    duration: timedelta
    rule: str = ""
    except_dates: frozenset[date] = frozenset()
    """Days (of ``start``'s clock) on which nothing begins."""
    name: str = ""

    def __post_init__(self) -> None:
        flaws = rule_flaws(self.rule) if self.rule else ()
        if flaws:
            raise InputError(f"The rule {self.rule!r} of window {self.name} cannot be read: {flaws[0].summary}.")
        if self.start.year not in YEARS or not timedelta() < self.duration <= LONGEST:
            raise InputError(f"Window {self.name} begins too early or too late, or is too long: see its document.")
        zone(self.zone)

    def occurrences(self, since: datetime) -> Iterator[Occurrence]:
        """Those that are not over at ``since``, in order; may never end."""
        there = zone(self.zone)
        early = since.astimezone(there).replace(tzinfo=None) - self.duration - _OUT_OF_ORDER
        waiting: list[Occurrence] = []
        for wall in self._walls(there):
            if wall < early or wall.date() in self.except_dates:
                continue
            begins = wall.replace(tzinfo=there).astimezone(UTC)
            if begins + self.duration > since:
                heapq.heappush(waiting, Occurrence(begins=begins, ends=begins + self.duration, name=self.name))
            while waiting and waiting[0].begins < begins - _OUT_OF_ORDER:
                yield heapq.heappop(waiting)
        while waiting:
            yield heapq.heappop(waiting)

    def _walls(self, there: ZoneInfo) -> Iterator[datetime]:
        """Every time on the wall clock, exceptions included."""
        if not self.rule:
            yield self.start
            return
        from dateutil.rrule import rrulestr

        late = self.start.replace(year=self.start.year + _ERA)
        for wall in rrulestr(_shifted(self.rule, there), dtstart=late):
            yield wall.replace(year=wall.year - _ERA)


def zone(name: str) -> ZoneInfo:
    """The time zone with an IANA name. Raises ``InputError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"There is no time zone {name!r}.", next_step="Use a name such as Europe/Berlin.") from None


def following(occurrences: Iterable[Occurrence], moment: datetime, count: int) -> tuple[Occurrence, ...]:
    """The next ``count`` that begin at ``moment`` or later; fewer where there are no more."""
    return tuple(islice((one for one in occurrences if one.begins >= moment), count))


def open_at(occurrences: Iterable[Occurrence], moment: datetime) -> Occurrence | None:
    """What is open at a moment: of several the one that ends last, None when nothing is. ``occurrences`` in order."""
    found: Occurrence | None = None
    for one in occurrences:
        if one.begins > moment:
            break
        if one.covers(moment) and (found is None or one.ends > found.ends):
            found = one
    return found


def until(occurrences: Iterable[Occurrence], end: datetime) -> Iterator[Occurrence]:
    """Those that begin before ``end``; ``occurrences`` in order."""
    for one in occurrences:
        if one.begins >= end:
            return
        yield one


def joined(occurrences: Iterable[Occurrence]) -> Iterator[Occurrence]:
    """Occurrences that touch or overlap as one: where one day's window ends as the next day's begins, nothing closes.

    What never closes is cut after a thousand occurrences. ``occurrences`` in order.
    """
    current: Occurrence | None = None
    parts = 0
    for one in occurrences:
        if current is not None and one.begins <= current.ends and parts < _MOST_JOINED:
            current = replace(current, ends=max(current.ends, one.ends))
            parts += 1
            continue
        if current is not None:
            yield current
        current, parts = one, 1
    if current is not None:
        yield current


def _numbers(low: int, high: int, *, signed: bool) -> tuple[re.Pattern[str], range, str]:
    also = f" or from {-high} to {-low}" if signed else ""
    return re.compile(r"[+-]?\d{1,3}" if signed else r"\d{1,2}"), range(low, high + 1), f"{low} to {high}{also}"


_ANY = range(0)
_LISTS: Mapping[str, tuple[re.Pattern[str], range, str]] = {
    "BYMONTH": _numbers(1, 12, signed=False),
    "BYMONTHDAY": _numbers(1, 31, signed=True),
    "BYYEARDAY": _numbers(1, 366, signed=True),
    "BYWEEKNO": _numbers(1, 53, signed=True),
    "BYHOUR": _numbers(0, 23, signed=False),
    "BYMINUTE": _numbers(0, 59, signed=False),
    "BYSECOND": _numbers(0, 59, signed=False),
    "BYSETPOS": _numbers(1, 366, signed=True),
    "BYDAY": (re.compile(rf"([+-]?[1-9]\d?)?({_DAYS})"), _ANY, "days such as SU, or 1SU for the first Sunday"),
}
"""Parts that list values: what one looks like, the range of its amount, and both in words."""

_SINGLE: Mapping[str, tuple[re.Pattern[str], str]] = {
    "FREQ": (re.compile("YEARLY|MONTHLY|WEEKLY|DAILY"), "DAILY, WEEKLY, MONTHLY or YEARLY"),
    "INTERVAL": (re.compile(r"[1-9]\d{0,3}"), "a whole number from 1 to 9999"),
    "COUNT": (re.compile(r"[1-9]\d{0,5}"), "a whole number from 1 to 999999"),
    "UNTIL": (re.compile(r"\d{8}(T\d{6}Z?)?"), "a day such as 20261231, or 20261231T235959Z"),
    "WKST": (re.compile(_DAYS), "a day such as MO"),
}
"""Parts with one value: what it looks like, and that in words."""

_NOT_WITH: Mapping[str, tuple[str, ...]] = {
    "BYWEEKNO": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYYEARDAY": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYMONTHDAY": ("WEEKLY",),
}
"""Which parts mean nothing at which frequency."""


def rule_flaws(rule: str) -> tuple[RuleFlaw, ...]:
    """Everything that is wrong with an iCalendar recurrence rule, as far as it can be told without a start.

    >>> [flaw.summary for flaw in rule_flaws("FREQ=WEEKLY;BYDAY=SO")]
    ["BYDAY has 'SO'"]
    """
    if rule.upper().startswith("RRULE:"):
        return (RuleFlaw(offset=0, summary="a rule is written without 'RRULE:'", expected="FREQ=..."),)
    if len(rule) > LONGEST_RULE:
        return (RuleFlaw(offset=0, summary="the rule is too long", expected=f"at most {LONGEST_RULE} characters"),)
    found: list[RuleFlaw] = []
    parts: dict[str, tuple[str, int]] = {}
    offset = 0
    for part in rule.split(";"):
        key, sign, value = part.upper().partition("=")
        found.extend(_part_flaws(key, value if sign else None, offset, frozenset(parts)))
        parts.setdefault(key, (value, offset))
        offset += len(part) + 1
    return tuple(found) or tuple(_whole_flaws(parts))


def _part_flaws(key: str, value: str | None, offset: int, seen: frozenset[str]) -> Iterator[RuleFlaw]:
    known = (*_SINGLE, *_LISTS)
    if value is None:
        yield RuleFlaw(offset=offset, summary=f"{key!r} is no part of a rule", expected="NAME=VALUE between semicolons")
    elif key not in known:
        near = did_you_mean(key, known)
        listed = "" if near else "one of " + ", ".join(known)
        yield RuleFlaw(offset=offset, summary=f"there is no part {key!r}", expected=listed, suggestion=near)
    elif key in seen:
        yield RuleFlaw(offset=offset, summary=f"{key} is there twice", expected="each part once")
    elif key in _SINGLE:
        pattern, words = _SINGLE[key]
        if not pattern.fullmatch(value) or (key == "UNTIL" and _moment(value) is None):
            yield RuleFlaw(offset=offset, summary=f"{key} is {value!r}", expected=words)
    else:
        pattern, amounts, words = _LISTS[key]
        for one in value.split(","):
            if not pattern.fullmatch(one) or (amounts and abs(int(one)) not in amounts):
                yield RuleFlaw(offset=offset, summary=f"{key} has {one!r}", expected=words)


def _whole_flaws(parts: Mapping[str, tuple[str, int]]) -> Iterator[RuleFlaw]:
    """What is wrong between sound parts."""
    if "FREQ" not in parts:
        yield RuleFlaw(offset=0, summary="the rule has no FREQ", expected="FREQ=" + _SINGLE["FREQ"][1])
        return
    frequency = parts["FREQ"][0]
    if "UNTIL" in parts and "COUNT" in parts:
        yield RuleFlaw(offset=parts["COUNT"][1], summary="the rule has both UNTIL and COUNT", expected="one of them")
    for key, frequencies in _NOT_WITH.items():
        if key in parts and frequency in frequencies:
            yield RuleFlaw(offset=parts[key][1], summary=f"{key} means nothing with FREQ={frequency}")
    if frequency in {"DAILY", "WEEKLY"} and re.search(r"\d", parts.get("BYDAY", ("", 0))[0]):
        summary = f"numbered days mean nothing with FREQ={frequency}"
        yield RuleFlaw(offset=parts["BYDAY"][1], summary=summary, expected="days such as SU, or FREQ=MONTHLY")
    if "BYSETPOS" in parts and not any(key in parts for key in _LISTS if key != "BYSETPOS"):
        yield RuleFlaw(offset=parts["BYSETPOS"][1], summary="BYSETPOS has nothing to choose from", expected="BYDAY")
    times = 1
    for key in ("BYHOUR", "BYMINUTE", "BYSECOND"):
        times *= len(set(parts[key][0].split(","))) if key in parts else 1
    if times > MOST_A_DAY:
        offset = max(parts[key][1] for key in ("BYHOUR", "BYMINUTE", "BYSECOND") if key in parts)
        yield RuleFlaw(offset=offset, summary=f"the rule opens {times} times a day", expected=f"at most {MOST_A_DAY}")


def _shifted(rule: str, there: ZoneInfo) -> str:
    """A sound rule with its UNTIL as wall-clock time of the late era; a day as UNTIL counts as a whole."""
    parts = [part.split("=") for part in rule.upper().split(";")]
    return ";".join(f"{key}={_late(value, there) if key == 'UNTIL' else value}" for key, value in parts)


def _late(text: str, there: ZoneInfo) -> str:
    moment = _moment(text)
    if moment is None or moment.year not in YEARS:
        # a rule without end, or (before it could begin) without any occurrence
        return "99991231T235959" if moment is None or moment.year >= YEARS.stop else "00010101T000000"
    wall = moment if moment.tzinfo is None else moment.astimezone(there)
    return f"{wall.year + _ERA}{wall:%m%dT%H%M%S}"


def _moment(text: str) -> datetime | None:
    """An UNTIL as a moment, None when there is no such time."""
    try:
        return datetime.fromisoformat(text if "T" in text else f"{text}T235959")
    except ValueError:
        return None
