"""Work begins only in a window that is open for long enough and outside of every freeze, and each no names its rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError, OutsideWindow
from ismgr_automation.core.windows import Occurrence
from ismgr_automation.estate.maintenance import Freeze, MaintenanceWindow, Scope
from ismgr_automation.planning.timing import (
    FEW,
    Calendar,
    Clearance,
    Work,
    clear_for_all,
    clearance,
    earliest,
    estimate,
    recurrence,
    refused,
    reserve,
)
from ismgr_automation.ports.hosts import Host

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SUNDAY = datetime(2026, 3, 1, tzinfo=UTC)
WEB = Host(name="web1", address="192.0.2.1", origin="", labels={"role": "web"})
DB = Host(name="db1", address="192.0.2.2", origin="", labels={"role": "db"})


def window(name: str = "nightly", **more: Any) -> MaintenanceWindow:
    """Open each night from one to four in Berlin, unless said otherwise."""
    body = {"start": datetime.fromisoformat("2026-01-04T01:00:00"), "rule": "FREQ=DAILY", "time_zone": "Europe/Berlin"}
    return MaintenanceWindow.model_validate({"kind": "MaintenanceWindow", "name": name, **body, **more})


def freeze(name: str = "quarter", begins: str = "03-02T00:00", ends: str = "03-04T00:00", **more: Any) -> Freeze:
    moments = {"begins": f"2026-{begins}:00+00:00", "ends": f"2026-{ends}:00+00:00"}
    body = {"reason": "the quarter ends", "owner": "finance", **moments, **more}
    return Freeze.model_validate({"kind": "Freeze", "name": name, **body})


def calendar(*documents: MaintenanceWindow | Freeze, **events: tuple[Occurrence, ...]) -> Calendar:
    return Calendar(
        windows={one.name: one for one in documents if isinstance(one, MaintenanceWindow)},
        freezes={one.name: one for one in documents if isinstance(one, Freeze)},
        events=events,
    )


def work(*windows: str, hosts: tuple[Host, ...] = (WEB,), **more: Any) -> Work:
    return Work(**{"scope": Scope.PATCH, "hosts": hosts, "windows": windows, "needs": 30 * MINUTE, **more})


def said(found: Clearance) -> list[str]:
    return [one.summary for one in found.obstacles]


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}:00+00:00")


def test_without_windows_and_freezes_work_may_always_begin() -> None:
    assert clearance(work(), calendar(), SUNDAY) == Clearance()


def test_work_begins_in_an_open_window_and_knows_by_when_it_must_be_over() -> None:
    found = clearance(work("nightly"), calendar(window(cutoff="15m")), at("03-01T01:00"))
    assert (found.obstacle, found.ends) == (None, at("03-01T02:45"))


def test_a_closed_window_says_when_it_opens_on_its_own_clock() -> None:
    found = clearance(work("nightly"), calendar(window()), at("03-28T12:00"))
    assert said(found) == ["window/nightly is closed; it opens next at 2026-03-29 01:00+01:00"]
    assert found.obstacle is not None
    assert (str(found.obstacle.rule), found.obstacle.until) == ("window/nightly", at("03-29T00:00"))


def test_a_window_that_closes_too_soon_says_what_is_needed_and_left_and_cut_off() -> None:
    found = clearance(work("nightly"), calendar(window(cutoff="15m")), at("03-01T02:20"))
    (sentence,) = said(found)
    assert sentence == (
        "window/nightly closes too soon: the work needs 30m, 40m are left, and nothing is begun in the last 15m; "
        "it opens next at 2026-03-02 01:00+01:00"
    )


@pytest.mark.parametrize(("moment", "may"), [("01:15", True), ("01:16", False)])
def test_the_last_moment_to_begin_is_cutoff_and_reserve_before_the_end(moment: str, may: bool) -> None:
    found = clearance(work("nightly", needs=90 * MINUTE), calendar(window(cutoff="15m")), at(f"03-01T{moment}"))
    assert (found.obstacle is None) is may


def test_nothing_begins_in_the_cutoff_however_short_it_is() -> None:
    night = calendar(window(cutoff="15m"))
    assert clearance(work("nightly", needs=timedelta()), night, at("03-01T02:44")).obstacle is None
    assert clearance(work("nightly", needs=timedelta()), night, at("03-01T02:45")).obstacle is not None


def test_a_window_that_is_never_long_enough_says_so() -> None:
    found = clearance(work("nightly", needs=4 * HOUR), calendar(window()), SUNDAY)
    assert found.obstacle is not None
    assert found.obstacle.until is None
    assert said(found)[0].endswith("and never for the 4h that it would take")


def test_a_later_opening_that_is_long_enough_is_named() -> None:
    times = tuple(Occurrence(begins=at(f"03-0{day}T01:00"), ends=at(f"03-0{day}T0{day}:00")) for day in (2, 3, 4))
    ours = window(name="ours", start=None, rule="", calendar="ours.ics")
    found = clearance(work("ours", needs=3 * HOUR), calendar(ours, ours=times), SUNDAY)
    assert said(found) == [
        "window/ours is closed; it opens next at 2026-03-02 02:00+01:00, and for long enough at 2026-03-04 02:00+01:00"
    ]
    assert earliest([work("ours", needs=3 * HOUR)], calendar(ours, ours=times), SUNDAY) == at("03-04T01:00")


def test_a_window_that_is_over_for_good_says_so() -> None:
    once = window(rule="")
    found = clearance(work("nightly"), calendar(once), SUNDAY)
    assert said(found) == ["window/nightly is closed; it does not open again"]
    assert earliest([work("nightly")], calendar(once), SUNDAY) is None


def test_one_open_window_of_several_is_enough_and_else_each_is_told_the_next_first() -> None:
    later = window(name="later", start=datetime.fromisoformat("2026-01-04T05:00:00"))
    both = calendar(window(), later)
    assert clearance(work("nightly", "later"), both, at("03-01T04:30")).obstacle is None
    closed = clearance(work("nightly", "later"), both, at("03-01T03:00"))
    assert [str(one.rule) for one in closed.obstacles] == ["window/later", "window/nightly"]


def test_nights_that_touch_are_one_night() -> None:
    always = calendar(window(duration="24h"))
    assert clearance(work("nightly", needs=20 * HOUR), always, at("03-01T23:30")).obstacle is None
    # the day on which clocks are put back has 25 hours
    assert clearance(work("nightly", needs=20 * HOUR), always, at("10-25T10:00")).obstacle is not None


def test_a_window_that_is_no_document_is_an_obstacle_and_not_an_open_door() -> None:
    assert said(clearance(work("gone"), calendar(), SUNDAY)) == [
        "window/gone is asked for, and there is no such document"
    ]


def test_a_freeze_says_until_when_why_and_whose() -> None:
    found = clearance(work(), calendar(freeze()), at("03-02T00:00"))
    assert said(found) == [
        "freeze/quarter holds until 2026-03-04 00:00+00:00: the quarter ends (asked for by team finance)"
    ]
    assert clearance(work(), calendar(freeze()), at("03-04T00:00")).obstacle is None


def test_work_that_would_run_into_a_freeze_is_not_begun() -> None:
    quarter = calendar(freeze())
    assert clearance(work(), quarter, at("03-01T23:30")).obstacle is None
    assert clearance(work(), quarter, at("03-01T23:30")).ends == at("03-02T00:00")
    (sentence,) = said(clearance(work(), quarter, at("03-01T23:31")))
    assert sentence == (
        "freeze/quarter begins at 2026-03-02 00:00+00:00, and the work needs 30m: "
        "the quarter ends (asked for by team finance)"
    )


@pytest.mark.parametrize(
    ("selector", "hosts", "held"),
    [
        ('host.labels.role == "db"', (WEB,), False),
        ('host.labels.role == "db"', (WEB, DB), True),
        ('host.labels.role == "db"', (), False),
        ("true", (), True),
        (" true ", (), True),
        ("int(host.name) > 1", (WEB,), True),
    ],
)
def test_a_freeze_protects_whom_it_selects_and_everybody_means_stacks_too(
    selector: str, hosts: tuple[Host, ...], held: bool
) -> None:
    found = clearance(work(hosts=hosts), calendar(freeze(selector=selector)), at("03-02T12:00"))
    assert bool(found.obstacles) is held


def test_a_freeze_holds_up_the_kinds_of_work_that_it_names() -> None:
    drills = calendar(freeze(work=["drill", "apply"]))
    assert clearance(work(scope=Scope.PATCH), drills, at("03-02T12:00")).obstacle is None
    assert clearance(work(scope=Scope.DRILL), drills, at("03-02T12:00")).obstacle is not None


def test_urgent_work_passes_and_names_what_it_passes() -> None:
    found = clearance(work("nightly", urgent=True), calendar(window(), freeze()), at("03-02T12:00"))
    assert found.obstacles == ()
    assert [str(one.rule) for one in found.overridden] == ["freeze/quarter", "window/nightly"]


def test_urgent_work_overrides_nothing_where_nothing_is_in_the_way() -> None:
    assert clearance(work("nightly", urgent=True), calendar(window()), at("03-01T01:00")).overridden == ()


def test_the_refusal_names_every_rule() -> None:
    error = refused(clearance(work("nightly"), calendar(window(), freeze()), at("03-02T12:00")))
    assert isinstance(error, OutsideWindow)
    assert error.reason == "outside-window"
    assert "freeze/quarter" in error.summary
    assert "window/nightly" in error.summary


def test_the_earliest_moment_waits_for_freezes_and_windows() -> None:
    assert earliest([work("nightly")], calendar(window(), freeze()), at("03-02T12:00")) == at("03-04T00:00")
    assert earliest([work("nightly")], calendar(window()), at("03-02T12:00")) == at("03-03T00:00")
    assert earliest([work()], calendar(), SUNDAY) == SUNDAY


def test_several_works_begin_together_when_the_last_of_them_may() -> None:
    late = window(name="late", start=datetime.fromisoformat("2026-01-04T03:00:00"))
    both = [work("nightly"), work("late")]
    found = clear_for_all(both, calendar(window(), late, freeze()), at("03-02T01:30"))
    assert [str(one.rule) for one in found.obstacles] == ["freeze/quarter", "window/late"]
    assert earliest(both, calendar(window(), late), at("03-02T00:00")) == at("03-02T02:00")
    assert clear_for_all(both, calendar(window(), late), at("03-02T02:00")).ends == at("03-02T03:00")
    assert earliest([*both, work("gone")], calendar(window(), late), at("03-02T00:00")) is None


def test_the_refusal_names_the_first_moment_when_it_is_known() -> None:
    found = clearance(work("nightly"), calendar(window()), at("03-02T12:00"))
    assert refused(found, first=at("03-03T00:00")).next_step.startswith("Wait until 2026-03-03 00:00+00:00,")


def test_a_window_without_start_is_an_input_error() -> None:
    with pytest.raises(InputError, match="has no start"):
        recurrence(window(start=None))


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ([], 30),
        ([10], 30),
        ([10, 10, 10, 45], 45),
        ([10, 11, 12, 13, 14], 14),
        ([*range(1, 20)], 19),
        ([*range(1, 21)], 19),
        ([*range(1, 101)], 95),
        ([*[5] * 99, 600], 5),
    ],
    ids=str,
)
def test_what_is_reserved_is_the_95th_percentile_and_few_samples_are_not_trusted(
    minutes: list[int], expected: int
) -> None:
    past = [one * MINUTE for one in reversed(minutes)]
    assert reserve(past, unknown=30 * MINUTE) == expected * MINUTE


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ([], "no history: the deadline, restarts left out"),
        ([10], "1 run only: the deadline, restarts left out"),
        ([10, 10, 45], "longest of 3 runs"),
        ([10, 11, 12, 13, 14], "p95 of 5 runs"),
        ([*range(1, 101)], "p95 of 100 runs"),
    ],
    ids=str,
)
def test_an_estimate_says_whether_it_was_measured(minutes: list[int], expected: str) -> None:
    past = [one * MINUTE for one in minutes]
    found = estimate(past, unknown=30 * MINUTE)
    assert (found.span, found.source) == (reserve(past, unknown=30 * MINUTE), expected)


@given(st.lists(st.timedeltas(timedelta(), 9 * HOUR), max_size=60), st.timedeltas(timedelta(), 9 * HOUR))
def test_the_reserve_is_enough_for_95_of_100_past_runs(past: list[timedelta], unknown: timedelta) -> None:
    reserved = reserve(past, unknown=unknown)
    assert sum(one <= reserved for one in past) * 100 >= 95 * len(past)
    assert len(past) >= FEW or reserved >= unknown


_moments = st.integers(0, 400 * 24 * 60).map(lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + minutes * MINUTE)
_windows = st.builds(
    lambda rule, hour, length, cutoff, zone: window(
        rule=rule,
        start=datetime.fromisoformat(f"2026-01-04T{hour:02}:30:00"),
        duration=f"{length}m",
        cutoff=f"{cutoff}m",
        time_zone=zone,
    ),
    st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SU,MO", "FREQ=DAILY;BYHOUR=1,2,3", "FREQ=MONTHLY", ""]),
    st.integers(0, 23),
    st.integers(1, 2 * 24 * 60),
    st.integers(0, 90),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Pacific/Chatham", "UTC"]),
)
_freezes = st.builds(
    lambda begins, length, selector: freeze(
        begins=begins.strftime("%m-%dT%H:%M"),
        ends=(min(begins + length, datetime(2026, 12, 31, tzinfo=UTC))).strftime("%m-%dT%H:%M"),
        selector=selector,
    ),
    st.integers(0, 360 * 24 * 60).map(lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + minutes * MINUTE),
    st.timedeltas(MINUTE, timedelta(days=20)),
    st.sampled_from(["true", 'host.labels.role == "web"', 'host.labels.role == "db"']),
)
_needs = st.integers(0, 30 * 60).map(lambda minutes: minutes * MINUTE)


@st.composite
def _tight(draw: st.DrawFn) -> tuple[MaintenanceWindow, timedelta, datetime]:
    """A window, and work that just about fits into one of its openings, or just about does not."""
    one = draw(_windows)
    times = list(islice(recurrence(one).occurrences(datetime(2026, 1, 1, tzinfo=UTC)), 60))
    chosen = draw(st.sampled_from(times))
    length = (chosen.ends - chosen.begins) // MINUTE
    now = chosen.begins + draw(st.integers(0, length)) * MINUTE
    left = (chosen.ends - now) // MINUTE
    return one, max(0, left + draw(st.integers(-100, 100))) * MINUTE, now


@given(_tight(), st.none() | st.integers(-200, 200), st.sampled_from(["true", 'host.labels.role == "db"']))
def test_what_begins_is_over_before_the_cutoff_and_before_any_freeze(
    chosen: tuple[MaintenanceWindow, timedelta, datetime], margin: int | None, selector: str
) -> None:
    one, needs, now = chosen
    held: Freeze | None = None
    if margin is not None:
        # begins about when the work would be over
        begins = now + needs + margin * MINUTE
        held = freeze(selector=selector).model_copy(update={"begins": begins, "ends": begins + 100 * MINUTE})
    year = calendar(one, *([held] if held is not None else []))
    found = clearance(work(one.name, needs=needs), year, now)
    if found.obstacles:
        return
    cutoff = timedelta(minutes=int(one.cutoff.removesuffix("m")))
    times = _until(one, now, now + needs + cutoff)
    covered = now
    for begins, ends in times:
        if begins <= covered < ends:
            covered = ends
    assert covered >= now + needs + cutoff
    assert covered > now
    assert found.ends is not None
    assert now + needs <= found.ends
    if held is not None and "db" not in held.selector:
        assert now + needs <= held.begins or now >= held.ends


def _until(one: MaintenanceWindow, now: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    found = []
    for part in recurrence(one).occurrences(now):
        if part.begins > end:
            break
        found.append((part.begins, part.ends))
    return found


@given(_windows, _freezes, _needs, _moments)
def test_every_no_names_a_rule_and_urgent_work_hears_none(
    one: MaintenanceWindow, held: Freeze, needs: timedelta, now: datetime
) -> None:
    year = calendar(one, held)
    found = clearance(work(one.name, needs=needs), year, now)
    for obstacle in found.obstacles:
        assert str(obstacle.rule) in {f"window/{one.name}", f"freeze/{held.name}"}
        assert obstacle.summary.startswith(f"{obstacle.rule} ")
        assert obstacle.until is None or obstacle.until > now
    urgent = clearance(work(one.name, needs=needs, urgent=True), year, now)
    assert (urgent.obstacles, urgent.overridden) == ((), found.obstacles)


@given(_windows, _freezes, _needs, _moments)
def test_the_earliest_moment_is_one_at_which_the_work_may_begin(
    one: MaintenanceWindow, held: Freeze, needs: timedelta, now: datetime
) -> None:
    year = calendar(one, held)
    moment = earliest([work(one.name, needs=needs)], year, now)
    if moment is not None:
        assert moment >= now
        assert not clearance(work(one.name, needs=needs), year, moment).obstacles
