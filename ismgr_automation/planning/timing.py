"""Whether work may begin now: a window that is open for long enough, and no freeze. Pure, the time is an argument; each
no names the rule that says it, and what cannot be over in time is never begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice

from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import InputError, OutsideWindow
from ismgr_automation.core.windows import Occurrence, Recurrence, joined, zone
from ismgr_automation.estate.maintenance import Freeze, MaintenanceWindow, Scope
from ismgr_automation.estate.resolve import duration
from ismgr_automation.estate.selector import Selector
from ismgr_automation.planning.forecast import Estimate
from ismgr_automation.ports.hosts import Host

EVERYBODY = "true"
"""The selector of a freeze that is for everybody, and holds up stacks as well."""

FEW = 5
"""Fewer past durations than that are not believed to be the whole truth."""

AHEAD = timedelta(days=400)
"""How far the events of calendars are read ahead."""

_LOOKED_AT = 200
_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """All windows and freezes of an estate by name. ``events`` has what the iCalendar files of windows hold, by the
    window's name and in order, from before the moment that is asked for until ``AHEAD`` of it."""

    windows: Mapping[str, MaintenanceWindow] = field(default_factory=dict)
    freezes: Mapping[str, Freeze] = field(default_factory=dict)
    events: Mapping[str, Sequence[Occurrence]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to begin. ``windows``: one of them must be open, without any always. ``needs`` is how long it takes, as
    far as anybody can say (see ``reserve``). Work on stacks has no ``hosts``: only freezes for everybody hold it up."""

    scope: Scope
    hosts: Sequence[Host] = ()
    windows: Sequence[str] = ()
    needs: timedelta = timedelta()
    urgent: bool = False
    """Whether windows and freezes are overridden; that this was approved is not looked at here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A rule that says no. ``summary`` is a sentence that begins with the rule's address; ``until`` is when this rule
    alone would say yes, None when that cannot be foreseen."""

    rule: Address
    summary: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """Whether work may begin, and if so by when it must be over. ``obstacles`` is empty when it may; ``overridden`` are
    those that urgent work passes by, for the evidence."""

    obstacles: tuple[Obstacle, ...] = ()
    overridden: tuple[Obstacle, ...] = ()
    ends: datetime | None = None
    """When the window closes (its cutoff taken off) or the next freeze begins; None when nothing ends it."""

    @property
    def obstacle(self) -> Obstacle | None:
        """Why not: the first rule that says no, None when the work may begin."""
        return self.obstacles[0] if self.obstacles else None


def clearance(work: Work, calendar: Calendar, now: datetime) -> Clearance:
    """Whether the work may begin at ``now`` (aware). Never refuses urgent work, and tells what it overrides."""
    held = [(one, _frozen(one, work.needs, now)) for one in _protecting(work, calendar.freezes.values())]
    freezes = [obstacle for _, obstacle in held if obstacle is not None]
    closing, windows = _windows(work, calendar, now)
    found = (*freezes, *windows)
    if work.urgent:
        return Clearance(overridden=found)
    if found:
        return Clearance(obstacles=found)
    ends = [one.begins.astimezone(UTC) for one, _ in held if one.begins > now]
    return Clearance(ends=min([*ends, *([closing] if closing is not None else [])], default=None))


def clear_for_all(works: Iterable[Work], calendar: Calendar, now: datetime) -> Clearance:
    """Whether all of several works may begin together: the obstacles of each, every one once."""
    found = [clearance(one, calendar, now) for one in works]
    return Clearance(
        obstacles=tuple(dict.fromkeys(rule for one in found for rule in one.obstacles)),
        overridden=tuple(dict.fromkeys(rule for one in found for rule in one.overridden)),
        ends=min((one.ends for one in found if one.ends is not None), default=None),
    )


def earliest(works: Sequence[Work], calendar: Calendar, now: datetime) -> datetime | None:
    """The first moment from ``now`` on at which all of the works may begin; None when none can be foreseen."""
    moment = now
    for _ in range(_STEPS):
        hoped = [_hoped(one, calendar, moment) for one in works]
        latest = max((one for one in hoped if one is not None), default=moment)
        if None in hoped or latest == moment:
            return None if None in hoped else moment
        moment = latest
    return None


def _hoped(work: Work, calendar: Calendar, moment: datetime) -> datetime | None:
    """The moment itself, if the work may begin; else one before which it may not."""
    found = clearance(work, calendar, moment).obstacles
    freezes = [one.until for one in found if one.rule.kind is Kind.FREEZE]
    windows = [one.until for one in found if one.rule.kind is Kind.WINDOW]
    opens = min((one for one in windows if one is not None), default=None)
    if windows and opens is None:
        return None
    return max((one for one in (*freezes, opens) if one is not None), default=moment)


def reserve(durations: Sequence[timedelta], *, unknown: timedelta) -> timedelta:
    """How long to keep free for work that took so long before: the 95th percentile by nearest rank, which for fewer
    than 20 durations is the longest of them. As long as there are fewer than ``FEW`` it is not less than ``unknown``,
    what is assumed without any.

    >>> reserve([timedelta(minutes=9)], unknown=timedelta(minutes=30))
    datetime.timedelta(seconds=1800)
    """
    return estimate(durations, unknown=unknown).span


def estimate(durations: Sequence[timedelta], *, unknown: timedelta) -> Estimate:
    """What ``reserve`` says, and where it comes from. ``unknown`` is a deadline that documents set.

    >>> estimate([timedelta(minutes=9)] * 12, unknown=timedelta(minutes=30))
    Estimate(span=datetime.timedelta(seconds=540), source='p95 of 12 runs')
    """
    count = len(durations)
    if not count:
        return Estimate(span=unknown, source="no history: the deadline, restarts left out")
    found, runs = usual(durations), f"{count} run{'s' * (count != 1)}"
    if count >= FEW:
        return Estimate(span=found, source=f"p95 of {runs}")
    if found > unknown:
        return Estimate(span=found, source=f"longest of {runs}")
    return Estimate(span=unknown, source=f"{runs} only: the deadline, restarts left out")


def usual(durations: Sequence[timedelta]) -> timedelta:
    """The 95th percentile of some durations by nearest rank."""
    ranked = sorted(durations)
    return ranked[-(-95 * len(ranked) // 100) - 1]


def refused(found: Clearance, *, first: datetime | None = None) -> OutsideWindow:
    """The error for a clearance with obstacles; ``first`` is the moment at which all of them are gone, if known."""
    wait = f"Wait until {clock(first)}" if first is not None else "Wait (`ismgr window list` tells what opens when)"
    return OutsideWindow(
        "Now is not the time: " + "; ".join(one.summary for one in found.obstacles) + ".",
        next_step=f"{wait}, or have an urgent run approved.",
    )


def recurrence(window: MaintenanceWindow) -> Recurrence:
    """When a window that has no calendar opens. Raises ``InputError`` for one that the checks would not let pass."""
    if window.start is None:
        raise InputError(f"MaintenanceWindow {window.name} has no start.", next_step="Run `ismgr validate`.")
    return Recurrence(
        start=window.start,
        zone=window.time_zone,
        duration=duration(window.duration),
        rule=window.rule,
        except_dates=frozenset(window.except_dates),
        name=window.name,
    )


def occurrences(window: MaintenanceWindow, calendar: Calendar, since: datetime) -> Iterator[Occurrence]:
    """When a window opens, from what is not over at ``since`` on, in order. May never end.

    Raises ``InputError`` as ``recurrence``.
    """
    if window.calendar is not None:
        return (one for one in calendar.events.get(window.name, ()) if one.ends > since)
    return recurrence(window).occurrences(since)


def openings(window: MaintenanceWindow, calendar: Calendar, since: datetime) -> Iterator[Occurrence]:
    """As ``occurrences``, with those that touch as one: nothing closes between them."""
    return joined(occurrences(window, calendar, since))


def applies(freeze: Freeze, work: Work) -> bool:
    """Whether a freeze is meant for this work, whenever it is."""
    if work.scope not in freeze.work:
        return False
    return freeze.selector.strip() == EVERYBODY or _selects(freeze.selector, work.hosts)


def spoken(span: timedelta) -> str:
    """A span of time in words.

    >>> spoken(timedelta(hours=26, minutes=5)), spoken(timedelta())
    ('1d 2h 5m', '0s')
    """
    seconds = round(span.total_seconds())
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        amount, seconds = divmod(seconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return " ".join(parts) or "0s"


def local(moment: datetime, window: MaintenanceWindow) -> str:
    """A moment on the clock of a window's zone, with its offset: ``2026-03-29 01:00+01:00``."""
    return clock(moment.astimezone(zone(window.time_zone)))


def clock(moment: datetime) -> str:
    """A moment in its own zone, to the minute."""
    return moment.isoformat(sep=" ", timespec="minutes")


def _protecting(work: Work, freezes: Iterable[Freeze]) -> list[Freeze]:
    return sorted((one for one in freezes if applies(one, work)), key=lambda one: (one.begins, one.name))


def _selects(selector: str, hosts: Sequence[Host]) -> bool:
    try:
        select = Selector.compile(selector)
        return any(select.matches(host) for host in hosts)
    except InputError:
        # whom it protects cannot be told: then nobody is touched
        return True


def _frozen(freeze: Freeze, needs: timedelta, now: datetime) -> Obstacle | None:
    begun = freeze.begins <= now
    if now >= freeze.ends or not (begun or freeze.begins < now + needs):
        return None
    when = (
        f"holds until {clock(freeze.ends)}"
        if begun
        else f"begins at {clock(freeze.begins)}, and the work needs {spoken(needs)}"
    )
    rule = Address(Kind.FREEZE, freeze.name)
    summary = f"{rule} {when}: {freeze.reason} (asked for by team {freeze.owner})"
    return Obstacle(rule=rule, summary=summary, until=freeze.ends.astimezone(UTC))


def _windows(work: Work, calendar: Calendar, now: datetime) -> tuple[datetime | None, tuple[Obstacle, ...]]:
    """By when the work must be over in the window that is open longest, or what each window says against it."""
    ends: list[datetime] = []
    found: list[Obstacle] = []
    for name in work.windows:
        one = _window(name, work.needs, calendar, now)
        if isinstance(one, Obstacle):
            found.append(one)
        else:
            ends.append(one)
    # what opens first is told first
    found.sort(key=lambda one: (one.until is None, one.until or now))
    return max(ends, default=None), () if ends else tuple(found)


def _window(name: str, needs: timedelta, calendar: Calendar, now: datetime) -> datetime | Obstacle:
    rule = Address(Kind.WINDOW, name)
    window = calendar.windows.get(name)
    if window is None:
        return Obstacle(rule=rule, summary=f"{rule} is asked for, and there is no such document")
    cutoff = duration(window.cutoff)
    stream = islice(openings(window, calendar, now), _LOOKED_AT)
    first = next(stream, None)
    current = first if first is not None and first.covers(now) else None
    if current is not None and _fits(now, current.ends, needs, cutoff):
        return current.ends - cutoff
    coming = next(stream, None) if current is not None else first
    later = chain([coming] if coming is not None else [], stream)
    fitting = next((one for one in later if _fits(one.begins, one.ends, needs, cutoff)), None)
    if current is not None:
        state = f"closes too soon: the work needs {spoken(needs)}, {spoken(current.ends - now)} are left{_cut(cutoff)}"
    else:
        state = "is closed"
    until = fitting.begins if fitting is not None else None
    summary = f"{rule} {state}; {_opens(window, coming, fitting, needs + cutoff)}"
    return Obstacle(rule=rule, summary=summary, until=until)


def _fits(begins: datetime, ends: datetime, needs: timedelta, cutoff: timedelta) -> bool:
    """Whether work that begins then is over before the cutoff, and does not begin after it."""
    return begins < ends - cutoff and begins + needs <= ends - cutoff


def _cut(cutoff: timedelta) -> str:
    return f", and nothing is begun in the last {spoken(cutoff)}" if cutoff else ""


def _opens(window: MaintenanceWindow, coming: Occurrence | None, fitting: Occurrence | None, takes: timedelta) -> str:
    if coming is None:
        return "it does not open again"
    opens = f"it opens next at {local(coming.begins, window)}"
    if fitting is None:
        return f"{opens}, and never for the {spoken(takes)} that it would take"
    return opens if fitting == coming else f"{opens}, and for long enough at {local(fitting.begins, window)}"
