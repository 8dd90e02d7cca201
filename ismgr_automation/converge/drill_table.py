"""A paper run on record: in the evidence, signed as a run is, and among the results of drills."""

from __future__ import annotations

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import recovery
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.events import DrillMeasured, OutputSeen
from ismgr_automation.core.json import digest
from ismgr_automation.evidence.entries import Noticed, RunClosed
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.result import DrillResult, Verdict, result_json


def keep_exercise(scope: Scope, result: DrillResult) -> None:
    """Keep the result of a paper run. Whoever calls holds the lease: the evidence has one writer. Raises
    ``EngineError``."""
    subject, passed = recovery(result.plan), result.verdict is Verdict.PASSED
    people = result.table.people if result.table is not None else ()
    body = digest(result_json(result))
    recorder = scope.engines.evidence(result.run)
    try:
        words = f"tabletop of {subject} by {', '.join(people)}: {result.verdict}"
        recorder.write(Noticed(level=Level.ADVISE if passed else Level.WARN, subject=subject, summary=words))
        closing = recorder.close(
            RunClosed(
                state=RunState.DONE if passed else RunState.STOPPED,
                exit_code=int(ExitCode.DONE if passed else ExitCode.OBJECTIVE_MISSED),
                landed=0,
                stopped="; ".join(result.reasons),
                report=body,
            )
        )
    finally:
        recorder.abandon()
    scope.engines.recovery.results.keep(result.run, result.plan, result_json(result))
    for one in closing.trouble:
        scope.context.emit(OutputSeen(subject=subject, text=one))
    scope.context.emit(
        DrillMeasured(
            subject=subject,
            run=result.run,
            mode=str(result.mode),
            verdict=str(result.verdict),
            outage_ms=None,
            resolution_ms=None,
            lost=None,
        )
    )
