"""Drills for tests of reports: what a client wrote around a move, and results of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ismgr_automation.core.json import digest
from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.recovery.clauses import Seal
from ismgr_automation.recovery.particulars import Scenario
from ismgr_automation.recovery.result import Goals, TaskResult, Verdict, result_json
from ismgr_automation.reports.drill_page import Told
from tests.recovery.results import NOON, bare, case, finding, task

HOSTILE = (
    "</style></title><script>document.body.innerHTML='OWNED'</script><img src=x onerror=alert(1)>\u202e\"'`&{{7*7}}(\\)"
)


def attempts() -> list[Attempt]:
    """A write every 5 ms; none is acknowledged from -4 to 88 ms after the first step began."""
    found: list[Attempt] = []

    def put(sent: float, took: float, outcome: Outcome) -> None:
        number = len(found) + 1
        began = 10**9 + int(sent * 1e6)
        found.append(
            Attempt(
                number=number, sent_ns=began, ended_ns=began + int(took * 1e6), outcome=outcome, endpoint="192.0.2.30"
            )
        )

    for number in range(141):
        put(-705 + 5 * number, 1, Outcome.ACKED)
    put(1, 8, Outcome.UNKNOWN)
    for number in range(7):
        put(12 + 10 * number, 4, Outcome.FAILED)
    put(82, 6, Outcome.ACKED)
    for number in range(300):
        put(93 + 5 * number, 1, Outcome.ACKED)
    return found


def told(**more: Any) -> Told:
    found = case(**more)
    return Told(case=found, attempts=attempts(), digest=digest(result_json(found.result)), made=NOON)


def passed() -> Told:
    return told()


def failed() -> Told:
    return told(
        verdict=Verdict.FAILED,
        verdicts={"fault": Verdict.PASSED, "recovery": Verdict.FAILED, "cleanup": Verdict.PASSED},
        reasons=("recovery: clients waited 92 ms ± 5 ms in failover, and 0.05 s is the RTO",),
        goals=Goals(rto=0.05, rpo=0.0, mtd=900.0),
        notes=(finding(),),
        seal=Seal(),
    )


def invalid() -> Told:
    return replace(
        told(
            verdict=Verdict.INVALID,
            verdicts={"fault": Verdict.INVALID, "recovery": Verdict.SKIPPED, "cleanup": Verdict.PASSED},
            reasons=("fault: write 4 failed: reset",),
            outages=(),
            writes=None,
            tasks=(),
            steady=False,
            notes=(),
            seal=Seal(trouble="The evidence is on another machine."),
        ),
        attempts=(),
    )


def aborted() -> Told:
    return Told(case=bare(), attempts=(), digest="sha256:00", made=NOON)


def hostile() -> Told:
    """Texts of an attacker wherever a text can stand."""
    found = told(
        run=HOSTILE,
        plan=HOSTILE,
        estate=HOSTILE,
        home=HOSTILE,
        verdict=Verdict.FAILED,
        reasons=(HOSTILE,),
        scenario=Scenario(threat=HOSTILE, assumptions=(HOSTILE,)),
        tasks=(refused(), task(HOSTILE, HOSTILE, HOSTILE, 0.0, 1.0, words=HOSTILE)),
        tools={HOSTILE: HOSTILE},
        notes=(finding(text=HOSTILE, owner=HOSTILE, cause=HOSTILE),),
        seal=Seal(signed_by=HOSTILE),
    )
    outage = replace(found.result.outages[0], leg=HOSTILE)
    result = replace(found.result, outages=(outage,))
    return replace(found, case=replace(found.case, result=result))


def refused() -> TaskResult:
    return task("failover", "promote", "promote", 0.0, 1.0, ok=False, rule="confirmed-fence", words=HOSTILE)


EVERY: dict[str, Callable[[], Told]] = {
    "passed": passed,
    "failed": failed,
    "invalid": invalid,
    "aborted": aborted,
    "hostile": hostile,
}
