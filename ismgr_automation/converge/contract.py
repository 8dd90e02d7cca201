"""The contract of apply: all is read and observed again under the lease, and found to be allowed, before anything is
touched. A plan that passes is carried out exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ismgr_automation.converge.destroy import plan_destroy
from ismgr_automation.converge.drill import again as drill_again
from ismgr_automation.converge.fleet import meet
from ismgr_automation.converge.gate import granted
from ismgr_automation.converge.ground import ground_of
from ismgr_automation.converge.meanwhile import moved_meanwhile
from ismgr_automation.converge.outcome import told
from ismgr_automation.converge.patch import again as patch_again
from ismgr_automation.converge.patch import packages_moved
from ismgr_automation.converge.plan import plan as compose_now
from ismgr_automation.converge.report import Queued, Report
from ismgr_automation.converge.requests import (
    baseline_content,
    group_content,
    recovery_content,
    stack_content,
    suites_content,
)
from ismgr_automation.converge.run import Granted, Tenure, perform, take_up, told_already
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import drains, put_back
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.converge.timing import refuse_outside, told_of_time
from ismgr_automation.converge.upkeep import members
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import (
    Cancelled,
    EngineFailed,
    InputError,
    NotApproved,
    PolicyDenied,
    Refused,
    StalePlan,
)
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Level
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.freshness import expired, moved
from ismgr_automation.planning.plan import Plan, Purpose
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.approvals import Approval
from ismgr_automation.ports.patching import Waiting
from ismgr_automation.ports.runs import Run, RunState, StepRecord


def apply_exactly(
    planned: Plan,
    looking: Scope,
    working: Scope,
    tenure: Tenure,
    *,
    composed: bool = False,
    approvals: Sequence[Approval] = (),
) -> Report:
    """Apply a plan or refuse it. ``looking`` is wired with the credentials of planning, ``working`` with those of
    applying. ``composed``: it was composed under this very lease a moment ago, so that another look would see the same.

    Raises ``StalePlan``, ``EngineFailed`` for a plan with errors, ``NotApproved`` and ``NotSigned`` before any effect.
    """
    refuse_if_errored(planned)
    now = datetime.now(UTC)
    late = expired(planned, now)
    if late:
        raise StalePlan(moved=[late])
    if not composed:
        # what can be told without any engine is told at once
        changed = inputs_moved(planned, (), looking)
        if changed:
            raise StalePlan(moved=changed)
    # a signature that is missing does not cost a look at the whole world
    allowed = granted(planned, looking, now, approvals)
    if not composed:
        again = _again(planned, looking, now)
        refuse_if_stale(planned, again)
        refuse_if_errored(again)
        planned = _with_sidecars(planned, again)
    fleet, begins = _fleet(planned, looking), datetime.now(UTC)
    refuse_outside(planned, looking, fleet, begins)
    # what urgent work passes by goes on record with all else that was noticed
    planned = told_of_time(planned, looking, fleet, begins)
    _refuse_if_cancelled(working, tenure)
    queued = _enqueue(planned, working, now)
    if planned.empty:
        # what nobody had to agree to begins no run: neither evidence nor the base is told of it
        return Report(digest=planned.digest, outcomes=(), checks=(), rounds=0, seconds=0.0, queued=queued)
    return replace(perform(planned, working, tenure, allowed), queued=queued)


def _again(planned: Plan, looking: Scope, now: datetime) -> Plan:
    match planned.purpose:
        case Purpose.APPLY:
            return compose_now(looking, now, urgent=planned.urgent)
        case Purpose.DESTROY:
            return plan_destroy(looking, now)
        case Purpose.PATCH | Purpose.ROLLBACK:
            return patch_again(planned, looking, now)
        case Purpose.DRILL:
            return drill_again(planned, looking, now)


def _fleet(planned: Plan, looking: Scope) -> Fleet:
    return ground_of(planned.changes, looking).fleet


def _enqueue(planned: Plan, working: Scope, now: datetime) -> tuple[Queued, ...]:
    """Who was away when a plan was made waits for its turn from the moment when the others have theirs. Returns until
    when; who was in the queue before keeps its time."""
    if not planned.absent:
        return ()
    fleet = ground_of(planned.changes, working).fleet if planned.changes else meet(working, {}, read_states(working))
    owners = {one.name: name for name, hosts in members(working, fleet).items() for one in hosts}
    baselines = working.estate.baselines
    records = working.engines.upkeep.records
    records.enqueue(
        [
            Waiting(
                host=name,
                baseline=owners[name],
                since=now,
                expires_at=now + duration(baselines[owners[name]].offline_for),
            )
            for name in planned.absent
            if name in owners
        ]
    )
    return tuple(Queued(host=one.host, until=one.expires_at) for one in records.waiting() if one.host in planned.absent)


def resume_exactly(
    run_id: str, looking: Scope, working: Scope, tenure: Tenure, *, approvals: Sequence[Approval] = ()
) -> Report:
    """Go on with a run that was begun and not closed, after its inputs, secrets, hosts and approvals were found to hold
    still, and it was not forgotten for longer than its plan was to last.

    Raises ``InputError`` for a run that has ended or is of another environment, ``StalePlan``, ``NotApproved`` and
    ``NotSigned``; hosts that the run had taken out of service are put back then, and nothing else is done.
    """
    run = working.engines.runs.run(run_id)
    if run.state is not RunState.RUNNING:
        rest = f"`ismgr runs show {run.id} --rest FILE` writes the plan of what it left to do."
        raise InputError(
            f"The run {run.id} has ended: it is {run.state}.",
            next_step=rest if run.rest else "Plan again to see what is left to do.",
        )
    _refuse_elsewhere(run, working)
    planned = read(run.plan, f"run {run.id}")
    if told_already(run, working):
        # its evidence is closed: only the ledger is left to be told, and nothing more is done
        return take_up(planned, run, working, tenure)
    try:
        steps = working.engines.journal.steps(run.id)
        changed = inputs_moved(planned, steps, looking)
        changed += moved_meanwhile(planned, run, steps, looking, datetime.now(UTC))
        if changed:
            raise StalePlan(moved=changed)
        allowed = _granted_still(planned, looking, approvals, run)
    except Refused as refusal:
        _leave_nobody_out(refusal, planned, run, working, tenure)
        raise
    _refuse_if_cancelled(working, tenure)
    return take_up(planned, run, working, tenure, allowed)


def _leave_nobody_out(refusal: Refused, planned: Plan, run: Run, working: Scope, tenure: Tenure) -> None:
    """Put back what the run had taken out of service when its process died: an outage must not last until somebody has
    planned again. The refusal says who is back, and who is not."""
    steps = working.engines.journal.steps(run.id)
    begun = {one.unit.key for one in steps if one.outcome is None}
    changes = [one for one in planned.changes if one.key in begun and one.address.kind in (Kind.BASELINE, Kind.MACHINE)]
    if not changes or tenure.lost():
        return
    names = sorted({target.name for one in changes for target in one.targets})
    try:
        ground = ground_of(changes, working)
        drained = [name for name in names if drains(name, ground, working)]
        kept = put_back(drained, ground, working)
    except Exception as problem:  # noqa: BLE001  the refusal itself must be told
        drained, kept = [], dict.fromkeys(names[:1], told(problem, working))
    back = [name for name in drained if name not in kept]
    if back:
        who = f"{', '.join(back)} {'is' if len(back) == 1 else 'are'}"
        refusal.untouched = f"{who} back in service where run {run.id} had drained them; nothing else was touched."
    if kept:
        again = f"`ismgr resume {run.id}` tries again to put back: {'; '.join(kept.values())}."
        refusal.next_step = " ".join(filter(None, [again, refusal.next_step]))


def _granted_still(planned: Plan, looking: Scope, approvals: Sequence[Approval], run: Run) -> Granted:
    try:
        return granted(planned, looking, datetime.now(UTC), approvals, run=run)
    except NotApproved as problem:
        raise NotApproved(
            problem.summary,
            missing=problem.missing,
            next_step=f"`ismgr runs show {run.id} --plan FILE` writes its plan, `ismgr approve FILE` signs it anew, "
            f"and `ismgr resume {run.id} --plan FILE` goes on.",
        ) from None


def _refuse_elsewhere(run: Run, scope: Scope) -> None:
    """One database holds the runs of all environments; the lease that is held is that of one."""
    if (run.estate, run.environment) != (scope.estate.document.name, scope.environment_name):
        raise InputError(
            f"The run {run.id} is of {run.estate} in environment {run.environment}, not {scope.environment_name}.",
            next_step=f"Go on with it with -e {run.environment}.",
        )


def _refuse_if_cancelled(scope: Scope, tenure: Tenure) -> None:
    """Who stops us while we look has touched nothing, and uses no approval up. A lost lease cancels as well, and is
    told by whoever begins."""
    if scope.context.cancelled.is_set() and not tenure.lost():
        raise Cancelled(
            "Stopped before anything was begun.",
            untouched="Nothing was touched.",
            next_step="Run the command again: approvals were not used up.",
        )


def refuse_if_stale(planned: Plan, now: Plan) -> None:
    """Raise ``StalePlan`` naming what moved, when the plan composed now is not the plan that was made."""
    if planned.digest != now.digest:
        raise StalePlan(moved=(*moved(planned, now), *packages_moved(planned, now)))


def refuse_if_errored(plan: Plan) -> None:
    """Raise ``PolicyDenied`` for a plan that a rule of the estate stands against, and ``EngineFailed`` for one that was
    made without seeing all of the world."""
    if plan.refused:
        denied = [one for one in plan.findings if one.level is Level.DENY]
        raise PolicyDenied(f"{'; '.join(one.summary for one in denied)}.", next_step=denied[0].next_step)
    if plan.errored:
        raise EngineFailed(
            "This plan has errors: part of the world could not be looked at.",
            engine="plan",
            untouched="Nothing was touched.",
            next_step="Mend what its findings name, or leave it out with --exclude, and plan again.",
        )


def inputs_moved(planned: Plan, steps: Sequence[StepRecord], scope: Scope) -> tuple[str, ...]:
    """What a plan was made from and is not so any more, as far as it can be told without starting an engine. ``steps``
    are those of the run that goes on with it. Its own work is no change: a stack may be as it was planned on,
    as the run left it, or in the middle of a step that is looked at before anything else is done to it."""
    before = planned.inputs
    found = [
        f"document {path} changed"
        for path in sorted({*before.documents, *scope.documents})
        if before.documents.get(path) != scope.documents.get(path)
    ]
    found += [
        f"content of {name} changed" for name, old in sorted(before.content.items()) if _content(name, scope) != old
    ]
    ours = {str(_address(one.unit.key)): one for one in steps}
    states = read_states(scope)
    for name, old in sorted(before.states.items()):
        state = states.get(Address.parse(name))
        step = ours.get(name)
        expected = {old} if step is None else _left_by(step, old)
        if state is None or (expected and state.state_digest not in expected):
            found.append(f"state of {name} changed{', and not by this run' if steps else ''}")
    return tuple(found)


def _left_by(step: StepRecord, old: str) -> set[str]:
    """What a state may be after a step of ours; empty when nobody can know: it did not end, or failed half-way."""
    if step.outcome is None or (step.outcome.get("touched") and not step.post_state):
        return set()
    return {step.post_state or old}


def _address(key: str) -> Address:
    return Address.parse(key.partition("#")[0])


def _content(name: str, scope: Scope) -> str:
    """Digest of what a plan calls the content of ``name``; empty when there is no such thing any more."""
    text, _, suites = name.partition(" ")
    address = Address.parse(text)
    if suites:
        return suites_content(scope, address.name) if address.name in scope.estate.groups else ""
    known: Mapping[str, object]
    if address.kind is Kind.STACK:
        known, content = scope.estate.stacks, stack_content
    elif address.kind is Kind.BASELINE:
        known, content = scope.estate.baselines, baseline_content
    elif address.kind is Kind.RECOVERY:
        known, content = scope.estate.recoveries, recovery_content
    else:
        known, content = scope.estate.groups, group_content
    return content(scope, address.name) if address.name in known else ""


def _with_sidecars(planned: Plan, again: Plan) -> Plan:
    """The plan with an update plan for every stack: the signed one, or where the file had none that of the look just
    made, which has the same digest."""
    sidecars = {**again.beside.sidecars, **planned.beside.sidecars}
    # what was noticed by the second look is what goes on record
    return replace(planned, beside=replace(planned.beside, sidecars=sidecars), findings=again.findings)
