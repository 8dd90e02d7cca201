"""Verdicts: each of the three from what it rests on, the worst for the whole, a reason for whatever is not passed."""

from __future__ import annotations

from typing import Any

import pytest

from ismgr_automation.recovery.result import Goals, Outage, TaskResult, Verdict, Writes
from ismgr_automation.recovery.verdict import CLEANUP, FAULT, RECOVERY, Measured, judge, worst

PASSED, FAILED, INVALID, ABORTED, SKIPPED = (
    Verdict.PASSED, Verdict.FAILED, Verdict.INVALID, Verdict.ABORTED, Verdict.SKIPPED,
)  # fmt: skip


def outage(ms: float, resolution: float = 5, leg: str = "failover") -> Outage:
    return Outage(leg=leg, outage_ms=ms, resolution_ms=resolution)


def writes(**more: Any) -> Writes:
    base = {"written": 9, "acked": 9, "lost": 0, "lost_span_ms": 0.0, "failed": 0}
    return Writes(**{**base, "unknown_held": 0, "unknown_gone": 0, "contradictions": 0, **more})


def task(**more: Any) -> TaskResult:
    return TaskResult(
        **{"leg": "failover", "name": "fence", "action": "fence", "ok": True, "began_ms": 0.0, "ended_ms": 9.0, **more}
    )


def measured(**more: Any) -> Measured:
    base = {
        "goals": Goals(rto=1, rpo=0, mtd=60), "outages": [outage(900)], "writes": writes(), "tasks": [task()],
        "redundant": True,
    }  # fmt: skip
    return Measured(**{**base, **more})


CASES: dict[str, tuple[dict[str, Any], dict[str, Verdict], str]] = {
    "all is well": ({}, {}, ""),
    "no objectives": ({"goals": Goals(rto=None, rpo=None), "outages": [outage(10**6)]}, {}, ""),
    "the outage may be longer than it looks": (
        {"outages": [outage(996)]}, {RECOVERY: FAILED}, "clients waited 996 ms ± 5 ms in failover, and 1 s is the RTO"
    ),
    "the way back took too long": (
        {"outages": [outage(900), outage(5000, leg="failback")]}, {RECOVERY: FAILED},
        "clients waited 5000 ms ± 5 ms in failback, and 1 s is the RTO",
    ),
    "one write is lost and none may be": (
        {"writes": writes(lost=1)}, {RECOVERY: FAILED}, "1 acknowledged writes of 0 ms are lost, and 0 s is the RPO"
    ),
    "fewer are lost than may be": (
        {"writes": writes(lost=3, lost_span_ms=900.0), "goals": Goals(rto=1, rpo=1)}, {}, ""
    ),
    "more are lost than may be": (
        {"writes": writes(lost=3, lost_span_ms=1100.0), "goals": Goals(rto=1, rpo=1)}, {RECOVERY: FAILED},
        "3 acknowledged writes of 1100 ms are lost, and 1 s is the RPO",
    ),
    "what was refused is there": (
        {"writes": writes(contradictions=2)}, {RECOVERY: FAILED}, "2 writes that were refused are there all the same"
    ),
    "the last step ended too late": (
        {"tasks": [task(ended_ms=61_000.0), task(leg="reprotect", began_ms=-90_000.0)]}, {RECOVERY: FAILED},
        "it took 61 s until all was as before, and 60 s are tolerable",
    ),
    "what was looked at before is no part of it": (
        {"tasks": [task(leg="reprotect", began_ms=-90_000.0, ended_ms=-70_000.0), task(ended_ms=59_000.0)]}, {}, ""
    ),
    "nothing was measured": ({"outages": []}, {RECOVERY: FAILED}, "no outage was measured"),
    "nothing was to be measured": ({"outages": [], "moves": False}, {}, ""),
    "service did not come back": (
        {"outages": [], "unserved": ["gone"]}, {RECOVERY: FAILED}, "gone"
    ),
    "a rule refused": (
        {"tasks": [task(ok=False, rule="never-zero", words="nobody follows")]}, {RECOVERY: FAILED},
        "step fence of failover was refused by the rule never-zero: nobody follows",
    ),
    "a step failed": (
        {"tasks": [task(ok=False, words="no BMC")], "stopped": "the same"}, {RECOVERY: FAILED},
        "step fence of failover did not end well: no BMC",
    ),
    "it stopped before any step": (
        {"tasks": [], "stopped": "not begun: no BMC"}, {RECOVERY: FAILED}, "not begun: no BMC"
    ),
    "the probe was not steady": (
        {"unsteady": "write 7 failed", "outages": []}, {FAULT: INVALID, RECOVERY: SKIPPED}, "write 7 failed"
    ),
    "the fault did not bite": ({"unbitten": "still there"}, {FAULT: INVALID}, "still there"),
    "the writes were not counted": (
        {"uncounted": "no database", "writes": None}, {RECOVERY: INVALID}, "no database"
    ),
    "there is no redundancy": (
        {"redundant": False}, {CLEANUP: FAILED}, "no standby streams in the original direction at the end"
    ),
    "something is left": ({"left": ["a fence"]}, {CLEANUP: FAILED}, "a fence"),
    "somebody broke it off": (
        {"aborted": "on request", "outages": []}, {RECOVERY: ABORTED}, "on request"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_drill_is_judged_by_what_was_measured(case: str) -> None:
    more, verdicts, why = CASES[case]
    found = judge(measured(**more))
    assert {part: one for part, one in found.verdicts.items() if one is not PASSED} == verdicts
    assert found.verdict is worst([PASSED, *verdicts.values()])
    assert any(one.endswith(f": {why}") for one in found.reasons) if why else found.reasons == ()


def test_each_reason_says_which_verdict_it_is_of() -> None:
    found = judge(measured(unbitten="a", uncounted="b", redundant=False))
    assert [one.split(":")[0] for one in found.reasons] == [FAULT, RECOVERY, CLEANUP]


@pytest.mark.parametrize(
    ("some", "expected"),
    [([], PASSED), ([PASSED, SKIPPED], SKIPPED), ([FAILED, SKIPPED], FAILED), ([FAILED, INVALID], INVALID),
     ([INVALID, ABORTED], ABORTED)],
)  # fmt: skip
def test_what_proves_nothing_is_worse_than_what_failed(some: list[Verdict], expected: Verdict) -> None:
    assert worst(some) is expected
