"""What a run writes into its evidence, made from what it knows. Values only; the recorder makes them durable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ismgr_automation.converge.report import Fate, Outcome, Report, failed_checks, report_json
from ismgr_automation.core.address import recovery
from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.evidence import entries
from ismgr_automation.evidence.entries import Entry
from ismgr_automation.planning.change import Change, Level
from ismgr_automation.planning.plan import step_json
from ismgr_automation.ports.runs import Round, Run, RunState, Unit
from ismgr_automation.ports.verification import Verdict
from ismgr_automation.recovery.result import Verdict as Passed
from ismgr_automation.recovery.result import read_result


def opened_round(known: Round) -> Entry:
    """A round is about to begin."""
    return entries.RoundOpened(round=known.number, waves=known.waves, changes=digest(list(known.changes)))


def intents(round_: int, wave: int, changes: Sequence[Change], units: Sequence[Unit]) -> Iterable[Entry]:
    """What a wave is about to do."""
    for change, unit in zip(changes, units, strict=True):
        yield entries.Intent(
            round=round_,
            wave=wave,
            key=change.key,
            address=change.address,
            action=str(change.action),
            targets=change.targets,
            attempt=unit.attempt,
            precondition=change.precondition,
        )


def closed_wave(
    round_: int, wave: int, outcomes: Sequence[Outcome], units: Sequence[Unit], executors: Mapping[str, str]
) -> Iterable[Entry]:
    """How a wave ended: each outcome, and the verification that belongs to it. ``executors`` by the unit's key."""
    for outcome, unit in zip(outcomes, units, strict=True):
        yield entries.Outcome(
            round=round_,
            key=outcome.key,
            address=outcome.address,
            fate=str(outcome.fate),
            changed=outcome.changed,
            seconds=round(outcome.seconds, 3),
            summary=outcome.summary,
            attempt=unit.attempt,
            executor=executors.get(outcome.key, ""),
            post_state=outcome.post_state,
            steps=tuple(step_json(one) for one in outcome.applied),
        )
        if outcome.checks:
            counts = Counter(one.verdict for one in outcome.checks)
            yield entries.Verified(
                subject=outcome.address,
                passed=counts[Verdict.PASSED],
                skipped=counts[Verdict.SKIPPED],
                failed=tuple(
                    entries.FailedCheck(host=one.host, check=one.check, verdict=str(one.verdict), message=one.message)
                    for one in failed_checks(outcome.checks)
                ),
                round=round_,
                wave=wave,
            )


def measured_drill(result: JsonObject) -> Entry:
    """What a drill measured, with the digest of its result as it is kept: the chain holds whoever shows one to it."""
    found = read_result(result)
    first, writes = next(iter(found.outages), None), found.writes
    waited = f"clients waited {first.figure}" if first else "no outage measured"
    lost = f"{writes.lost} of {writes.acked} acknowledged writes lost" if writes is not None else "writes not counted"
    return entries.Noticed(
        level=Level.ADVISE if found.verdict is Passed.PASSED else Level.WARN,
        subject=recovery(found.plan),
        summary=f"{found.mode} drill {found.verdict}: {waited}, {lost}; result {digest(result)}",
        next_step="; ".join(found.reasons),
    )


def closed_run(run: Run, report: Report) -> entries.RunClosed:
    """How the run ended."""
    counts = Counter(one.fate for one in report.outcomes)
    return entries.RunClosed(
        state=run.state,
        exit_code=int(report.exit_code),
        landed=counts[Fate.LANDED],
        failed=counts[Fate.FAILED],
        unknown=counts[Fate.UNKNOWN],
        not_started=counts[Fate.NOT_STARTED],
        stopped=report.stopped,
        report=digest(report_json(report)),
        rest=digest(report.rest) if report.rest else "",
    )


def state_of(report: Report) -> RunState:
    """Where a run is after its report."""
    if report.ok:
        return RunState.DONE
    return RunState.CANCELLED if report.cancelled else RunState.STOPPED
