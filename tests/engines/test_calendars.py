"""Calendars of other programs into times, and ours into calendars, without a file."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.windows import Occurrence
from ismgr_automation.engines.calendars import Event, read, write

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
STAMP = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

VTIMEZONE = """\
BEGIN:VTIMEZONE
TZID:Office
BEGIN:STANDARD
DTSTART:19961027T030000
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19810329T020000
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
END:VTIMEZONE
"""


def calendar(*events: str, before: str = "") -> str:
    body = "".join(f"BEGIN:VEVENT\n{event.strip()}\nEND:VEVENT\n" for event in events)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//EN\n{before}{body}END:VCALENDAR\n"


def times(text: str, *, zone: str = "Europe/Berlin", begin: datetime = BEGIN, end: datetime = END) -> list[str]:
    """Each time as ``MM-DD HH:MM +hours``, in UTC."""
    return [
        f"{one.begins:%m-%d %H:%M} +{(one.ends - one.begins) / timedelta(hours=1):g}"
        for one in read(text, path="a.ics", zone=zone, begin=begin, end=end)
    ]


CASES: dict[str, tuple[str, list[str]]] = {
    "a time in UTC": (calendar("UID:a\nDTSTART:20260201T010000Z\nDTEND:20260201T040000Z"), ["02-01 01:00 +3"]),
    "a floating time is the window's": (
        calendar("UID:a\nDTSTART:20260201T010000\nDTEND:20260201T040000"),
        ["02-01 00:00 +3"],
    ),
    "a duration": (calendar("UID:a\nDTSTART:20260201T010000Z\nDURATION:PT90M"), ["02-01 01:00 +1.5"]),
    "whole days are those of the window's zone": (
        calendar("UID:a\nDTSTART;VALUE=DATE:20260329\nDTEND;VALUE=DATE:20260330"),
        ["03-28 23:00 +23"],
    ),
    "one day without an end": (calendar("UID:a\nDTSTART;VALUE=DATE:20260201"), ["01-31 23:00 +24"]),
    "each repetition lasts as long as its event, clocks or not": (
        calendar(
            "UID:a\nDTSTART;TZID=Europe/Berlin:20260322T010000\nDTEND;TZID=Europe/Berlin:20260322T040000\n"
            "RRULE:FREQ=WEEKLY;COUNT=3"
        ),
        ["03-22 00:00 +3", "03-29 00:00 +3", "04-04 23:00 +3"],
    ),
    "one event over the change of clocks has the end that it says": (
        calendar("UID:a\nDTSTART;TZID=Europe/Berlin:20260329T010000\nDTEND;TZID=Europe/Berlin:20260329T040000"),
        ["03-29 00:00 +2"],
    ),
    "and with a duration it lasts that long": (
        calendar("UID:a\nDTSTART;TZID=Europe/Berlin:20260329T010000\nDURATION:PT3H"),
        ["03-29 00:00 +3"],
    ),
    "an exception": (
        calendar(
            "UID:a\nDTSTART:20260201T010000Z\nDTEND:20260201T020000Z\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260202T010000Z"
        ),
        ["02-01 01:00 +1", "02-03 01:00 +1"],
    ),
    "one that was moved, and made longer": (
        calendar(
            "UID:a\nDTSTART:20260201T010000Z\nDTEND:20260201T020000Z\nRRULE:FREQ=DAILY;COUNT=3",
            "UID:a\nRECURRENCE-ID:20260202T010000Z\nDTSTART:20260202T050000Z\nDTEND:20260202T090000Z",
        ),
        ["02-01 01:00 +1", "02-02 05:00 +4", "02-03 01:00 +1"],
    ),
    "one that was cancelled": (
        calendar(
            "UID:a\nDTSTART:20260201T010000Z\nDTEND:20260201T020000Z\nRRULE:FREQ=DAILY;COUNT=3",
            "UID:a\nRECURRENCE-ID:20260202T010000Z\nDTSTART:20260202T010000Z\nDTEND:20260202T020000Z\nSTATUS:CANCELLED",
        ),
        ["02-01 01:00 +1", "02-03 01:00 +1"],
    ),
    "more days by name": (
        calendar("UID:a\nDTSTART:20260201T010000Z\nDTEND:20260201T020000Z\nRDATE:20260301T010000Z"),
        ["02-01 01:00 +1", "03-01 01:00 +1"],
    ),
    "a zone that the calendar defines itself": (
        calendar("UID:a\nDTSTART;TZID=Office:20260701T010000\nDURATION:PT1H", before=VTIMEZONE),
        ["06-30 23:00 +1"],
    ),
    "what takes no time opens nothing": (calendar("UID:a\nDTSTART:20260201T010000Z"), []),
    "what is over before, or begins after, is left out": (
        calendar(
            "UID:a\nDTSTART:20251231T220000Z\nDTEND:20260101T000000Z",
            "UID:b\nDTSTART:20251231T220000Z\nDTEND:20260101T000001Z",
            "UID:c\nDTSTART:20270101T000000Z\nDTEND:20270101T010000Z",
        ),
        ["12-31 22:00 +2.00028"],
    ),
    "folded lines and a byte order mark": (
        "\ufeff" + calendar("UID:a\nSUMMARY:a long\n  name\nDTSTART:2026020\n 1T010000Z\nDTEND:20260201T020000Z"),
        ["02-01 01:00 +1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_events_times_are(case: str) -> None:
    text, expected = CASES[case]
    assert times(text) == expected
    assert times(text.replace("\n", "\r\n")) == expected


def test_a_zone_of_one_calendar_is_forgotten_before_the_next() -> None:
    event = "UID:a\nDTSTART;TZID=Office:20260701T010000\nDURATION:PT1H"
    assert times(calendar(event, before=VTIMEZONE)) == ["06-30 23:00 +1"]
    moved = VTIMEZONE.replace("TZOFFSETTO:+0200", "TZOFFSETTO:+0500").replace("FROM:+0200", "FROM:+0500")
    assert times(calendar(event, before=moved)) == ["06-30 20:00 +1"]
    with pytest.raises(InputError, match="nobody knows the time zone"):
        times(calendar(event))


GOOD = "DTSTART:20260201T010000Z\nDTEND:20260201T020000Z"
BAD: dict[str, tuple[str, int, str]] = {
    "nothing": ("", 1, "the file is not one calendar"),
    "something else": ("hello\n", 1, "this is no line of a calendar"),
    "two calendars": (calendar() * 2, 5, "the file is not one calendar"),
    "a line in the middle": (calendar("UID:a\nnonsense\n" + GOOD), 6, "this is no line of a calendar"),
    "a date that is none": (calendar("UID:a\nDTSTART:2026x\nDTEND:20260201T020000Z"), 6, "DTSTART of this event"),
    "no start": (calendar("UID:a\nDTEND:20260201T020000Z"), 4, "this event has no DTSTART"),
    "an end before the start": (
        calendar("UID:a\nDTSTART:20260201T010000Z\nDTEND:20260101T000000Z"),
        7,
        "this event ends before it begins",
    ),
    "a negative duration": (calendar("UID:a\nDTSTART:20260201T010000Z\nDURATION:-PT1H"), 7, "this event ends before"),
    "an unknown zone": (
        calendar("UID:a\nDTSTART;TZID=Nowhere/Town:20260201T010000\nDURATION:PT1H"),
        6,
        "nobody knows the time zone of DTSTART",
    ),
    "every second": (calendar(f"UID:a\n{GOOD}\nRRULE:FREQ=SECONDLY"), 8, "RRULE: FREQ is 'SECONDLY'"),
    "a rule that is none": (calendar(f"UID:a\n{GOOD}\nRRULE:FREQ=FOO"), 8, "RRULE: FREQ is 'FOO'"),
    "a rule that never holds": (
        calendar(f"UID:a\n{GOOD}\nRRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"),
        8,
        "this rule never holds",
    ),
    "a zone with clocks that change every day": (
        calendar(before=VTIMEZONE.replace("FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3", "FREQ=DAILY")),
        14,
        "a time zone does not change its clocks by the year",
    ),
    "the year 9999": (calendar("UID:a\nDTSTART:99990201T010000Z\nDURATION:PT1H"), 6, "DTSTART is in the year 9999"),
    "not closed": (calendar("UID:a").replace("END:VEVENT\n", ""), 6, "END:VCALENDAR closes nothing"),
    "not closed at all": ("BEGIN:VCALENDAR\nVERSION:2.0\n", 1, "VCALENDAR is not closed"),
    "periods": (calendar(f"UID:a\n{GOOD}\nRDATE;VALUE=PERIOD:20260301T010000Z/PT1H"), 8, "an RDATE with periods"),
    "too many events": (calendar(*["UID:a"] * 5001), 4 + 3 * 5000, "the calendar has 5001 events"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_calendar_that_cannot_be_read_says_why_and_in_which_line(case: str) -> None:
    text, line, said = BAD[case]
    with pytest.raises(InputError) as caught:
        times(text)
    (flaw,) = caught.value.diagnostics
    assert flaw.position is not None
    assert (flaw.position.path, flaw.position.line) == ("a.ics", line)
    assert flaw.summary.startswith(said)


@given(
    st.lists(
        st.text(max_size=20)
        | st.sampled_from(
            [
                *("BEGIN:VCALENDAR\n", "END:VCALENDAR\n", "BEGIN:VEVENT\n", "END:VEVENT\n", "UID:a\n", VTIMEZONE),
                *("DTSTART:20260201T010000Z\n", "DTSTART;VALUE=DATE:20260201\n", "DTEND:20260201T020000\n"),
                *("RRULE:FREQ=DAILY\n", "EXDATE:20260203\n", "RDATE:x\n", "DURATION:P1D\n", "DTSTART:250000\n"),
                *("RECURRENCE-ID:20260203T010000Z\n", "SUMMARY:x\n", "DTSTART;TZID=Office:20260201T010000\n"),
            ]
        ),
        max_size=10,
    ).map("".join)
)
def test_no_text_does_anything_else_than_to_give_times_or_say_why_not(text: str) -> None:
    for one in (text, calendar(text)):
        with suppress(InputError):
            found = read(one, path="a.ics", zone="UTC", begin=BEGIN, end=END)
            assert all(begins.ends > BEGIN and begins.begins < END for begins in found)


def events(*spans: tuple[datetime, timedelta]) -> list[Event]:
    return [
        Event(
            occurrence=Occurrence(begins=begins, ends=begins + length),
            rule="window/nightly",
            summary="Nightly; with, all\nkinds of signs \u00fc" * 3,
            description="why",
        )
        for begins, length in spans
    ]


@given(
    st.lists(
        st.tuples(
            st.datetimes(
                BEGIN.replace(day=2, tzinfo=None), END.replace(year=2026, month=12, tzinfo=None), timezones=st.just(UTC)
            ).map(lambda moment: moment.replace(microsecond=0)),
            st.timedeltas(timedelta(seconds=1), timedelta(days=9)).map(
                lambda span: timedelta(seconds=span // timedelta(seconds=1))
            ),
        ),
        max_size=8,
        unique_by=lambda one: one[0],
    )
)
def test_what_is_written_is_read_again(spans: list[tuple[datetime, timedelta]]) -> None:
    text = write(events(*spans), name="clinic", stamp=STAMP)
    found = read(text, path="a.ics", zone="Europe/Berlin", begin=BEGIN, end=END)
    assert sorted((one.begins, one.ends - one.begins) for one in found) == sorted(spans)


def test_the_same_events_are_the_same_text_with_the_same_identities() -> None:
    spans = [(datetime(2026, 2, day, 1, tzinfo=UTC), timedelta(hours=3)) for day in (1, 8)]
    text = write(events(*spans), name="clinic", stamp=STAMP)
    assert text == write(reversed(events(*spans)), name="clinic", stamp=STAMP)
    later = write(events(*spans), name="clinic", stamp=STAMP + timedelta(days=1))

    def identities(one: str) -> list[str]:
        return [line for line in one.splitlines() if line.startswith("UID:")]

    assert identities(later) == identities(text)
    assert len(set(identities(text))) == 2
    assert "DTSTAMP:20260102T030405Z" in text
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
