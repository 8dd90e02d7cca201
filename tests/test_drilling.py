"""The judge of random drills judged: what breaks a promise is named, and nothing else is."""

from __future__ import annotations

import pytest

from tests.drilling import AWAY, HOME, KINDS, Account, Confirmed, draw, moves

DIRECT, EDGE = f"web1.dc1 to {HOME}", "edge1.dc1"
FAILOVER = (
    {"what": "task-began", "leg": "failover", "action": "promote", "ns": 100},
    {"what": "task-ended", "leg": "failover", "action": "promote", "ok": True, "began_ns": 101},
)
FAILBACK = (
    {"what": "task-began", "leg": "failback", "action": "promote", "ns": 200},
    {"what": "task-ended", "leg": "failback", "action": "promote", "ok": True, "began_ns": 201},
)
STALE = ({"what": "came-back", "began_ns": 120, "ended_ns": 130}, {"what": "fenced-anew", "ns": 150})


def row(number: int, sent_ns: int, server: str, timeline: int, *, place: str = DIRECT, waited_ns: int = 1) -> Confirmed:
    return Confirmed(
        place=place,
        number=number,
        sent_ns=sent_ns,
        quiet_ns=sent_ns + waited_ns,
        ended_ns=sent_ns + waited_ns + 1,
        at_ns=sent_ns + 1,
        server=server,
        timeline=timeline,
    )


THERE = (row(1, 10, HOME, 1), row(2, 90, HOME, 1), row(3, 110, AWAY, 2))
BACK = (*THERE, row(4, 210, HOME, 3))
CASES = {
    "there and back, and all is there": (BACK, (*FAILOVER, *FAILBACK), {}, ""),
    "the end of the old side is lost": (THERE, FAILOVER, {2}, ""),
    "something else than the end is lost": (THERE, FAILOVER, {1}, "of timeline 1 a write is lost"),
    "the new side loses a write": (THERE, FAILOVER, {3}, "are lost and should not be"),
    "a planned move loses a write": (BACK[3:], FAILBACK, {4}, "are lost and should not be"),
    "the old side goes on": ((*THERE, row(4, 120, HOME, 1)), FAILOVER, {4}, "after the promotion of failover"),
    "the other side goes on after the way back": (
        (*BACK, row(5, 220, AWAY, 2)),
        (*FAILOVER, *FAILBACK),
        {},
        "after the promotion of failback",
    ),
    "an answer came late by a balancer": (
        (*THERE, row(4, 95, HOME, 1, place=EDGE, waited_ns=40)),
        FAILOVER,
        {2, 4},
        "",
    ),
    "a frozen server answers later": (
        (*THERE, row(4, 95, HOME, 1, waited_ns=40)),
        FAILOVER,
        {4},
        "after the promotion",
    ),
    "two take writes of which no journal knows": (
        (row(1, 10, AWAY, 2), row(2, 20, HOME, 1)),
        (),
        {},
        "on timeline 1 beside 2",
    ),
    "two promoted to the same timeline": (
        (row(1, 10, AWAY, 2), row(2, 20, HOME, 2)),
        (),
        {},
        "timeline 2 is that of two servers",
    ),
    "who goes to a stale primary himself": ((*THERE, row(4, 140, HOME, 1)), (*FAILOVER, *STALE), {4}, ""),
    "who is sent to a stale primary": (
        (*THERE, row(4, 140, HOME, 1, place=EDGE)),
        (*FAILOVER, *STALE),
        {4},
        "after the promotion of failover",
    ),
    "a stale primary behind its fence": (
        (*THERE, row(4, 160, HOME, 1)),
        (*FAILOVER, *STALE),
        {4},
        "after the promotion of failover",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_broken_promise_is_named_and_what_a_failover_may_lose_is_not(case: str) -> None:
    confirmed, journal, lost, wrong = CASES[case]
    held = frozenset((one.place, one.number) for one in confirmed if one.number not in lost)
    told = Account(confirmed=confirmed, held=held, journal=journal).judged()
    assert any(wrong in one for one in told) if wrong else told == []


def test_a_promotion_counts_from_when_it_was_first_asked_for_also_where_another_process_found_it_done() -> None:
    found = {"what": "task-ended", "leg": "failover", "action": "promote", "ok": True, "began_ns": 190}
    assert [(one.old, one.asked_ns) for one in moves((FAILOVER[0], found))] == [(HOME, 100)]
    assert moves((FAILOVER[0], {**found, "ok": False})) == []


def test_a_schedule_is_the_same_each_time_and_every_kind_of_drill_is_drawn() -> None:
    drawn = [draw(seed) for seed in range(200)]
    assert drawn == [draw(seed) for seed in range(200)]
    assert {(one.plan, one.mode, one.fault) for one in drawn} == set(KINDS)
    assert {len(one.kills) for one in drawn} == {0, 1, 2}
