"""When drills are due: each time of a schedule is ahead, waits, is due, is forbidden, is done, or was skipped, for
reasons that have names. Pure, the time is an argument; two controllers that know the same say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from hashlib import sha256
from itertools import islice

from ismgr_automation.core.address import schedule as address_of
from ismgr_automation.core.windows import Occurrence, Recurrence, zone
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.maintenance import Freeze
from ismgr_automation.estate.resolve import duration
from ismgr_automation.estate.schedule import DrillSchedule
from ismgr_automation.planning.timing import Calendar, Work, clearance, clock, earliest, openings, spoken
from ismgr_automation.recovery.result import DrillResult, Verdict

_STEPS = 100
"""How many rules are waited for, one after another, before it is said that no end can be foreseen."""


class State(StrEnum):
    """Where one time of a schedule stands."""

    AHEAD = "ahead"
    WAITING = "waiting"
    """Its time has come, and its jitter is not over."""
    DUE = "due"
    FORBIDDEN = "forbidden"
    """It would be due, and a rule says no; it may still become due."""
    BEGUN = "begun"
    """A drill was begun for it, and is not ended: its run is at work, or waits for `ismgr resume`."""
    DONE = "done"
    """A drill was carried out for it, whatever its verdict."""
    SKIPPED = "skipped"
    """No drill was, and none will be any more."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slot:
    """One time of a schedule, in UTC. ``at`` is its time without jitter, which it is known by; its drill may begin from
    ``begins`` until just before ``latest``."""

    at: datetime
    schedule: str
    plan: str
    mode: DrillMode
    begins: datetime
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """A rule that says no, in a sentence; ``until`` is when it alone would say yes, None when nobody can tell."""

    words: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """A schedule with what its drills are: ``work`` has the windows that they wait for, the hosts that they work on,
    and how long one takes. Times that were over at ``since`` are not counted: nobody knew of the schedule."""

    schedule: DrillSchedule
    work: Work
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A run that was at work; ``ended`` is None while it is."""

    run: str
    purpose: str
    began: datetime
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that is known at one moment, ``now`` (aware). ``busy`` says why nothing may begin whatever its time is; it is
    empty where something may."""

    now: datetime
    calendar: Calendar = field(default_factory=Calendar)
    results: Sequence[DrillResult] = ()
    shifts: Sequence[Shift] = ()
    begun: Mapping[tuple[str, datetime], str] = field(default_factory=dict)
    """By schedule and time, the run of a drill that was begun for it and is not ended."""
    busy: str = ""

    def by_slot(self) -> Mapping[tuple[str, datetime | None], DrillResult]:
        """The results of drills that were begun for a schedule, or skipped. What was begun counts before a skip."""
        ranked = sorted(self.results, key=lambda one: (one.verdict is not Verdict.SKIPPED, one.ended_at))
        return {(one.schedule, one.occurrence): one for one in ranked if one.schedule}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Where a slot stands, and why. ``bans`` forbid it now, or where it is ahead at the time that it would begin at;
    ``free`` is the first moment from there on at which nothing does, None when that is not before ``latest``."""

    slot: Slot
    state: State
    reason: str = ""
    """Why it was skipped, or by which run it was begun."""
    bans: tuple[Ban, ...] = ()
    free: datetime | None = None
    result: DrillResult | None = None
    """Its record; a slot that was skipped and has none is yet to be put on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """No drill of a plan and mode passed for longer than its schedule allows; ``last`` is None where none ever did."""

    schedule: str
    plan: str
    mode: DrillMode
    after: timedelta
    last: datetime | None
    for_: timedelta
    """Since the last that passed, or since the schedule's start."""

    @property
    def words(self) -> str:
        """In a sentence."""
        last = f"the last one at {clock(self.last)}" if self.last is not None else "none ever did"
        spans = f"for {spoken(_minutes(self.for_))} ({last}), and {spoken(self.after)} are allowed"
        return f"{address_of(self.schedule)}: no {self.mode} of {self.plan} passed {spans}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """All that schedules say at one moment. ``turns`` in the order in which they begin; one drill at a time."""

    now: datetime
    turns: tuple[Turn, ...]
    alarms: tuple[Alarm, ...] = ()
    coming: Mapping[str, Slot] = field(default_factory=dict)
    """The next slot that is ahead, by schedule; missing for one that has none."""

    @property
    def due(self) -> tuple[Turn, ...]:
        """What may begin now, the first first."""
        return tuple(one for one in self.turns if one.state is State.DUE)

    @property
    def unrecorded(self) -> tuple[Turn, ...]:
        """What was skipped and is not on record."""
        return tuple(one for one in self.turns if one.state is State.SKIPPED and one.result is None)

    @property
    def current(self) -> tuple[Turn, ...]:
        """What has its time now, is at work, or is yet to be put on record."""
        return tuple(
            one
            for one in self.turns
            if one.slot.at <= self.now < one.slot.latest or (one.result is None and one.state is not State.AHEAD)
        )


def outlook(agendas: Iterable[Agenda], known: Known) -> Outlook:
    """What is due now, what is not and why, what was skipped, and which alarms there are."""
    now, agendas = known.now, tuple(agendas)
    turns = [one for agenda in agendas for one in turns_of(agenda, known, agenda.since, now)]
    found = ((one.schedule.name, next((s for s in slots(one.schedule, now) if s.at > now), None)) for one in agendas)
    return Outlook(
        now=now,
        turns=tuple(sorted(turns, key=begins_first)),
        alarms=tuple(alarm for one in agendas if (alarm := alarm_of(one.schedule, known)) is not None),
        coming={name: slot for name, slot in found if slot is not None},
    )


def turns_of(agenda: Agenda, known: Known, begin: datetime, end: datetime) -> Iterator[Turn]:
    """The turns of a schedule that are not over at ``begin`` and have their time at ``end`` or before, in order. Those
    that were over before anybody knew of the schedule are left out."""
    recorded = known.by_slot()
    for slot in slots(agenda.schedule, begin):
        if slot.at > end:
            return
        result = recorded.get((slot.schedule, slot.at))
        if result is not None:
            yield _told(slot, result)
        elif slot.latest > agenda.since:
            yield turn(slot, agenda, known)


def turn(slot: Slot, agenda: Agenda, known: Known) -> Turn:
    """Where a slot stands that has no record."""
    now, run = known.now, known.begun.get((slot.schedule, slot.at))
    if run is not None:
        return Turn(slot=slot, state=State.BEGUN, reason=f"run {run} is not ended")
    if now >= slot.latest:
        return Turn(slot=slot, state=State.SKIPPED, reason=why_skipped(slot, agenda, known))
    moment = max(now, slot.begins)
    found = bans(agenda, known.calendar, moment)
    free = free_from(agenda, known.calendar, moment, slot.latest)
    if now < slot.begins:
        return Turn(slot=slot, state=State.AHEAD if now < slot.at else State.WAITING, bans=found, free=free)
    found = (*([Ban(words=known.busy)] if known.busy else []), *found)
    return Turn(slot=slot, state=State.FORBIDDEN if found else State.DUE, bans=found, free=free)


def strays(known: Known, turns: Iterable[Turn], begin: datetime, end: datetime) -> Iterator[Turn]:
    """What is on record from ``begin`` to ``end`` for times that no schedule has any more: documents change, records
    stay."""
    seen = {(one.slot.schedule, one.slot.at) for one in turns}
    for (name, at), one in known.by_slot().items():
        if at is None or (name, at) in seen or not begin <= at <= end:
            continue
        if isinstance(one.mode, DrillMode):  # nobody schedules a table
            yield _told(Slot(at=at, schedule=name, plan=one.plan, mode=one.mode, begins=at, latest=at), one)


def begins_first(one: Turn) -> tuple[datetime, datetime, str]:
    """The order in which turns are taken."""
    return (one.slot.begins, one.slot.at, one.slot.schedule)


def slots(schedule: DrillSchedule, since: datetime) -> Iterator[Slot]:
    """The times of a schedule that are not over at ``since``, in order; may never end. Raises ``InputError`` for one
    that the checks would not let pass."""
    times = recurrence(schedule).occurrences(since)
    current = next(times, None)
    while current is not None:
        coming = next((one for one in times if one.begins > current.begins), None)
        slot = _slot(schedule, current, coming)
        if slot.latest > since:
            yield slot
        current = coming


def recurrence(schedule: DrillSchedule) -> Recurrence:
    """The times of a schedule, each for as long as its drill may begin."""
    return Recurrence(
        start=schedule.start,
        zone=schedule.time_zone,
        duration=duration(schedule.within),
        rule=schedule.rule,
        except_dates=frozenset(schedule.except_dates),
        name=schedule.name,
    )


def jittered(name: str, at: datetime, most: timedelta) -> timedelta:
    """How much is added to one time of a schedule: from nothing to less than ``most``, in whole seconds, the same for
    everybody who asks.

    >>> at = datetime(2026, 1, 4, 1, tzinfo=UTC)
    >>> jittered("monthly", at, timedelta(hours=1)) == jittered("monthly", at, timedelta(hours=1)) < timedelta(hours=1)
    True
    """
    taken = sha256(f"{name} {at.astimezone(UTC).isoformat()}".encode()).digest()
    share = int.from_bytes(taken[:8]) / 2**64
    return timedelta(seconds=int(share * most.total_seconds()))


def bans(agenda: Agenda, calendar: Calendar, moment: datetime) -> tuple[Ban, ...]:
    """What forbids that a drill begins at a moment: freezes and windows as for all work, then blackouts."""
    found = clearance(agenda.work, calendar, moment).obstacles
    return (*(Ban(words=one.summary, until=one.until) for one in found), *_blackouts(agenda, calendar, moment))


def free_from(agenda: Agenda, calendar: Calendar, moment: datetime, latest: datetime) -> datetime | None:
    """The first moment from ``moment`` on, and before ``latest``, at which nothing forbids a drill."""
    for _ in range(_STEPS):
        hoped = earliest([agenda.work], calendar, moment)
        if hoped is None or hoped >= latest:
            return None
        found = _blackouts(agenda, calendar, hoped)
        if not found:
            return hoped
        moment = max(one.until for one in found if one.until is not None)
    return None


def why_skipped(slot: Slot, agenda: Agenda, known: Known) -> str:
    """Why no drill was begun in a slot that is over, as far as calendar and runs can tell."""
    free = free_from(agenda, known.calendar, slot.begins, slot.latest)
    if free is None:
        found = "; ".join(one.words for one in bans(agenda, known.calendar, slot.begins))
        return f"forbidden from {clock(slot.begins)} until {clock(slot.latest)}: {found}"
    when = f"it was not begun between {clock(free)} and {clock(slot.latest)}"
    for one in known.shifts:
        if one.began < slot.latest and (one.ended is None or one.ended > free):
            ended = f"until {clock(one.ended)}" if one.ended is not None else "and is not ended"
            return f"{when}: run {one.run} ({one.purpose}) had the lease from {clock(one.began)} {ended}"
    return f"{when}: nobody asked what was due (`ismgr drill due --run`)"


def alarm_of(schedule: DrillSchedule, known: Known) -> Alarm | None:
    """The alarm of a schedule, if it is time for it."""
    start = schedule.start.replace(tzinfo=zone(schedule.time_zone)).astimezone(UTC)
    if schedule.alarm_after is None:
        return None
    ours = (one for one in known.results if (one.plan, one.mode) == (schedule.plan, schedule.mode))
    last = max((one.ended_at for one in ours if one.verdict is Verdict.PASSED), default=None)
    after, since = duration(schedule.alarm_after), known.now - (last if last is not None else start)
    if since <= after:
        return None
    return Alarm(schedule=schedule.name, plan=schedule.plan, mode=schedule.mode, after=after, last=last, for_=since)


def _told(slot: Slot, result: DrillResult) -> Turn:
    """Where a slot stands that is on record."""
    skipped = result.verdict is Verdict.SKIPPED
    reason = "; ".join(result.reasons) if skipped else ""
    return Turn(slot=slot, state=State.SKIPPED if skipped else State.DONE, reason=reason, result=result)


def _slot(schedule: DrillSchedule, one: Occurrence, coming: Occurrence | None) -> Slot:
    latest = min(one.ends, coming.begins) if coming is not None else one.ends
    most = min(duration(schedule.jitter), latest - one.begins)
    return Slot(
        at=one.begins,
        schedule=schedule.name,
        plan=schedule.plan,
        mode=schedule.mode,
        begins=one.begins + jittered(schedule.name, one.begins, most),
        latest=latest,
    )


def _blackouts(agenda: Agenda, calendar: Calendar, moment: datetime) -> tuple[Ban, ...]:
    """Blackouts that a drill which begins at a moment would fall into; each of them ends."""
    schedule, ends = agenda.schedule, moment + agenda.work.needs
    blackout, rule = schedule.blackout, address_of(schedule.name)
    found = [
        Ban(words=f"{rule} has a blackout on {words}", until=span.ends)
        for span, words in _days(schedule)
        if _touches(span, moment, ends)
    ]
    for name in blackout.windows:
        for span in islice(openings(calendar.windows[name], calendar, moment), 1):
            if _touches(span, moment, ends):
                words = f"{rule} has a blackout while window/{name} is open, until {clock(span.ends)}"
                found.append(Ban(words=words, until=span.ends))
    for name in blackout.freezes:
        freeze = calendar.freezes[name]
        if _touches(_span(freeze), moment, ends):
            words = f"{rule} has a blackout in freeze/{name}, until {clock(freeze.ends)}: {freeze.reason}"
            found.append(Ban(words=words, until=freeze.ends.astimezone(UTC)))
    return tuple(found)


def _touches(span: Occurrence, moment: datetime, ends: datetime) -> bool:
    return span.covers(moment) or moment < span.begins < ends


def _span(freeze: Freeze) -> Occurrence:
    return Occurrence(begins=freeze.begins.astimezone(UTC), ends=freeze.ends.astimezone(UTC))


def _days(schedule: DrillSchedule) -> Iterator[tuple[Occurrence, str]]:
    """Whole days on the clock of the schedule, as moments."""
    for day in schedule.blackout.dates:
        yield _whole(day, day, schedule.time_zone), f"{day}"
    for one in schedule.blackout.ranges:
        reason = f": {one.reason}" if one.reason else ""
        yield _whole(one.begins, one.ends, schedule.time_zone), f"{one.begins} to {one.ends}{reason}"


def _whole(first: date, last: date, name: str) -> Occurrence:
    there = zone(name)
    begins = datetime.combine(first, time(), tzinfo=there).astimezone(UTC)
    return Occurrence(begins=begins, ends=datetime.combine(last + timedelta(1), time(), tzinfo=there).astimezone(UTC))


def _minutes(span: timedelta) -> timedelta:
    return timedelta(minutes=span // timedelta(minutes=1))
