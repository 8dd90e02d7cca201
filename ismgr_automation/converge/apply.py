"""Doing what a plan says: wave by wave, round by round, with verification as the gate. Nothing is undone silently."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ismgr_automation.converge.observe import meet, read_states
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.release import release
from ismgr_automation.converge.report import Fate, Outcome, Report, failed_checks
from ismgr_automation.converge.requests import playbook_request, stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import Cancelled, EngineError, EngineTimedOut
from ismgr_automation.core.events import ChangeFinished, ChangeStarted, RoundStarted, WaveFinished, WaveStarted
from ismgr_automation.planning.change import Change
from ismgr_automation.planning.compose import waves
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.graph import graph_of
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.hosts import PlaybookResult, Status
from ismgr_automation.ports.stacks import StackState
from ismgr_automation.ports.verification import CheckResult


@dataclass(slots=True, kw_only=True)
class _Run:
    """What has happened so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    stopped: str = ""
    rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """The world as states tell of it at the beginning of a wave."""

    states: Mapping[Address, StackState]
    fleet: Fleet


def apply(plan: Plan, scope: Scope) -> Report:
    """Apply the plan: first what was previewed, then in rounds what had been deferred, inside its envelopes.

    A wave begins only when everything before it landed and its checks passed. The caller has made sure that the plan
    is not stale.
    """
    began = time.monotonic()
    run = _Run()
    graph = graph_of(scope.estate)
    _round(plan.changes, plan.waves, scope, run)
    waiting = list(plan.deferred)
    while waiting and not _over(run, scope):
        released = release(waiting, scope, graph)
        if released.stop:
            run.stopped = released.stop
            break
        waiting = list(released.waiting)
        _round(released.changes, waves(released.changes, graph), scope, run)
    return Report(
        digest=plan.digest,
        outcomes=tuple(run.outcomes),
        checks=tuple(run.checks),
        rounds=run.rounds,
        seconds=time.monotonic() - began,
        stopped=run.stopped,
        cancelled=scope.context.cancelled.is_set(),
        waiting=tuple(waiting) if run.stopped or scope.context.cancelled.is_set() else (),
    )


def _over(run: _Run, scope: Scope) -> bool:
    return bool(run.stopped) or scope.context.cancelled.is_set()


def _round(changes: Sequence[Change], ordered: Sequence[Sequence[str]], scope: Scope, run: _Run) -> None:
    if not changes:
        return
    run.rounds += 1
    scope.context.emit(RoundStarted(round=run.rounds, waves=len(ordered), changes=len(changes)))
    by_key = {one.key: one for one in changes}
    for number, keys in enumerate(ordered, start=1):
        wave = [by_key[key] for key in keys]
        if _over(run, scope):
            run.outcomes += [Outcome(key=one.key, address=one.address, fate=Fate.NOT_STARTED) for one in wave]
            continue
        scope.context.emit(WaveStarted(wave=number, addresses=tuple(one.address for one in wave)))
        failed = _wave(wave, scope, run)
        scope.context.emit(WaveFinished(wave=number, failed=failed))
    if not _over(run, scope):
        _remember(changes, scope)


def _wave(wave: Sequence[Change], scope: Scope, run: _Run) -> int:
    states = read_states(scope)
    needs_hosts = any(one.address.kind is Kind.GROUP for one in wave)
    fleet = meet(scope, {}, states) if needs_hosts else Fleet(sightings=(), membership={}, unbounded=())
    ground = _Ground(states=states, fleet=fleet)
    found = each(wave, lambda change: _change(change, ground, scope), workers=scope.workers)
    for outcome, checks in found:
        run.outcomes.append(outcome)
        run.checks += checks
    failed = [outcome for outcome, _ in found if outcome.fate is not Fate.LANDED]
    if failed and not run.stopped:
        run.stopped = "; ".join(f"{one.key} {one.fate}: {one.summary}" for one in failed)
    return len(failed)


def _change(change: Change, ground: _Ground, scope: Scope) -> tuple[Outcome, tuple[CheckResult, ...]]:
    """Apply one change and, for hosts, verify them. Engine errors become the outcome of this change."""
    scope.context.emit(ChangeStarted(subject=change.address, action=str(change.action), targets=change.targets))
    began = time.monotonic()
    checks: tuple[CheckResult, ...] = ()
    try:
        if change.address.kind is Kind.STACK:
            outcome = _stack(change, ground, scope)
        else:
            outcome, checks = _hosts(change, ground, scope)
    except (EngineTimedOut, Cancelled) as problem:
        outcome = _outcome(change, Fate.UNKNOWN, summary=problem.summary, touched=True)
    except EngineError as problem:
        outcome = _outcome(change, Fate.FAILED, summary=_words(problem))
    outcome = replace(outcome, seconds=time.monotonic() - began)
    scope.context.emit(
        ChangeFinished(
            subject=change.address,
            outcome=str(outcome.fate),
            changed=outcome.changed,
            seconds=outcome.seconds,
            summary=outcome.summary,
        )
    )
    return outcome, checks


def _words(problem: EngineError) -> str:
    return " ".join(part for part in (problem.summary, problem.detail, problem.next_step) if part)


def _outcome(change: Change, fate: Fate, *, changed: int = 0, summary: str = "", touched: bool = False) -> Outcome:
    return Outcome(key=change.key, address=change.address, fate=fate, changed=changed, summary=summary, touched=touched)


def _stack(change: Change, ground: _Ground, scope: Scope) -> Outcome:
    state = ground.states[change.address]
    if change.precondition and state.state_digest != change.precondition:
        return _outcome(change, Fate.FAILED, summary="somebody wrote to its state since it was planned")
    result = scope.engines.stacks.up(stack_request(scope, change.address.name), scope.context)
    if result.failed:
        words = "; ".join(result.failed)
        return _outcome(change, Fate.FAILED, changed=len(result.steps), summary=words, touched=True)
    return _outcome(change, Fate.LANDED, changed=len(result.steps))


def _hosts(change: Change, ground: _Ground, scope: Scope) -> tuple[Outcome, tuple[CheckResult, ...]]:
    name = change.address.name
    limit = [one.name for one in change.targets]
    fleet, states = ground.fleet, ground.states
    request = playbook_request(scope, name, fleet, limit, states)
    result = scope.engines.playbooks.run(request, scope.context)
    changed = sum(counts.get(Status.CHANGED, 0) for counts in result.counts.values())
    trouble = _trouble(result)
    if trouble:
        return _outcome(change, Fate.FAILED, changed=changed, summary=trouble, touched=True), ()
    checks = verify_group(scope, name, fleet, states, limit)
    bad = failed_checks(checks)
    if bad:
        words = f"{len(bad)} of {len(checks)} checks did not pass, first {bad[0].check} on {bad[0].host}"
        return _outcome(change, Fate.FAILED, changed=changed, summary=words, touched=True), checks
    return _outcome(change, Fate.LANDED, changed=changed), checks


def _trouble(result: PlaybookResult) -> str:
    lost = [f"{one.host} unreachable ({one.reach})" for one in result.unreachable]
    broken = []
    for host in result.failed:
        last = [one for one in result.tasks if one.host == host and one.status is Status.FAILED]
        broken.append(f"{host} failed at {last[-1].task!r}: {last[-1].message}" if last else f"{host} failed")
    return "; ".join([*lost, *broken])


def _remember(changes: Sequence[Change], scope: Scope) -> None:
    commit = scope.tree.revision.commit
    for address, inputs in {one.address: one.inputs for one in changes}.items():
        scope.engines.ledger.record(address, inputs, commit)
