"""Runs: begun under a lease, carried out, closed with a report, evidence and a plan of what is left; and taken up again
after a crash. Before ``begin`` nothing is touched; after it nothing is raised that would lose what landed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ismgr_automation.converge.apply import carry_on
from ismgr_automation.converge.drill import name_of, plan_drill
from ismgr_automation.converge.drill_calendar import with_occasion
from ismgr_automation.converge.drill_particulars import credited
from ismgr_automation.converge.looked import Looked
from ismgr_automation.converge.outcome import told
from ismgr_automation.converge.patch import plan_patch, plan_rollback
from ismgr_automation.converge.plan import plan as compose_again
from ismgr_automation.converge.report import Report, report_json
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.written import closed_run, measured_drill, state_of
from ismgr_automation.core.errors import EngineError, LeaseLost
from ismgr_automation.core.events import RunClosed, RunResumed, RunStarted
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.evidence import entries
from ismgr_automation.evidence.chain import Record
from ismgr_automation.evidence.recorder import Closing, Recorder
from ismgr_automation.planning.plan import Plan, Purpose
from ismgr_automation.planning.planfile import write
from ismgr_automation.ports.leases import Lease
from ismgr_automation.ports.runs import Run, RunState, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What allowed a run: the approvals that were used, and whether glass was broken."""

    approvals: tuple[entries.UsedApproval, ...] = ()
    break_glass: entries.BreakGlass | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    """By nonce, for which rules an approval counted, in words."""

    @property
    def nonces(self) -> tuple[str, ...]:
        """What the run uses up."""
        return tuple(one.permission.nonce for one in self.approvals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """A lease that is held now; ``lost`` says why it no longer is, and is empty while it is."""

    lease: Lease
    lost: Callable[[], str]


def perform(plan: Plan, scope: Scope, tenure: Tenure, granted: Granted) -> Report:
    """Begin a run of a plan that was found fresh and allowed under this lease, and carry it out.

    Raises ``LeaseLost`` when the lease is over by now, ``NotApproved`` when an approval was used before, and
    ``EngineError`` when the run cannot be written down; then nothing was touched.
    """
    refuse_if_lost(tenure)
    # later waves stand on what earlier ones leave behind
    looked = Looked.now(plan.waves[0] if plan.waves else ())
    run = _new(plan, tenure.lease)
    scope = _for(run, scope)
    # a runner key that cannot be had is told while nothing has begun
    recorder = scope.engines.evidence(run.id)
    scope.engines.runs.begin(run, granted.nonces)
    try:
        recorder.write(_started(plan, run, granted), *_circumstances(plan, run, granted, tenure))
    except Exception as problem:
        recorder.abandon()
        scope.engines.runs.close(_closed(run, _nothing(run, told(problem, scope))))
        raise
    scope.context.emit(RunStarted(run=run.id, digest=run.digest, token=run.token))
    return _carry(plan, run, scope, recorder, tenure, looked=looked)


def take_up(plan: Plan, run: Run, scope: Scope, tenure: Tenure, granted: Granted | None = None) -> Report:
    """Go on with a run whose process died. The caller has made sure that inputs and approvals still hold; those of
    ``granted`` that the run has not used yet are used up now.

    Raises what ``perform`` raises.
    """
    refuse_if_lost(tenure)
    before, run = run, replace(run, token=tenure.lease.token, holder=tenure.lease.holder)
    scope = _for(run, scope)
    steps = scope.engines.journal.steps(run.id)
    allowed = _anew(granted or Granted(), scope.engines.runs.nonces(run.id))
    recorder = scope.engines.evidence(run.id)
    scope.engines.runs.take_over(run.id, run.token, run.holder, allowed.nonces)
    ended = recorder.ended()
    if ended is not None:
        return _end_again(plan, run, scope, ended)
    begun = {one.unit.key: "begun, not ended" for one in _unfinished(steps)}
    try:
        recorder.write(*_resumed(before, run, begun, allowed, tenure))
    except Exception:
        recorder.abandon()
        raise
    scope.context.emit(RunResumed(run=run.id, begun=len(begun)))
    return _carry(plan, run, scope, recorder, tenure, looked=Looked())


def new_name(now: datetime) -> str:
    """A name for a run that begins now; they sort by time."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def told_already(run: Run, scope: Scope) -> bool:
    """Whether the evidence of a run is closed: its process died before the ledger heard of its end."""
    return scope.engines.evidence(run.id).ended() is not None


def _end_again(plan: Plan, run: Run, scope: Scope, ended: entries.RunClosed) -> Report:
    """Tell the ledger how a run ended whose evidence says so already. Nothing more is done, nor written as evidence."""
    still = threading.Event()
    still.set()
    quiet = replace(scope, context=replace(scope.context, cancelled=still))
    report = carry_on(plan, run, quiet, _Silent(), lambda: True, looked=Looked())
    report = replace(report, cancelled=ended.state is RunState.CANCELLED, stopped=ended.stopped)
    scope.engines.runs.close(replace(_closed(run, report), state=ended.state))
    return report


class _Silent:
    """A recorder of what was said before."""

    def write(self, *entries: entries.Entry) -> None:
        """Nothing."""

    def ended(self) -> entries.RunClosed | None:
        """It is never asked."""
        return None

    def records(self) -> tuple[Record, ...]:
        """None."""
        return ()

    def close(self, closed: entries.RunClosed) -> Closing:
        """There is one end."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Nothing."""


def refuse_if_lost(tenure: Tenure) -> None:
    """Raise ``LeaseLost`` when nothing may begin any more."""
    lost = tenure.lost()
    if lost:
        raise LeaseLost(
            f"Nothing was begun: {lost}.",
            next_step="Look with `ismgr lease` who works there now, and run the command again.",
        )


def _anew(granted: Granted, used: Sequence[str]) -> Granted:
    """What a run that goes on uses up besides what it has used."""
    return replace(granted, approvals=tuple(one for one in granted.approvals if one.permission.nonce not in used))


def _resumed(
    before: Run, run: Run, begun: Mapping[str, str], granted: Granted, tenure: Tenure
) -> Iterator[entries.Entry]:
    """Whose lease is over, who goes on under which, and what allows it anew."""
    name = tenure.lease.name
    yield entries.Resumed(
        holder=run.holder,
        token=run.token,
        observed=begun,
        approvals=granted.approvals,
        break_glass=granted.break_glass if granted.approvals else None,
    )
    lost, why = entries.LeaseFate.LOST, "its holder did not close the run"
    yield entries.LeaseChanged(fate=lost, name=name, token=before.token, holder=before.holder, why=why)
    yield from _taken(run, granted, tenure)


def _unfinished(steps: tuple[StepRecord, ...]) -> tuple[StepRecord, ...]:
    ended = {(one.unit.round, one.unit.key) for one in steps if one.outcome is not None}
    return tuple(one for one in steps if (one.unit.round, one.unit.key) not in ended)


def _carry(plan: Plan, run: Run, scope: Scope, recorder: Recorder, tenure: Tenure, *, looked: Looked) -> Report:
    try:
        report = carry_on(plan, run, scope, recorder, lambda: not tenure.lost(), looked=looked)
    except BaseException:
        # the run is left for whoever resumes it, and others must be able to write
        recorder.abandon()
        raise
    lost = tenure.lost()
    if lost:
        # somebody else may have the run by now: only they may write of it and close it
        recorder.abandon()
        words = f"{lost}; the run is left for `ismgr resume {run.id}`"
        return replace(report, cancelled=False, lost=True, stopped=words)
    report = _with_rest(plan, report, scope)
    return _close(run, report, scope, recorder)


def _close(run: Run, report: Report, scope: Scope, recorder: Recorder) -> Report:
    """Write the end of a run, in the evidence first. What landed is told also when that fails; the run is open then,
    and not done."""
    ended = _closed(run, report)
    try:
        if report.cancelled:
            left = tuple(one for outcome in report.outcomes for one in outcome.leftovers)
            recorder.write(entries.RunCancelled(by=str(run.holder), left_running=left))
        if with_occasion(run, scope) is not None and (kept := _credited(run, scope, recorder)) is not None:
            recorder.write(measured_drill(kept))
        closing = recorder.close(closed_run(ended, report))
        scope.engines.runs.close(ended)
    except Exception as problem:  # noqa: BLE001  what landed must be told
        recorder.abandon()
        words = f"the run is still open, `ismgr resume {run.id}` closes it: {told(problem, scope)}"
        return replace(report, stopped="; ".join(filter(None, [report.stopped, words])))
    if closing.trouble:
        report = replace(report, warnings=(*report.warnings, "; ".join(closing.trouble)))
    scope.context.emit(
        RunClosed(run=run.id, state=str(ended.state), exit_code=int(report.exit_code), evidence=closing.anchored)
    )
    return report


def _credited(run: Run, scope: Scope, recorder: Recorder) -> JsonObject | None:
    """The result of a drill, kept with who approved and ran it; as it was where that cannot be kept."""
    results = scope.engines.recovery.results
    kept = results.result(run.id)
    if kept is None:
        return None
    with suppress(EngineError):
        whole = credited(kept, recorder.records())
        results.keep(run.id, str(whole["plan"]), whole)
        return whole
    return kept


def _with_rest(plan: Plan, report: Report, scope: Scope) -> Report:
    """The report with the plan of what is left, after a run that stopped with part of it applied."""
    if report.ok or report.cancelled or not report.effect or plan.purpose is Purpose.DESTROY:
        return report
    now = datetime.now(UTC)
    try:
        match plan.purpose:
            case Purpose.APPLY:
                left = compose_again(scope, now, urgent=plan.urgent)
            case Purpose.PATCH:
                left = plan_patch(scope, now, urgent=plan.urgent)
            case Purpose.ROLLBACK:
                left = plan_rollback(scope, now, plan.undoes, urgent=plan.urgent)
            case Purpose.DRILL:
                left = plan_drill(scope, now, name_of(plan), DrillMode.RETURN, urgent=plan.urgent)
    except Exception as problem:  # noqa: BLE001  what landed must be told
        words = f"what is left to do could not be planned: {told(problem, scope)}"
        return replace(report, warnings=(*report.warnings, words))
    return report if left.empty else replace(report, rest=write(left))


def _new(plan: Plan, lease: Lease) -> Run:
    now = datetime.now(UTC)
    return Run(
        id=new_name(now),
        estate=plan.estate,
        environment=plan.environment,
        digest=plan.digest,
        purpose=str(plan.purpose),
        commit=plan.beside.commit,
        plan=write(plan),
        token=lease.token,
        holder=lease.holder,
        started_at=now,
        whole=plan.whole,
    )


def _for(run: Run, scope: Scope) -> Scope:
    return replace(scope, context=replace(scope.context, run=run.id, token=run.token))


def _circumstances(plan: Plan, run: Run, granted: Granted, tenure: Tenure) -> Iterator[entries.Entry]:
    """What else is on record before anything is touched: the lease, what approvals counted for, what was noticed."""
    yield from _taken(run, granted, tenure)
    for found in plan.findings:
        yield entries.Noticed(
            level=found.level, subject=found.subject, summary=found.summary, next_step=found.next_step
        )


def _taken(run: Run, granted: Granted, tenure: Tenure) -> Iterator[entries.Entry]:
    name = tenure.lease.name
    yield entries.LeaseChanged(fate=entries.LeaseFate.TAKEN, name=name, token=run.token, holder=run.holder)
    for one in granted.approvals:
        permission = one.permission
        yield entries.ApprovalUsed(
            principal=one.principal,
            nonce=permission.nonce,
            not_after=permission.not_after,
            rule=granted.rules.get(permission.nonce, ""),
        )


def _started(plan: Plan, run: Run, granted: Granted) -> entries.RunStarted:
    from ismgr_automation import __version__

    return entries.RunStarted(
        estate=run.estate,
        digest=run.digest,
        purpose=run.purpose,
        commit=run.commit,
        holder=run.holder,
        token=run.token,
        changes=len(plan.changes),
        deferred=len(plan.deferred),
        approvals=granted.approvals,
        break_glass=granted.break_glass,
        version=__version__,
    )


def _closed(run: Run, report: Report) -> Run:
    return replace(
        run, state=state_of(report), finished_at=datetime.now(UTC), report=report_json(report), rest=report.rest
    )


def _nothing(run: Run, why: str) -> Report:
    return Report(run=run.id, digest=run.digest, outcomes=(), checks=(), rounds=0, seconds=0.0, stopped=why)
