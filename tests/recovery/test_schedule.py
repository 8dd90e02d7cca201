"""When drills are due: each time of a schedule stands in one place, on every clock, and for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.maintenance import Freeze, MaintenanceWindow, Scope
from ismgr_automation.estate.schedule import DrillSchedule
from ismgr_automation.planning.timing import Calendar, Work
from ismgr_automation.recovery.result import DrillResult, Goals, Verdict, read_result, result_json
from ismgr_automation.recovery.schedule import (
    Agenda,
    Known,
    Shift,
    Slot,
    State,
    Turn,
    alarm_of,
    free_from,
    jittered,
    outlook,
    slots,
    strays,
    turns_of,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SUNDAY = datetime(2026, 3, 1, 2, tzinfo=UTC)
"""A time of the schedule below."""
WINDOW = MaintenanceWindow.model_validate(
    {
        "kind": "MaintenanceWindow",
        "name": "nights",
        "time_zone": "UTC",
        "start": "2026-01-01T03:00:00",
        "rule": "FREQ=DAILY",
        "duration": "30m",
    }
)


def schedule(**more: Any) -> DrillSchedule:
    return DrillSchedule.model_validate(
        {
            "kind": "DrillSchedule",
            "name": "weekly",
            "plan": "records",
            "time_zone": "UTC",
            "start": "2026-03-01T02:00:00",
            "rule": "FREQ=WEEKLY;BYDAY=SU",
            "within": "2h",
            **more,
        }
    )


def freeze(begins: datetime, ends: datetime, name: str = "quarter", **more: Any) -> Freeze:
    body = {"kind": "Freeze", "name": name, "reason": "books are closed", "owner": "platform"}
    return Freeze.model_validate({**body, "begins": begins, "ends": ends, **more})


def agenda(
    of: DrillSchedule, *, windows: tuple[str, ...] = (), needs: timedelta = HOUR / 6, since: datetime = LONG_AGO
) -> Agenda:
    return Agenda(schedule=of, work=Work(scope=Scope.DRILL, windows=windows, needs=needs), since=since)


def result(at: datetime | None, verdict: Verdict = Verdict.PASSED, **more: Any) -> DrillResult:
    ended = more.pop("ended_at", (at or SUNDAY) + HOUR)
    body: dict[str, Any] = {"schedule": "weekly" if at else "", "mode": DrillMode.SWITCHOVER, "reasons": (), **more}
    return DrillResult(
        run="r",
        plan="records",
        service="records",
        estate="clinic",
        environment="lab",
        commit="c",
        digest="d",
        began_at=ended,
        ended_at=ended,
        goals=Goals(rto=None, rpo=None),
        verdict=verdict,
        verdicts={},
        occurrence=at,
        **body,
    )


def calendar(*freezes: Freeze, windows: Mapping[str, MaintenanceWindow] | None = None) -> Calendar:
    return Calendar(windows=windows or {}, freezes={one.name: one for one in freezes})


def at(of: Agenda, known: Known) -> Turn:
    """Where the schedule's first time stands."""
    (found,) = turns_of(of, known, LONG_AGO, SUNDAY)
    return found


STATES: dict[str, tuple[timedelta, State]] = {
    "before": (-timedelta(seconds=1), State.AHEAD),
    "in its time": (timedelta(0), State.DUE),
    "at the last moment": (2 * HOUR - timedelta(seconds=1), State.DUE),
    "too late": (2 * HOUR, State.SKIPPED),
}


@pytest.mark.parametrize("case", STATES)
def test_a_time_is_ahead_then_due_then_skipped(case: str) -> None:
    after, state = STATES[case]
    assert at(agenda(schedule()), Known(now=SUNDAY + after)).state is state


def test_a_time_waits_until_its_jitter_is_over() -> None:
    of = schedule(jitter="1h")
    extra = jittered("weekly", SUNDAY, HOUR)
    assert timedelta() < extra < HOUR
    assert at(agenda(of), Known(now=SUNDAY)).state is State.WAITING
    assert at(agenda(of), Known(now=SUNDAY + extra - timedelta(seconds=1))).state is State.WAITING
    assert at(agenda(of), Known(now=SUNDAY + extra)).state is State.DUE


@pytest.mark.parametrize("verdict", [one for one in Verdict if one is not Verdict.SKIPPED])
def test_a_drill_that_was_carried_out_is_done_whatever_it_showed(verdict: Verdict) -> None:
    found = at(agenda(schedule()), Known(now=SUNDAY, results=[result(SUNDAY, verdict)]))
    assert (found.state, found.result and found.result.verdict) == (State.DONE, verdict)


def test_a_skip_on_record_is_not_recorded_again_and_never_hides_a_drill() -> None:
    skip = result(SUNDAY, Verdict.SKIPPED, reasons=("not approved",), ended_at=SUNDAY + DAY)
    found = at(agenda(schedule()), Known(now=SUNDAY, results=[skip]))
    assert (found.state, found.reason) == (State.SKIPPED, "not approved")
    assert outlook([agenda(schedule())], Known(now=SUNDAY + DAY, results=[skip])).unrecorded == ()
    assert at(agenda(schedule()), Known(now=SUNDAY, results=[result(SUNDAY), skip])).state is State.DONE


def test_a_drill_that_a_person_began_does_not_count_for_a_time() -> None:
    assert at(agenda(schedule()), Known(now=SUNDAY, results=[result(None)])).state is State.DUE


BANS: dict[str, tuple[dict[str, Any], Calendar, str]] = {
    "a freeze": (
        {},
        calendar(freeze(SUNDAY - DAY, SUNDAY + HOUR)),
        "freeze/quarter holds until 2026-03-01 03:00+00:00: books are closed",
    ),
    "a freeze of other work that is named": (
        {"blackout": {"freezes": ["quarter"]}},
        calendar(freeze(SUNDAY - DAY, SUNDAY + HOUR, work=["patch"])),
        "schedule/weekly has a blackout in freeze/quarter, until 2026-03-01 03:00+00:00: books are closed",
    ),
    "a day": ({"blackout": {"dates": [date(2026, 3, 1)]}}, Calendar(), "schedule/weekly has a blackout on 2026-03-01"),
    "days": (
        {"blackout": {"ranges": [{"begins": date(2026, 2, 1), "ends": date(2026, 3, 1), "reason": "audit"}]}},
        Calendar(),
        "schedule/weekly has a blackout on 2026-02-01 to 2026-03-01: audit",
    ),
    "the night before a day": (
        {"blackout": {"dates": [date(2026, 3, 2)]}, "start": "2026-03-01T23:55:00"},
        Calendar(),
        "schedule/weekly has a blackout on 2026-03-02",
    ),
    "a window in which others work": (
        {"blackout": {"windows": ["nights"]}, "start": "2026-03-01T02:55:00"},
        calendar(windows={"nights": WINDOW}),
        "schedule/weekly has a blackout while window/nights is open, until 2026-03-01 03:30+00:00",
    ),
}


@pytest.mark.parametrize("case", BANS)
def test_what_forbids_a_drill_is_named(case: str) -> None:
    more, known, words = BANS[case]
    of = schedule(**more)
    now = next(slots(of, LONG_AGO)).at
    (found,) = turns_of(agenda(of), Known(now=now, calendar=known), LONG_AGO, now)
    assert found.state is State.FORBIDDEN
    assert found.bans[0].words.startswith(words)


def test_a_plan_waits_for_its_window_and_is_due_in_it() -> None:
    of, known = agenda(schedule(), windows=("nights",)), calendar(windows={"nights": WINDOW})
    before = at(of, Known(now=SUNDAY, calendar=known))
    assert (before.state, before.free) == (State.FORBIDDEN, SUNDAY + HOUR)
    assert before.bans[0].words.startswith("window/nights is closed; it opens next at 2026-03-01 03:00+00:00")
    assert at(of, Known(now=SUNDAY + HOUR, calendar=known)).state is State.DUE
    too_long = agenda(schedule(), windows=("nights",), needs=HOUR)
    assert at(too_long, Known(now=SUNDAY + HOUR, calendar=known)).state is State.FORBIDDEN


def test_a_time_that_is_ahead_says_what_will_forbid_it() -> None:
    known = calendar(freeze(SUNDAY - HOUR, SUNDAY + DAY))
    found = at(agenda(schedule()), Known(now=SUNDAY - 2 * HOUR, calendar=known))
    assert (found.state, found.free, len(found.bans)) == (State.AHEAD, None, 1)


@pytest.mark.parametrize("after", [timedelta(), DAY])
def test_a_time_that_a_drill_is_at_work_for_is_neither_due_nor_skipped(after: timedelta) -> None:
    known = Known(now=SUNDAY + after, begun={("weekly", SUNDAY): "r1"}, busy="run r1 (drill) is not ended")
    found = at(agenda(schedule()), known)
    assert (found.state, found.reason) == (State.BEGUN, "run r1 is not ended")


def test_nothing_is_due_while_somebody_else_is_at_work() -> None:
    found = at(agenda(schedule()), Known(now=SUNDAY, busy="run x is not ended"))
    assert (found.state, [one.words for one in found.bans]) == (State.FORBIDDEN, ["run x is not ended"])


NOT_BEGUN = "it was not begun between 2026-03-01 02:00+00:00 and 2026-03-01 04:00+00:00"
SKIPPED: dict[str, tuple[Calendar, tuple[Shift, ...], str]] = {
    "forbidden all the time": (
        calendar(freeze(SUNDAY - HOUR, SUNDAY + DAY)),
        (),
        "forbidden from 2026-03-01 02:00+00:00 until 2026-03-01 04:00+00:00: freeze/quarter holds until",
    ),
    "forbidden part of it": (
        calendar(freeze(SUNDAY - HOUR, SUNDAY + HOUR)),
        (),
        "it was not begun between 2026-03-01 03:00+00:00 and 2026-03-01 04:00+00:00: nobody asked what was due",
    ),
    "the controller was off": (
        Calendar(),
        (),
        f"{NOT_BEGUN}: nobody asked what was due",
    ),
    "somebody else had the lease": (
        Calendar(),
        (
            Shift(run="early", purpose="apply", began=SUNDAY - DAY, ended=SUNDAY),
            Shift(run="long", purpose="patch", began=SUNDAY - HOUR, ended=SUNDAY + DAY),
        ),
        f"{NOT_BEGUN}: run long (patch) had the lease from 2026-03-01 01:00+00:00 until 2026-03-02 02:00+00:00",
    ),
    "and still has": (
        Calendar(),
        (Shift(run="dead", purpose="drill", began=SUNDAY + HOUR),),
        f"{NOT_BEGUN}: run dead (drill) had the lease from 2026-03-01 03:00+00:00 and is not ended",
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_a_time_that_passed_without_a_drill_says_why(case: str) -> None:
    known, shifts, words = SKIPPED[case]
    (found,) = outlook([agenda(schedule())], Known(now=SUNDAY + DAY, calendar=known, shifts=shifts)).unrecorded
    assert found.reason.startswith(words)


def test_what_was_over_before_anybody_knew_of_the_schedule_is_not_counted() -> None:
    now = SUNDAY + timedelta(weeks=3) + DAY
    late = agenda(schedule(), since=SUNDAY + timedelta(weeks=2))
    assert len(outlook([agenda(schedule())], Known(now=now)).unrecorded) == 4
    assert len(outlook([late], Known(now=now)).unrecorded) == 2
    # what is on record is told all the same
    found = list(turns_of(late, Known(now=now, results=[result(SUNDAY)]), LONG_AGO, now))
    assert [one.state for one in found] == [State.DONE, State.SKIPPED, State.SKIPPED]


def test_two_drills_take_turns_in_the_order_in_which_they_begin() -> None:
    first, second = schedule(name="b"), schedule(name="a", start="2026-03-01T02:30:00")
    found = outlook([agenda(second), agenda(first)], Known(now=SUNDAY + HOUR))
    assert [one.slot.schedule for one in found.due] == ["b", "a"]
    assert found.coming["a"].at == SUNDAY + timedelta(weeks=1) + HOUR / 2


def test_a_time_ends_when_the_next_one_comes() -> None:
    of = schedule(rule="FREQ=DAILY", within="36h", jitter="30h")
    first, second = islice(slots(of, LONG_AGO), 2)
    assert first.latest == second.at == SUNDAY + DAY
    assert first.begins < first.latest


def test_records_of_times_that_no_schedule_has_any_more_are_told() -> None:
    moved = result(SUNDAY - DAY)
    known = Known(now=SUNDAY, results=[moved, result(SUNDAY), result(None)])
    own = list(turns_of(agenda(schedule()), known, LONG_AGO, SUNDAY))
    assert [one.result for one in strays(known, own, LONG_AGO, SUNDAY)] == [moved]


ALARMS: dict[str, tuple[list[DrillResult], timedelta, str]] = {
    "nothing ever passed": ([], 31 * DAY, "none ever did"),
    "not yet": ([], 30 * DAY, ""),
    "one passed": ([result(SUNDAY)], 30 * DAY + HOUR, ""),
    "one that a person began passed": ([result(None)], 30 * DAY + HOUR, ""),
    "one failed": ([result(SUNDAY, Verdict.FAILED)], 31 * DAY, "none ever did"),
    "another kind passed": ([result(SUNDAY, mode=DrillMode.FAILOVER)], 31 * DAY, "none ever did"),
    "it passed long ago": ([result(SUNDAY)], 32 * DAY, "the last one at 2026-03-01 03:00+00:00"),
}


@pytest.mark.parametrize("case", ALARMS)
def test_without_a_drill_that_passed_there_is_an_alarm(case: str) -> None:
    results, after, words = ALARMS[case]
    found = alarm_of(schedule(alarm_after="30d"), Known(now=SUNDAY + after, results=results))
    assert (found is not None) == bool(words)
    assert found is None or words in found.words
    assert alarm_of(schedule(), Known(now=SUNDAY + after, results=results)) is None


DST: dict[str, tuple[str, str, str, list[str]]] = {
    # the clock is put forward at 02:00: 02:30 is not there, and is taken with the offset from before
    "forward in Berlin": (
        "Europe/Berlin", "2026-03-28T02:30:00", "FREQ=DAILY",
        ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"],
    ),
    # put back at 03:00: 02:30 is there twice, and the first is meant
    "back in Berlin": (
        "Europe/Berlin", "2026-10-24T02:30:00", "FREQ=DAILY",
        ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"],
    ),
    "forward in New York": (
        "America/New_York", "2026-03-07T02:30:00", "FREQ=DAILY",
        ["2026-03-07T07:30", "2026-03-08T07:30", "2026-03-09T06:30"],
    ),
    "back in New York": (
        "America/New_York", "2026-10-31T01:30:00", "FREQ=DAILY",
        ["2026-10-31T05:30", "2026-11-01T05:30", "2026-11-02T06:30"],
    ),
    # two wall-clock times that are the same moment are one drill
    "the hour that is not there": (
        "Europe/Berlin", "2026-03-29T02:30:00", "FREQ=DAILY;BYHOUR=2,3",
        ["2026-03-29T01:30", "2026-03-30T00:30", "2026-03-30T01:30"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DST)
def test_times_are_on_the_clock_of_their_zone(case: str) -> None:
    zone, start, rule, expected = DST[case]
    found = list(islice(slots(schedule(time_zone=zone, start=start, rule=rule, within="30m"), LONG_AGO), 3))
    assert [f"{one.at:%Y-%m-%dT%H:%M}" for one in found] == expected
    # how late it may begin is elapsed time
    assert {one.latest - one.at for one in found} == {HOUR / 2}


@pytest.mark.parametrize(("zone", "day", "hours"), [
    ("Europe/Berlin", "2026-03-29", 23), ("Europe/Berlin", "2026-10-25", 25),
    ("America/New_York", "2026-03-08", 23), ("America/New_York", "2026-11-01", 25),
])  # fmt: skip
def test_a_blackout_day_is_as_long_as_the_day_is_there(zone: str, day: str, hours: int) -> None:
    of = schedule(time_zone=zone, start=f"{day}T00:00:00", rule="", within="30h", blackout={"dates": [day]})
    slot = next(slots(of, LONG_AGO))
    free = free_from(agenda(of), Calendar(), slot.begins, slot.latest)
    assert free == slot.at + timedelta(hours=hours)


ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Pacific/Apia", "Australia/Lord_Howe"])
RULES = st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SU,TU", "FREQ=MONTHLY;BYDAY=-1SU", "FREQ=DAILY;BYHOUR=1,2,3"])
MINUTES = st.integers(1, 5000)
MOMENTS = st.datetimes(datetime(2025, 12, 1), datetime(2027, 2, 1), timezones=st.just(UTC))  # noqa: DTZ001  given zones


@st.composite
def schedules(draw: st.DrawFn) -> DrillSchedule:
    within = draw(MINUTES)
    return schedule(
        name=draw(st.sampled_from(["weekly", "a", "z9"])),
        time_zone=draw(ZONES),
        start=draw(st.datetimes(datetime(2025, 12, 1), datetime(2026, 12, 1))),  # noqa: DTZ001  on the wall
        rule=draw(RULES),
        within=f"{within}m",
        jitter=f"{draw(st.integers(0, within - 1))}m",
        blackout={"dates": draw(st.lists(st.dates(date(2026, 1, 1), date(2026, 12, 31)), max_size=5))},
    )


@given(schedules(), MOMENTS)
def test_jitter_never_moves_past_what_is_allowed_and_slots_never_overlap(of: DrillSchedule, since: datetime) -> None:
    found = list(islice(slots(of, since), 12))
    assert found == list(islice(slots(of, since), 12))
    for one in found:
        assert since < one.latest
        assert one.at <= one.begins < one.latest
    for one, after in pairwise(found):
        assert one.latest <= after.at


@given(schedules(), MOMENTS, st.data())
def test_each_time_stands_in_exactly_one_place(of: DrillSchedule, now: datetime, data: st.DataObject) -> None:
    near = [one for one in islice(slots(of, now - 40 * DAY), 30) if one.at <= now + 10 * DAY]
    recorded = data.draw(st.lists(st.sampled_from(near), max_size=4)) if near else []
    results = [
        result(one.at, data.draw(st.sampled_from(Verdict)), schedule=of.name, reasons=("why",)) for one in recorded
    ]
    frozen = freeze(now - data.draw(MINUTES) * HOUR / 60, now + data.draw(MINUTES) * HOUR / 60)
    known = Known(
        now=now,
        calendar=calendar(*([frozen] if data.draw(st.booleans()) else [])),
        results=results,
        busy=data.draw(st.sampled_from(["", "somebody is at work"])),
    )
    turns = list(turns_of(agenda(of), known, now - 40 * DAY, now + 10 * DAY))
    assert [one.slot for one in turns][: len(near)] == near
    for one in turns:
        assert one.state is expected(one.slot, agenda(of), known, results), one
        assert bool(one.reason) == (one.state is State.SKIPPED)
        assert one.state is not State.FORBIDDEN or one.bans
        assert one.state is not State.DUE or (one.free == now and not one.bans)
    assert len([one for one in turns if one.state in {State.DUE, State.FORBIDDEN, State.WAITING}]) <= 1
    assert turns == list(turns_of(agenda(of), known, now - 40 * DAY, now + 10 * DAY))


def expected(slot: Slot, of: Agenda, known: Known, results: list[DrillResult]) -> State:
    """The same said in another way: from the record, else from the clock, else from what forbids it."""
    own = {one.verdict for one in results if one.occurrence == slot.at}
    if own:
        return State.SKIPPED if own == {Verdict.SKIPPED} else State.DONE
    places = {
        State.AHEAD: known.now < slot.at,
        State.WAITING: slot.at <= known.now < slot.begins,
        State.SKIPPED: slot.latest <= known.now,
    }
    told = [state for state, holds in places.items() if holds]
    if told:
        (one,) = told
        return one
    frozen = [one for one in known.calendar.freezes.values() if one.begins - of.work.needs < known.now < one.ends]
    dark = free_from(of, Calendar(), known.now, slot.latest) != known.now
    return State.FORBIDDEN if known.busy or frozen or dark else State.DUE


@given(schedules(), MOMENTS, MOMENTS)
def test_a_time_that_is_over_stays_over(of: DrillSchedule, one: datetime, other: datetime) -> None:
    early, late = sorted([one, other])
    window = (early - 20 * DAY, early)
    before = {turn.slot: turn.state for turn in turns_of(agenda(of), Known(now=early), *window)}
    after = {turn.slot: turn.state for turn in turns_of(agenda(of), Known(now=late), *window)}
    assert before.keys() == after.keys()
    assert all(after[slot] is State.SKIPPED for slot, state in before.items() if state is State.SKIPPED)


def test_a_result_of_before_there_were_schedules_is_read() -> None:
    body = result_json(result(SUNDAY))
    assert read_result(body) == result(SUNDAY)
    for key in ("schedule", "occurrence"):
        del body[key]
    assert (read_result(body).schedule, read_result(body).occurrence) == ("", None)
