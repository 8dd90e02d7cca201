"""The trend: which drills are compared, and when a longer outage is worse than chance explains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.recovery.result import DrillResult, FaultTold, Verdict
from ismgr_automation.recovery.trend import LEAST, PAST, WORSE, alike, spread, trend, trend_json
from tests.recovery.results import earlier, outage, result

CUT = FaultTold(name="cut", kind="partition")
FIGURES = st.floats(1, 10_000)
LOADS = st.floats(0, 50)


def before(*figures: float, **more: Any) -> list[DrillResult]:
    return [earlier(days, ms, **more) for days, ms in enumerate(figures, start=1)]


def now(ms: float, resolution: float = 5.0, **more: Any) -> DrillResult:
    return result(outages=(outage(ms, resolution),), **more)


CASES: dict[str, tuple[float, list[float], bool, str]] = {
    "as always": (92, [90, 91, 95], False, "no worse: clients waited 92 ms"),
    "faster": (70, [90, 91, 95], False, "no worse: clients waited 70 ms, 23 % less than"),
    "a quarter more is no more than a quarter": (125, [100, 100, 100], False, "no worse: "),
    "a little more than a quarter, beyond the noise": (126, [100, 100, 100], True, "worse: clients waited 126 ms"),
    "more than a quarter, and they always differ": (180, [100, 60, 160], False, "no worse than chance explains"),
    "two are no trend": (900, [90, 91], False, "2 drills before it can be compared with, and 3 are needed"),
    "the first of all": (900, [], False, "0 drills before it"),
}


@pytest.mark.parametrize("name", CASES)
def test_worse_is_a_quarter_more_than_the_median_and_more_than_noise(name: str) -> None:
    ms, figures, worse, words = CASES[name]
    found = trend(now(ms), before(*figures))
    assert found.worse is worse
    assert found.words[0].startswith(words)


def test_only_earlier_drills_of_the_same_plan_and_mode_that_passed_are_compared() -> None:
    good = before(90, 91, 92)
    others = [
        earlier(5, 1, plan="other"),
        earlier(6, 1, mode=DrillMode.SWITCHOVER),
        earlier(7, 1, verdict=Verdict.FAILED),
        earlier(8, 1, outages=()),
        earlier(-1, 1),
        now(92),
    ]
    found = trend(now(92), [*others, *good])
    assert found.compared == tuple(one.run for one in good)
    assert (found.rto_ms.low, found.rto_ms.median, found.rto_ms.high) == (90, 91, 92) if found.rto_ms else False
    # those that failed are on the line all the same, and what came later is not
    assert [one.run for one in found.points] == [
        one.run for one in [others[3], others[2], good[2], good[1], good[0], now(92)]
    ]


def test_drills_at_another_load_are_not_compared_and_it_says_so() -> None:
    calm = before(90, 91, 92)
    found = trend(now(300, load_average=(9.0, 9.0, 9.0)), calm)
    assert (found.worse, found.compared) == (False, ())
    assert found.words[1] == (
        "3 drills before it are not compared, the load was too different or not read: the load was 9.0 now"
    )
    unread = trend(now(300, load_average=None), calm)
    assert (unread.worse, unread.words[1].endswith("the load was not read now")) == (False, True)


FAULTS: dict[str, tuple[FaultTold | None, FaultTold | None]] = {
    "a loss that was declared": (CUT, None),
    "a fault": (None, CUT),
    "another fault": (replace(CUT, name="frozen", kind="freeze"), CUT),
    "another one of that name": (replace(CUT, kind="freeze"), CUT),
}


@pytest.mark.parametrize("name", FAULTS)
def test_drills_with_another_fault_are_not_compared_and_it_says_so(name: str) -> None:
    now_fault, then = FAULTS[name]
    others, kin = before(90, 91, 92, fault=then), [earlier(days, 1100, fault=now_fault) for days in (10, 11, 12)]
    alone = trend(now(1100, fault=now_fault), others)
    assert (alone.worse, alone.compared, len(alone.points)) == (False, (), 1)
    among = trend(now(2200, fault=now_fault), [*others, *kin])
    assert (among.worse, among.compared) == (True, tuple(one.run for one in kin))
    here = f"the fault was {now_fault.name} now" if now_fault is not None else "there was none now"
    assert among.words[1] == f"3 drills before it are not compared, the fault was another: {here}"
    assert among.words[1] in alone.words


def test_what_has_no_outage_is_compared_with_nothing() -> None:
    found = trend(result(outages=()), before(90, 91, 92))
    assert (found.worse, found.words) == (False, ("no outage was measured: there is nothing to compare",))


def test_a_pipeline_reads_the_ranges() -> None:
    told = trend_json(trend(now(92), before(90, 91, 95)))
    assert told["rto_ms"] == {"low": 90, "median": 91, "high": 95, "count": 3}
    assert (told["worse"], told["lost"]) == (False, {"low": 0, "median": 0, "high": 0, "count": 3})
    assert trend_json(trend(now(92), []))["rto_ms"] is None


@given(ms=FIGURES, figures=st.lists(FIGURES, max_size=20))
def test_worse_means_all_of_it_and_never_anything_less(ms: float, figures: list[float]) -> None:
    found = trend(now(ms), before(*figures))
    assert len(found.compared) == min(PAST, len(figures))
    recent = spread(figures[:PAST])
    if recent is None or recent.count < LEAST:
        assert not found.worse
        return
    beyond = ms - recent.median > recent.width + 5.0 + 5.0
    assert found.worse is (ms > recent.median * (1 + WORSE) and beyond)


@given(ms=FIGURES, more=FIGURES, figures=st.lists(FIGURES, min_size=LEAST, max_size=PAST))
def test_who_waits_longer_is_never_less_worse(ms: float, more: float, figures: list[float]) -> None:
    if trend(now(ms), before(*figures)).worse:
        assert trend(now(ms + more), before(*figures)).worse


@given(ms=FIGURES, figures=st.lists(FIGURES, min_size=LEAST, max_size=PAST), seed=st.randoms())
def test_the_order_in_which_drills_are_given_does_not_matter(ms: float, figures: list[float], seed: Any) -> None:
    ordered, mixed = before(*figures), before(*figures)
    seed.shuffle(mixed)
    assert trend(now(ms), ordered) == trend(now(ms), mixed)


@given(ms=FIGURES, figures=st.lists(FIGURES, min_size=1, max_size=PAST))
def test_what_is_within_what_was_seen_before_is_never_worse(ms: float, figures: list[float]) -> None:
    assume(min(figures) <= ms <= max(figures))
    assert not trend(now(ms), before(*figures)).worse


@given(one=LOADS, other=LOADS)
def test_loads_are_alike_both_ways_and_with_themselves(one: float, other: float) -> None:
    assert alike(one, other) is alike(other, one)
    assert alike(one, one)


def test_a_range_of_nothing_is_none() -> None:
    assert spread([]) is None
