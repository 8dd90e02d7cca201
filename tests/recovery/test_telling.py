"""From journals and logs that a test has written by hand to what a drill says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.recovery import (
    ClientFault,
    DiskFault,
    Fault,
    FreezeFault,
    PartitionFault,
    PowerFault,
    RollingFault,
    StaleFault,
)
from ismgr_automation.ports.recovery import Attempt, Outcome, Standing
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.path import legs
from ismgr_automation.recovery.telling import AWAY, Record, Told, moved_home, tell
from tests.recovery.documents import SIDES, plan
from tests.recovery.logs import EVERY, MS, attempt, log

LEGS = legs(plan(), DrillMode.FAILOVER, SIDES)


def began(task: str, at: float, leg: str = "failover", action: str = "") -> JsonObject:
    return {"what": "task-began", "leg": leg, "task": task, "action": action or task, "ns": round(at * MS)}


def ended(task: str, since: float, until: float, leg: str = "failover", **more: Any) -> JsonObject:
    return {
        "what": "task-ended", "leg": leg, "task": task, "action": task, "ok": True, "began_ns": round(since * MS),
        "ended_ns": round(until * MS), "found": False, "rule": "", "words": "", "readings": {}, "ns": round(until * MS),
        **more,
    }  # fmt: skip


def done(task: str, since: float, until: float, leg: str = "failover") -> list[JsonObject]:
    return [began(task, since, leg), ended(task, since, until, leg)]


def look(ok: int, since: float, until: float) -> JsonObject:
    return {
        "what": "confirmed", "leg": "failover", "task": "fence", "ok": bool(ok), "by": "db2", "words": "it can connect",
        "began_ns": round(since * MS), "ended_ns": round(until * MS), "ns": round(until * MS),
    }  # fmt: skip


def told(entries: Sequence[JsonObject], attempts: Sequence[Attempt], held: frozenset[int] | None = frozenset()) -> Told:
    return tell(Record(entries=entries, legs=LEGS, attempts=attempts, every=EVERY, held=held))


def around(since: float, until: float, end: float = 5000) -> list[Attempt]:
    """Acknowledged each 5 ms, but for the time between."""
    turns = [turn * 5.0 for turn in range(round(end / 5))]
    return [
        attempt(number, turn, turn + 1, Outcome.ACKED if not since <= turn < until else Outcome.FAILED)
        for number, turn in enumerate(turns, start=1)
    ]


MOVE = [
    {"what": "began", "ns": 0},
    *done("fence", 1000, 1040),
    look(1, 1040, 1050),
    *done("promote", 1050, 1080),
    *done("balancers", 1080, 1085),
]


def test_an_outage_is_cut_by_the_steps_of_its_move() -> None:
    (outage,) = told(MOVE, around(1000, 1090)).outages
    assert (outage.leg, outage.outage_ms, outage.interruptions) == ("failover", 95.0, 1)
    assert [(one.name, one.began_ms, one.ended_ms) for one in outage.waterfall] == [
        ("detect", -4, 0), ("fence", 0, 40), ("confirm", 40, 50), ("promote", 50, 80), ("balancers", 80, 85),
        ("reconnect", 85, 91),
    ]  # fmt: skip


def test_the_time_in_which_an_entry_is_brought_to_the_disk_is_told_where_it_held_somebody_up() -> None:
    entries: list[JsonObject] = [
        {"what": "began", "ns": 0},
        began("fence", 999),
        {**ended("fence", 1000, 1040), "kept_ns": [998 * MS, 1000 * MS]},
        {**began("promote", 1044), "kept_ns": [1040 * MS, 1044 * MS]},
        ended("promote", 1046, 1080),
        {"what": "leg-ended", "leg": "failover", "ns": 1083 * MS, "kept_ns": [1080 * MS, 1083 * MS]},
    ]
    (outage,) = told(entries, around(1000, 1090)).outages
    assert [(one.name, one.began_ms, one.ended_ms) for one in outage.waterfall] == [
        ("detect", -4, 0), ("fence", 0, 40), ("journal", 40, 44), ("unaccounted", 44, 46), ("promote", 46, 80),
        ("reconnect", 80, 91),
    ]  # fmt: skip


def test_a_move_that_no_client_noticed_costs_its_longest_wait() -> None:
    (outage,) = told(MOVE, around(0, 0)).outages
    assert (outage.outage_ms, outage.interruptions, outage.waterfall) == (5.0, 0, ())


def test_a_service_that_did_not_come_back_is_no_outage_that_was_measured() -> None:
    found = told(MOVE, around(1000, 9000))
    assert (found.outages, found.unmeasured) == ((), ())
    assert found.unserved[0].startswith("after failover service did not come back to stay: clients waited more than ")


def test_a_log_that_ends_before_the_move_is_no_measure() -> None:
    found = told(MOVE, log("aaaa"))
    assert (found.outages, found.unserved) == ((), ())
    assert found.unmeasured == (
        "the outage of failover is not known: the probe's log ends before what it was to measure",
    )


def test_a_step_that_a_rule_refused_has_cost_nobody_anything() -> None:
    found = told([ended("fence", 1000, 1000, ok=False, rule="never-zero", words="no")], around(0, 0))
    assert (found.outages, found.moves, found.without_redundancy_s) == ((), False, 0.0)
    assert [(one.rule, one.words) for one in found.tasks] == [("never-zero", "no")]


def test_the_time_without_a_controller_is_told_as_what_it_is() -> None:
    entries = [
        began("fence", 1000),
        {"what": "resumed", "ns": 1500 * MS},
        ended("fence", 1500, 1500, found=True),
        look(1, 1500, 1510),
        *done("promote", 1510, 1550),
    ]
    found = told(entries, around(1000, 1555))
    assert found.resumed == 1
    names = [(one.name, round(one.took_ms)) for one in found.outages[0].waterfall]
    assert names == [("detect", 4), (AWAY, 500), ("confirm", 10), ("promote", 40), ("reconnect", 6)]


GIVEN: JsonObject = {"what": "given-back", "leg": "failover", "ok": True, "ns": 0}
JOIN = ended("rejoin", 3000, 3400, "reprotect")


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ([*MOVE, JOIN], 2.4),
        (MOVE, None),
        ([began("fence", 1000), ended("fence", 2000, 2000, found=True), JOIN], 2.4),
        ([*MOVE, JOIN, *done("demote", 4000, 4020, "failback"), ended("rejoin", 4100, 4120, "reprotect-home")], 2.52),
        ([*MOVE, GIVEN], None),
        ([*MOVE, GIVEN, {"what": "looked", "ok": True, "ns": 2500 * MS}], 1.5),
        ([*MOVE, GIVEN, {"what": "looked", "ok": False, "ns": 2500 * MS}], None),
        ([*MOVE, JOIN, {"what": "looked", "ok": True, "ns": 9000 * MS}], 2.4),
        ([*MOVE, {**GIVEN, "ok": False}], None),
        ([{"what": "looked", "ok": True, "ns": 2500 * MS}], 0.0),
        ([{"what": "looked", "ok": False, "ns": 2500 * MS}], None),
        ([JOIN], None),
        ([ended("rejoin", 3000, 3400, "reprotect", found=True)], 0.0),
    ],
)
def test_the_time_without_redundancy_is_counted_from_the_first_act(
    entries: list[JsonObject], seconds: float | None
) -> None:
    assert told(entries, around(1000, 1090)).without_redundancy_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (PowerFault(name="off", do="power-off"), 3.3),
        (StaleFault(name="off", do="stale-primary"), 3.3),
        (FreezeFault(name="off", do="freeze"), 3.3),
        (PartitionFault(name="off", do="partition", gateways="gateways"), 3.3),
        (RollingFault(name="off", do="rolling", gateways="gateways"), 3.3),
        (DiskFault(name="off", do="disk-full"), 2.4),
        (ClientFault(name="off", do="ignores-ttl"), 2.4),
    ],
)
def test_the_time_without_redundancy_begins_with_a_fault_that_cuts_replication(fault: Fault, seconds: float) -> None:
    struck = [began("off", 100, "fault", fault.do), ended("off", 100, 110, "fault", action=fault.do)]
    record = Record(
        entries=[*struck, *MOVE, JOIN], legs=LEGS, attempts=around(100, 1090), every=EVERY, held=None, fault=fault
    )
    assert tell(record).without_redundancy_s == pytest.approx(seconds)


def test_a_fence_that_nobody_confirms_did_not_bite() -> None:
    assert told(MOVE, around(0, 0)).unbitten == ""
    found = told([*done("fence", 1000, 1040), look(0, 1040, 1050)], around(0, 0))
    assert found.unbitten == "the old side was not lost: db2 does not confirm its fence: it can connect"


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ([], ("the fence of failover was not seen to be lifted",)),
        (done("unfence", 2000, 2100, "reprotect"), ()),
        ([ended("unfence", 2000, 2100, "reprotect", ok=False)], ("the fence of failover was not seen to be lifted",)),
        ([{"what": "given-back", "leg": "failover", "ok": True, "ns": 0}], ()),
    ],
)
def test_a_fence_that_was_not_lifted_is_left(more: list[JsonObject], left: tuple[str, ...]) -> None:
    assert told([*MOVE, *more], around(1000, 1090)).left == left


def test_writes_are_counted_by_what_the_database_holds() -> None:
    attempts = log("aafau")
    found = told([], attempts, frozenset({1, 3, 5})).writes
    assert found is not None
    counted = (found.written, found.acked, found.lost, found.failed, found.unknown_held, found.contradictions)
    assert counted == (5, 3, 2, 1, 1, 1)
    assert told([], attempts, None).writes is None


def test_members_are_told_as_they_were_when_a_leg_began() -> None:
    one = {
        "host": "db2.dc2", "part": "standby", "writable": False, "streaming": True, "position": 7, "lag_bytes": 3,
        "lag_seconds": None, "timeline": 1, "detail": "",
    }  # fmt: skip
    (found,) = told([{"what": "leg-began", "leg": "failover", "ns": 0, "standings": [one]}], []).readings
    assert found.at == "failover"
    assert found.standings == (
        Standing(host="db2.dc2", part=Part.STANDBY, streaming=True, position=7, lag_bytes=3, timeline=1),
    )


HOME = Standing(host="a", part=Part.PRIMARY, writable=True)
AT_AWAY = Standing(host="b", part=Part.STANDBY, streaming=True)


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ([HOME, AT_AWAY], True),
        ([HOME], False),
        ([AT_AWAY], False),
        ([HOME, Standing(host="b", part=Part.STANDBY)], False),
        ([HOME, Standing(host="b", part=Part.PRIMARY, writable=True, streaming=True)], False),
    ],
)
def test_home_is_one_primary_and_one_that_streams(standings: list[Standing], expected: bool) -> None:
    assert moved_home(standings, "a", "b") is expected


@given(
    st.lists(st.tuples(st.sampled_from(["fence", "promote", "balancers"]), st.integers(0, 400), st.integers(0, 400))),
    st.integers(0, 400),
)
def test_the_pieces_of_a_waterfall_are_the_outage(steps: list[tuple[str, int, int]], lasts: int) -> None:
    entries = [one for name, since, takes in steps for one in done(name, 1000 + since, 1000 + since + takes)]
    for outage in told(entries, around(1000, 1000 + lasts)).outages:
        if not outage.waterfall:
            assert outage.interruptions == 0
            continue
        assert sum(one.took_ms for one in outage.waterfall) == pytest.approx(outage.outage_ms)
        ends = [(one.began_ms, one.ended_ms) for one in outage.waterfall]
        assert all(before[1] == after[0] for before, after in pairwise(ends))
