"""Drills in isolation as pure values: the rules between steps, what is told from a journal, and the verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.isolation import CloneState, Counted
from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.recovery.isolated import CheckTold, Inside, IsolationTold, Step, refusal
from ismgr_automation.recovery.isolated_telling import IsolatedRecord, left_of, tell_isolated
from ismgr_automation.recovery.isolated_verdict import Seen, effects, judge_isolated
from ismgr_automation.recovery.result import Goals, TaskResult, Verdict, Writes
from ismgr_automation.recovery.verdict import CLEANUP, FAULT, RECOVERY

PASSED, FAILED, INVALID, ABORTED = Verdict.PASSED, Verdict.FAILED, Verdict.INVALID, Verdict.ABORTED
WHOLE = Counted(whole=True, knocked=12, dropped_out=12)
MS = 1_000_000

COUNTS = st.builds(Counted, whole=st.booleans(), passed_out=st.integers(0, 2), passed_in=st.integers(0, 2))
INSIDE = st.builds(Inside, counted=st.none() | COUNTS, proven=st.booleans(), clone=st.sampled_from(CloneState))

REFUSED = {
    "a copy into an open network": (Step.CLONE, {"counted": Counted(whole=False)}, "closed-before-clone"),
    "a copy where nobody can say": (Step.CLONE, {"counted": None}, "closed-before-clone"),
    "a copy where something passed": (Step.CLONE, {"counted": Counted(whole=True, passed_in=1)}, "nothing-passed"),
    "a promotion in an open network": (Step.PROMOTE, {"counted": Counted(whole=False)}, "closed-before-clone"),
    "a promotion without a proof": (Step.PROMOTE, {"proven": False}, "proven-before-promotion"),
    "opening with a clone inside": (Step.OPEN, {"clone": CloneState.PROMOTED}, "clone-gone-before-opening"),
    "opening where nobody can say": (Step.OPEN, {"clone": CloneState.UNKNOWN}, "clone-gone-before-opening"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_rule_says_no_by_its_name(case: str) -> None:
    step, more, rule = REFUSED[case]
    base: dict[str, Any] = {"counted": WHOLE, "proven": True, "clone": CloneState.ABSENT}
    assert refusal(step, Inside(**base)) is None
    found = refusal(step, Inside(**{**base, **more}))
    assert found is not None
    assert found.rule == rule


@given(INSIDE)
def test_a_clone_is_promoted_only_behind_walls_that_were_seen_to_hold(now: Inside) -> None:
    if refusal(Step.PROMOTE, now) is None:
        assert now.counted is not None
        assert now.counted.whole
        assert now.proven
        assert now.counted.passed_out == now.counted.passed_in == 0


@given(INSIDE)
def test_removing_a_clone_is_never_refused(now: Inside) -> None:
    assert refusal(Step.REMOVE, now) is None
    assert refusal(Step.ISOLATE, now) is None


def told(**more: Any) -> IsolationTold:
    base: dict[str, Any] = {
        "network": "198.51.100.0/24", "gateways": ("gw",), "spare": "spare", "source": "db2",
        "dropped_out": 12, "dropped_in": 0, "passed_out": 0, "passed_in": 0, "knocked": 12,
        "tried": {"192.0.2.1:5432": "silent"}, "longest_gap_ms": 20.0, "expected_rows": 100, "held_rows": 100,
    }  # fmt: skip
    return IsolationTold(**{**base, **more})


def task(name: Step, **more: Any) -> TaskResult:
    base: dict[str, Any] = {"leg": "isolated", "name": name, "action": name, "ok": True}
    return TaskResult(**{**base, "began_ms": 0.0, "ended_ms": 1.0, **more})


def writes(lost: int) -> Writes:
    return Writes(
        written=9, acked=9, lost=lost, lost_span_ms=0, failed=0, unknown_held=0, unknown_gone=0, contradictions=0
    )


NO_COUNTS = {"dropped_out": None, "dropped_in": None, "passed_out": None, "passed_in": None}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Verdict]]] = {
    "all is well": ({}, {}, {}),
    "one packet out": ({"passed_out": 1}, {}, {FAULT: FAILED}),
    "one packet in": ({"passed_in": 1}, {}, {FAULT: FAILED}),
    "no counters": (NO_COUNTS, {}, {FAULT: INVALID}),
    "nobody tried": ({"tried": None, "knocked": 0}, {}, {FAULT: INVALID}),
    "the rules met no try": ({"knocked": 0}, {}, {FAULT: INVALID}),
    "an answer from production": ({"tried": {"192.0.2.1:5432": "refused"}}, {}, {FAULT: FAILED}),
    "a long gap within the RTO": ({"longest_gap_ms": 900.0}, {}, {}),
    "a gap over the RTO": ({"longest_gap_ms": 1100.0}, {}, {RECOVERY: FAILED}),
    "a write of production that failed": ({"errors": 1}, {}, {RECOVERY: FAILED}),
    "a write of production that is lost": ({}, {"writes": writes(1)}, {RECOVERY: FAILED}),
    "a clone without some rows": ({"held_rows": 99, "behind_ms": 5.0}, {}, {RECOVERY: FAILED}),
    "a clone without some rows, within the RPO": (
        {"held_rows": 99, "behind_ms": 5.0}, {"goals": Goals(rto=1, rpo=1)}, {}
    ),
    "an empty clone, whatever the RPO": ({"held_rows": 0}, {"goals": Goals(rto=1, rpo=9)}, {RECOVERY: FAILED}),
    "a check that is not met": ({"checks": (CheckTold(name="one", ok=False),)}, {}, {RECOVERY: FAILED}),
    "nothing was asked": ({"held_rows": None, "expected_rows": 0}, {}, {RECOVERY: INVALID}),
    "a step that failed": ({}, {"tasks": [task(Step.PROMOTE, ok=False)]}, {RECOVERY: FAILED}),
    "a step that failed, and went well when the drill went on": (
        {}, {"tasks": [task(Step.PROMOTE, ok=False), task(Step.PROMOTE)]}, {}
    ),
    "a removal that failed is for cleanup": (
        {}, {"tasks": [task(Step.REMOVE, ok=False)], "left": ["a clone"]}, {CLEANUP: FAILED}
    ),
    "a standby that does not stream": ({}, {"redundant": False}, {CLEANUP: FAILED}),
    "nobody watched production": ({}, {"unmeasured": "no client was at work"}, {RECOVERY: INVALID}),
    "production was not steady": ({}, {"unsteady": "it flaps"}, {FAULT: INVALID, RECOVERY: Verdict.SKIPPED}),
    "stopped on request": ({**NO_COUNTS, "tried": None}, {"aborted": "stopped on request"}, {RECOVERY: ABORTED}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_verdict_is_from_what_it_rests_on(case: str) -> None:
    isolation, more, expected = CASES[case]
    base: dict[str, Any] = {"goals": Goals(rto=1, rpo=0), "tasks": [task(Step.PROMOTE)], "writes": writes(0)}
    found = judge_isolated(Seen(told=told(**isolation), **{**base, **more}))
    assert dict(found.verdicts) == {FAULT: PASSED, RECOVERY: PASSED, CLEANUP: PASSED, **expected}
    assert bool(found.reasons) == bool(expected)


def test_a_gap_over_fifty_milliseconds_is_told_and_no_failure() -> None:
    assert list(effects(told(longest_gap_ms=50.0))) == []
    (words,) = effects(told(longest_gap_ms=51.0))
    assert words == "production waited 51 ms for a write, and 50 ms are aimed at"


def entry(what: str, ns: int, **more: Any) -> JsonObject:
    return {"what": what, "leg": "isolated", "ns": ns * MS, **more}


def ended(step: Step, began: int, end: int, **more: Any) -> JsonObject:
    base = {"task": step, "ok": True, "began_ns": began * MS, "ended_ns": end * MS, "readings": {}}
    return entry("task-ended", end, **{**base, **more})


COUNTED = {"dropped_out": 12, "dropped_in": 1, "passed_out": 0, "passed_in": 0, "knocked": 12, "words": ""}
JOURNAL: tuple[JsonObject, ...] = (
    entry("task-began", 100, task=Step.ISOLATE),
    ended(Step.ISOLATE, 100, 120),
    entry("copying", 121, number=20, acked=20),
    entry("task-began", 121, task=Step.CLONE),
    ended(Step.CLONE, 121, 400, readings={"bytes": 5000}),
    entry("tried", 400, places={"192.0.2.1:5432": "silent"}, knocked=3),
    entry("held", 450, rows=20, newest=20, words=""),
    entry("checked", 460, name="one", ok=False, expected="7", found="6", words=""),
    entry("checked", 470, name="one", ok=True, expected="7", found="7", words=""),
    ended(Step.REMOVE, 480, 500),
    entry("counted", 500, whole=True, **COUNTED),
    ended(Step.OPEN, 500, 510),
)
ATTEMPTS = tuple(
    Attempt(number=one, sent_ns=(5 * one - 1) * MS, ended_ns=5 * one * MS, outcome=Outcome.ACKED, endpoint="e")
    for one in range(1, 120)
    if one != 60
)


def record(*entries: JsonObject) -> IsolatedRecord:
    return IsolatedRecord(
        entries=entries, attempts=ATTEMPTS, network="198.51.100.0/24", gateways=("gw",), spare="spare", source="db2"
    )


def test_what_is_told_follows_from_the_journal_and_the_clients_log() -> None:
    found = tell_isolated(record(*JOURNAL))
    assert (found.passed_out, found.dropped_out, found.dropped_in, found.knocked) == (0, 12, 1, 3)
    assert (found.took_ms, found.longest_gap_ms, found.errors) == (410.0, 10.0, 0)
    assert (found.database_bytes, found.expected_rows, found.held_rows) == (5000, 20, 20)
    assert found.behind_ms == pytest.approx(21)
    assert [(one.name, one.ok) for one in found.checks] == [("one", True)]


def test_counters_that_were_not_of_one_piece_are_no_counters() -> None:
    torn = [one if one["what"] != "counted" else {**one, "whole": False} for one in JOURNAL]
    assert tell_isolated(record(*torn)).passed_out is None
    breached = entry("breached", 450, words="found open")
    assert tell_isolated(record(*JOURNAL, breached)).passed_out is None


@pytest.mark.parametrize(("step", "words"), [(Step.REMOVE, "the clone"), (Step.OPEN, "the rules of the drill")])
def test_what_was_not_seen_to_be_taken_away_is_left(step: Step, words: str) -> None:
    without = [one for one in JOURNAL if one["what"] != "task-ended" or one["task"] != step]
    (said,) = left_of(without)
    assert said.startswith(words)
    assert left_of(JOURNAL) == ()
