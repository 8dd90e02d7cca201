"""Checks of the calendar of drills: plans, windows and freezes that exist, times that come, and that there is a way to
begin at all. Pure, besides the zone database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from ismgr_automation.core.diagnostic import Diagnostic, Severity
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.windows import LONGEST, YEARS, Occurrence, Recurrence, until
from ismgr_automation.estate.checks.maintenance import rule_of, span_of
from ismgr_automation.estate.checks.sites import time_zone
from ismgr_automation.estate.draft import Draft, unknown, wrong
from ismgr_automation.estate.drill_mode import DrillMode, windows_of
from ismgr_automation.estate.maintenance import MaintenanceWindow
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.schedule import DrillSchedule

LOOKED_AT, FAR = 60, timedelta(days=1500)
"""How many times of a schedule are held against the windows of its plan, and how far from its start."""
FEW = 13
"""How many times of a schedule tell how far they lie apart: those of a year, where there is one a month."""


def drill_schedules(draft: Draft) -> Iterator[Diagnostic]:
    """A schedule is for a plan that exists and for a drill, in a zone that exists, by a rule that holds."""
    for entry, schedule in draft.each(DrillSchedule):
        known = draft.names("RecoveryPlan")
        if schedule.plan not in known:
            yield unknown("recovery plan", schedule.plan, known, entry.marked.at("plan"), entry.label)
        if schedule.mode is DrillMode.RETURN:
            summary = f"{entry.label} plans a return, which ends a drill and is none"
            yield wrong(entry.marked.at("mode"), summary, "another mode, such as switchover")
        yield from time_zone(entry, schedule.time_zone)
        if schedule.start.year not in YEARS:
            summary = f"{entry.label} begins in the year {schedule.start.year}"
            yield wrong(entry.marked.at("start"), summary, f"a year from {YEARS.start} to {YEARS.stop - 1}")
        if schedule.rule:
            yield from rule_of(entry, schedule)


def schedule_lengths(draft: Draft) -> Iterator[Diagnostic]:
    """There is time to begin, jitter leaves some of it, and the alarm can be kept."""
    for entry, schedule in draft.each(DrillSchedule):
        at, within, jitter = entry.marked.at, span_of(schedule.within), span_of(schedule.jitter)
        if not within or within > LONGEST:
            much = "no time" if within is not None and not within else schedule.within
            yield wrong(at("within"), f"drills of {entry.label} may begin within {much}", "more than 0s, at most 366d")
        elif jitter is None or jitter >= within:
            summary = f"the jitter of {entry.label} leaves nothing of its {schedule.within} to begin in"
            yield wrong(at("jitter"), summary, f"less than {schedule.within}")
        if schedule.alarm_after is not None:
            alarm = span_of(schedule.alarm_after)
            if not alarm:
                much = "no time" if alarm is not None else "a time that never ends"
                yield wrong(at("alarm_after"), f"{entry.label} raises its alarm after {much}", "a time such as 90d")
            elif (gap := _gap(schedule)) is not None and alarm < gap:
                yield Diagnostic(
                    summary=f"{entry.label} raises its alarm after {schedule.alarm_after}, and {gap.days} days lie "
                    "between its occurrences",
                    position=at("alarm_after"),
                    expected=f"{gap.days + 1}d or more",
                    severity=Severity.WARNING,
                )


def blackouts(draft: Draft) -> Iterator[Diagnostic]:
    """Windows and freezes of a blackout exist, and its ranges end after they begin."""
    for entry, schedule in draft.each(DrillSchedule):
        names = (("windows", "MaintenanceWindow", "window"), ("freezes", "Freeze", "freeze"))
        for key, kind, word in names:
            known = draft.names(kind)
            for index, name in enumerate(getattr(schedule.blackout, key)):
                if name not in known:
                    place = entry.marked.at("blackout", key, index)
                    yield unknown(word, name, known, place, f"the blackout of {entry.label}")
        for index, one in enumerate(schedule.blackout.ranges):
            if one.ends < one.begins:
                place = entry.marked.at("blackout", "ranges", index, "ends")
                yield wrong(place, f"a blackout of {entry.label} ends before it begins", f"{one.begins} or later")


def schedule_windows(draft: Draft) -> Iterator[Diagnostic]:
    """Where a drill waits for windows of its plan, one of them is open at some time when it may begin. Windows with
    calendars of their own are not read here."""
    for entry, schedule in draft.each(DrillSchedule):
        plan = draft.sound(RecoveryPlan, schedule.plan)
        names = windows_of(plan, schedule.mode) if plan is not None else ()
        found = [draft.sound(MaintenanceWindow, name) for name in names]
        windows = [recurrence for one in found if one is not None and (recurrence := _window(one)) is not None]
        own = _recurrence(schedule)
        if own is None or not windows or len(windows) < len(found):
            continue
        since = min(one.start for one in windows).replace(tzinfo=UTC)
        times = tuple(until(islice(own.occurrences(since), LOOKED_AT), max(since, _utc(own.start)) + FAR))
        if times and not any(_meet(times, one) for one in windows):
            listed = ", ".join(names)
            yield Diagnostic(
                summary=f"no drill of {entry.label} can begin: no window of plan {schedule.plan!r} ({listed}) is open "
                f"within {schedule.within} of a time of it",
                position=entry.marked.at("start"),
                expected="a time in one of the windows",
                severity=Severity.WARNING,
            )


def _meet(times: Sequence[Occurrence], window: Recurrence) -> bool:
    """Whether a window is open in one of some times, which are in order."""
    openings = until(window.occurrences(times[0].begins), times[-1].ends)
    opening = next(openings, None)
    for one in times:
        while opening is not None and opening.ends <= one.begins:
            opening = next(openings, None)
        if opening is not None and opening.begins < one.ends:
            return True
    return False


def _window(window: MaintenanceWindow) -> Recurrence | None:
    """When work may begin in a window; None for one that cannot be told, or is wrong in a way that was said."""
    length, cutoff = span_of(window.duration), span_of(window.cutoff)
    if window.calendar is not None or window.start is None or length is None or cutoff is None:
        return None
    try:
        return Recurrence(
            start=window.start,
            zone=window.time_zone,
            duration=length - cutoff,
            rule=window.rule,
            except_dates=frozenset(window.except_dates),
        )
    except InputError:
        return None


def _recurrence(schedule: DrillSchedule) -> Recurrence | None:
    """The times of a schedule, each for as long as its drill may begin; None for one that is wrong as was said."""
    within = span_of(schedule.within)
    if within is None:
        return None
    try:
        return Recurrence(
            start=schedule.start,
            zone=schedule.time_zone,
            duration=within,
            rule=schedule.rule,
            except_dates=frozenset(schedule.except_dates),
        )
    except InputError:
        return None


def _gap(schedule: DrillSchedule) -> timedelta | None:
    """The longest time between some occurrences; None where there are not two."""
    recurrence = _recurrence(schedule)
    if recurrence is None or not schedule.rule:
        return None
    times = list(islice(recurrence.occurrences(_utc(schedule.start) - timedelta(days=2)), FEW))
    return max((after.begins - one.begins for one, after in pairwise(times)), default=None)


def _utc(wall: datetime) -> datetime:
    return wall.replace(tzinfo=UTC)
