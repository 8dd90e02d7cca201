"""Recurrence on the wall clock, length in elapsed time: the two days on which they part, and hostile rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.windows import (
    LONGEST,
    YEARS,
    Occurrence,
    Recurrence,
    following,
    joined,
    open_at,
    rule_flaws,
    until,
    zone,
)

HOUR = timedelta(hours=1)
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
wall = datetime.fromisoformat
"""A time without a zone."""


def window(start: str, rule: str = "", *, hours: float = 3, **more: Any) -> Recurrence:
    return Recurrence(start=wall(start), zone="Europe/Berlin", duration=hours * HOUR, rule=rule, **more)


def spans(recurrence: Recurrence, count: int, since: datetime = LONG_AGO) -> list[str]:
    """The first occurrences, in UTC: ``MM-DD HH:MM - HH:MM``."""
    return [f"{one.begins:%m-%d %H:%M} - {one.ends:%H:%M}" for one in islice(recurrence.occurrences(since), count)]


def at(text: str) -> datetime:
    return wall(text).replace(tzinfo=UTC)


def test_three_hours_are_three_hours_when_clocks_are_put_forward() -> None:
    # from 01:00 to 04:00 on the wall are two hours that night
    assert spans(window("2026-03-22T01:00", "FREQ=WEEKLY"), 3) == [
        "03-22 00:00 - 03:00",
        "03-29 00:00 - 03:00",
        "04-04 23:00 - 02:00",
    ]


def test_three_hours_are_three_hours_when_clocks_are_put_back() -> None:
    # from 01:00 to 04:00 on the wall are four hours that night
    assert spans(window("2026-10-18T01:00", "FREQ=WEEKLY"), 3) == [
        "10-17 23:00 - 02:00",
        "10-24 23:00 - 02:00",
        "11-01 00:00 - 03:00",
    ]


def test_a_time_that_does_not_exist_is_taken_with_the_offset_before_the_gap() -> None:
    # half past two on 2026-03-29 is half past three, as a clock that nobody put forward would show it
    assert spans(window("2026-03-28T02:30", "FREQ=DAILY"), 3) == [
        "03-28 01:30 - 04:30",
        "03-29 01:30 - 04:30",
        "03-30 00:30 - 03:30",
    ]


def test_of_a_time_that_exists_twice_the_first_is_taken() -> None:
    assert spans(window("2026-10-25T02:30"), 2) == ["10-25 00:30 - 03:30"]


def test_occurrences_come_in_order_also_where_a_gap_turns_them_around() -> None:
    gap = window("2026-03-29T02:30", "FREQ=DAILY;COUNT=4;BYHOUR=2,3;BYMINUTE=10", hours=1)
    assert spans(gap, 4) == ["03-29 01:10 - 02:10", "03-30 00:10 - 01:10", "03-30 01:10 - 02:10", "03-31 00:10 - 01:10"]
    samoa = Recurrence(
        start=wall("2011-12-29T10:00"), zone="Pacific/Apia", duration=HOUR, rule="FREQ=DAILY;COUNT=6;BYHOUR=10,22"
    )
    begins = [one.begins for one in samoa.occurrences(LONG_AGO)]
    assert begins == sorted(begins)
    assert len(begins) == 6


def test_nothing_begins_on_an_excepted_day_of_the_windows_own_calendar() -> None:
    nightly = window("2026-03-01T00:30", "FREQ=DAILY", except_dates=frozenset({date(2026, 3, 2)}))
    assert spans(nightly, 2) == ["02-28 23:30 - 02:30", "03-02 23:30 - 02:30"]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("20260103", "01-03 00:00"),
        ("20260103T000000", "01-02 00:00"),
        ("20260103T010000", "01-03 00:00"),
        ("20260103T000000Z", "01-03 00:00"),
        ("20260102T235959Z", "01-02 00:00"),
    ],
)
def test_until_is_a_whole_day_a_local_time_or_a_moment(end: str, last: str) -> None:
    *_, found = window("2026-01-01T01:00", f"FREQ=DAILY;UNTIL={end}").occurrences(LONG_AGO)
    assert f"{found.begins:%m-%d %H:%M}" == last


def test_a_rule_may_end_before_it_begins_or_never() -> None:
    assert not spans(window("2026-01-01T01:00", "FREQ=DAILY;UNTIL=20251231"), 1)
    assert not spans(window("2026-01-01T01:00", "FREQ=DAILY;UNTIL=18000101"), 1)
    assert spans(window("2026-01-01T01:00", "FREQ=DAILY;UNTIL=99991231"), 1)
    assert spans(window("2026-01-01T01:00", "FREQ=DAILY;UNTIL=24040229T000000Z"), 1)


@given(
    st.sampled_from(
        [
            *("FREQ=DAILY", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=SU,WE;INTERVAL=2;WKST=SU"),
            *("FREQ=MONTHLY", "FREQ=MONTHLY;BYDAY=1SU", "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1", "FREQ=YEARLY"),
            *("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "FREQ=YEARLY;BYWEEKNO=20", "FREQ=YEARLY;BYYEARDAY=-1;COUNT=3"),
            *("FREQ=DAILY;COUNT=5", "FREQ=DAILY;BYHOUR=1,13;BYMINUTE=30"),
        ]
    ),
    st.datetimes(wall("1971-01-01"), wall("2200-01-01")),
)
def test_a_rule_means_what_the_library_says_whatever_the_year(rule: str, start: datetime) -> None:
    start = start.replace(microsecond=0)
    ours = Recurrence(start=start, zone="UTC", duration=HOUR, rule=rule).occurrences(LONG_AGO - 400 * LONGEST)
    theirs = islice(rrulestr(rule, dtstart=start), 5)
    assert [one.begins.replace(tzinfo=None) for one in islice(ours, 5)] == list(theirs)


HOSTILE = {
    "a rule that never holds": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "a very rare one": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;BYHOUR=3",
    "as many as there can be": "FREQ=DAILY;COUNT=999999;BYHOUR=" + ",".join(map(str, range(24))),
    "until the end of time": "FREQ=DAILY;UNTIL=99991231T235959Z",
    "a leap of ages": "FREQ=YEARLY;INTERVAL=9999",
    "no such place in a set": "FREQ=YEARLY;BYDAY=MO;BYSETPOS=366",
}


@pytest.mark.parametrize("rule", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_rule_comes_to_an_end(rule: str) -> None:
    found = window("1970-01-01T01:00", rule).occurrences(at("2026-01-01"))
    assert len(list(until(islice(found, 100), at("2399-01-01")))) <= 100


FLAWS: dict[str, list[tuple[int, str]]] = {
    "FREQ=SECONDLY": [(0, "FREQ is 'SECONDLY'")],
    "FREQ=WEEKLY;BYDAY=SO": [(12, "BYDAY has 'SO'")],
    "FREQ=WEEKLY;BYDAYS=SU": [(12, "there is no part 'BYDAYS'")],
    "FREQ=WEEKLY;BYDAY": [(12, "'BYDAY' is no part of a rule")],
    "FREQ=WEEKLY;": [(12, "'' is no part of a rule")],
    "RRULE:FREQ=WEEKLY": [(0, "a rule is written without 'RRULE:'")],
    "BYDAY=SU": [(0, "the rule has no FREQ")],
    "FREQ=DAILY;FREQ=DAILY": [(11, "FREQ is there twice")],
    "FREQ=DAILY;COUNT=0;INTERVAL=0": [(11, "COUNT is '0'"), (19, "INTERVAL is '0'")],
    "FREQ=DAILY;COUNT=1000000": [(11, "COUNT is '1000000'")],
    "FREQ=DAILY;" + "x" * 1000: [(0, "the rule is too long")],
    "FREQ=DAILY;COUNT=3;UNTIL=20260101": [(11, "the rule has both UNTIL and COUNT")],
    "FREQ=DAILY;UNTIL=20260230": [(11, "UNTIL is '20260230'")],
    "FREQ=DAILY;UNTIL=tomorrow": [(11, "UNTIL is 'TOMORROW'")],
    "FREQ=DAILY;BYMONTH=13": [(11, "BYMONTH has '13'")],
    "FREQ=DAILY;BYHOUR=1,24": [(11, "BYHOUR has '24'")],
    "FREQ=DAILY;BYMONTHDAY=0": [(11, "BYMONTHDAY has '0'")],
    "FREQ=WEEKLY;BYDAY=1SU": [(12, "numbered days mean nothing with FREQ=WEEKLY")],
    "FREQ=WEEKLY;BYMONTHDAY=1": [(12, "BYMONTHDAY means nothing with FREQ=WEEKLY")],
    "FREQ=MONTHLY;BYWEEKNO=1": [(13, "BYWEEKNO means nothing with FREQ=MONTHLY")],
    "FREQ=MONTHLY;BYSETPOS=1": [(13, "BYSETPOS has nothing to choose from")],
    "FREQ=DAILY;BYHOUR=1,2;BYMINUTE=" + ",".join(map(str, range(20))): [(22, "the rule opens 40 times a day")],
}


@pytest.mark.parametrize("rule", FLAWS)
def test_a_flaw_of_a_rule_is_named_at_its_part(rule: str) -> None:
    assert [(flaw.offset, flaw.summary) for flaw in rule_flaws(rule)] == FLAWS[rule]


def test_a_misspelt_part_is_guessed() -> None:
    assert rule_flaws("FREQ=WEEKLY;BYDAYS=SU")[0].suggestion == "BYDAY"


@given(st.text(alphabet="FREQ=DAILYWEKUNTCOB;,0123456789+-Zs", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_rule_or_has_a_flaw(text: str) -> None:
    if text and not rule_flaws(text):
        list(islice(window("2026-01-01T01:00", text).occurrences(LONG_AGO), 1))


@given(
    st.fixed_dictionaries(
        {"FREQ": st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])},
        optional={
            "INTERVAL": st.integers(1, 30).map(str),
            "COUNT": st.integers(1, 9).map(str),
            "BYMONTH": st.integers(1, 12).map(str),
            "BYMONTHDAY": st.integers(-31, 31).map(str),
            "BYDAY": st.sampled_from(["MO", "SU,SA", "-1FR", "5TH"]),
            "BYHOUR": st.integers(0, 25).map(str),
            "BYSETPOS": st.integers(-3, 3).map(str),
            "BYYEARDAY": st.integers(-3, 3).map(str),
            "UNTIL": st.sampled_from(["20270101", "20270101T000000", "20270101T000000Z", "20279901"]),
        },
    ).map(lambda parts: ";".join(f"{key}={value}" for key, value in parts.items()))
)
def test_a_rule_without_flaws_never_fails(rule: str) -> None:
    if not rule_flaws(rule):
        list(islice(window("2026-01-01T01:00", rule).occurrences(LONG_AGO), 2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "FREQ=SECONDLY"},
        {"zone": "Europe/Nowhere"},
        {"zone": "../../etc/passwd"},
        {"duration": timedelta()},
        {"duration": LONGEST + HOUR},
        {"start": wall(f"{YEARS.start - 1}-12-31")},
        {"start": wall(f"{YEARS.stop}-01-01")},
    ],
    ids=str,
)
def test_a_recurrence_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    sound = {"start": wall("2026-01-01"), "zone": "Europe/Berlin", "duration": HOUR, "name": "w"}
    assert Recurrence(**sound)
    with pytest.raises(InputError):
        Recurrence(**{**sound, **wrong})


def test_a_zone_has_a_name() -> None:
    assert zone("Europe/Berlin").key == "Europe/Berlin"


def span(begin: str, end: str, name: str = "") -> Occurrence:
    return Occurrence(begins=at(f"2026-01-01T{begin}"), ends=at(f"2026-01-01T{end}"), name=name)


def test_what_is_open_is_open_from_its_beginning_until_just_before_its_end() -> None:
    one = span("01:00", "02:00")
    assert open_at([one], one.begins) == one
    assert open_at([one], one.ends) is None
    assert open_at([one], one.begins - timedelta(microseconds=1)) is None


def test_of_several_the_one_that_ends_last_is_open() -> None:
    long, short = span("01:00", "05:00"), span("02:00", "03:00")
    assert open_at([long, short], at("2026-01-01T02:30")) == long


def test_the_following_begin_at_the_moment_or_later() -> None:
    three = [span("01:00", "02:00"), span("03:00", "04:00"), span("05:00", "06:00")]
    assert following(three, three[1].begins, 5) == tuple(three[1:])
    assert following(three, three[0].begins + timedelta(seconds=1), 1) == (three[1],)


def test_times_that_touch_are_one_time() -> None:
    found = joined([span("01:00", "02:00"), span("02:00", "04:00"), span("02:30", "03:00"), span("05:00", "06:00")])
    assert list(found) == [span("01:00", "04:00"), span("05:00", "06:00")]


def test_what_never_closes_is_cut_and_goes_on_where_it_was_cut() -> None:
    always = joined(window("2026-01-01T00:00", "FREQ=DAILY", hours=25).occurrences(LONG_AGO))
    first, second = islice(always, 2)
    assert first.ends >= second.begins
    assert first.ends - first.begins > timedelta(days=365)
