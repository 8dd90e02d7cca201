"""Doing what a plan says: wave by wave, round by round, with verification as the gate. Nothing is undone silently."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.converge.fleet import await_hosts, meet, unreachable
from ismgr_automation.converge.outcome import Done, Interrupted, carry_out, told
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.release import Released, release
from ismgr_automation.converge.report import Fate, Outcome, Report, failed_checks
from ismgr_automation.converge.requests import playbook_request, stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stacks import read_states, state_moved
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import EngineError, EngineMissing, IsmgrError
from ismgr_automation.core.events import RoundStarted, WaveFinished, WaveStarted
from ismgr_automation.planning.change import Change, Deferred
from ismgr_automation.planning.fleet import Fleet
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
    is not stale. Once a wave has begun nothing is raised: the report says what landed, what did not, and why.
    """
    began = time.monotonic()
    run = _Run()
    _round(plan.changes, plan.waves, scope, run)
    waiting: tuple[Deferred, ...] = plan.deferred
    while waiting and not _over(run, scope):
        released = _release(waiting, scope)
        waiting, run.stopped = released.waiting, released.stop
        if not run.stopped:
            _round(released.changes, released.waves, scope, run)
    undone = bool(waiting) or any(one.fate is not Fate.LANDED for one in run.outcomes)
    return Report(
        digest=plan.digest,
        outcomes=tuple(run.outcomes),
        checks=tuple(run.checks),
        rounds=run.rounds,
        seconds=time.monotonic() - began,
        stopped=run.stopped,
        # who cancels when all is done comes too late
        cancelled=undone and scope.context.cancelled.is_set(),
        waiting=waiting,
    )


def _release(waiting: tuple[Deferred, ...], scope: Scope) -> Released:
    try:
        return release(waiting, scope)
    except Exception as problem:  # noqa: BLE001  what landed in earlier rounds must be told
        return Released(waiting=waiting, stop=told(problem, scope))


def _over(run: _Run, scope: Scope) -> bool:
    return bool(run.stopped) or scope.context.cancelled.is_set()


def _round(changes: Sequence[Change], ordered: Sequence[Sequence[str]], scope: Scope, run: _Run) -> None:
    if not changes:
        return
    run.rounds += 1
    before = len(run.outcomes)
    scope.context.emit(RoundStarted(round=run.rounds, waves=len(ordered), changes=len(changes)))
    by_key = {one.key: one for one in changes}
    for number, keys in enumerate(ordered, start=1):
        wave = [by_key[key] for key in keys]
        ground = None if _over(run, scope) else _look(wave, scope, run)
        if ground is None:
            run.outcomes += [Outcome(key=one.key, address=one.address, fate=Fate.NOT_STARTED) for one in wave]
            continue
        scope.context.emit(WaveStarted(wave=number, addresses=tuple(one.address for one in wave)))
        # between rounds everybody was waited for
        moved = frozenset(one.address for one in run.outcomes[before:] if one.touched)
        failed = _wave(wave, ground, scope, run, moved)
        _remember(changes, wave, ground, scope, run)
        scope.context.emit(WaveFinished(wave=number, failed=failed))


def _look(wave: Sequence[Change], scope: Scope, run: _Run) -> _Ground | None:
    """The ground of a wave, or None when it cannot be seen, which stops the run."""
    try:
        states = read_states(scope)
        needs_hosts = any(one.address.kind is Kind.GROUP for one in wave)
        fleet = meet(scope, {}, states) if needs_hosts else Fleet(sightings=(), membership={}, unbounded=())
    except Exception as problem:  # noqa: BLE001  what landed in earlier waves must be told
        run.stopped = told(problem, scope)
        return None
    return _Ground(states=states, fleet=fleet)


def _wave(wave: Sequence[Change], ground: _Ground, scope: Scope, run: _Run, moved: frozenset[Address]) -> int:
    found = each(wave, lambda change: _change(change, ground, scope, moved), workers=scope.workers)
    for outcome, checks in found:
        run.outcomes.append(outcome)
        run.checks += checks
    failed = [outcome for outcome, _ in found if outcome.fate in (Fate.FAILED, Fate.UNKNOWN)]
    if failed and not run.stopped:
        run.stopped = "; ".join(f"{one.key} {one.fate}: {one.summary}" for one in failed)
    return len(failed)


def _change(
    change: Change, ground: _Ground, scope: Scope, moved: frozenset[Address]
) -> tuple[Outcome, tuple[CheckResult, ...]]:
    if change.address.kind is Kind.STACK:
        before = ground.states[change.address]
        return carry_out(
            change,
            scope,
            lambda: _stack(change, before, scope),
            lambda _problem: state_moved(change.address, before.state_digest, scope),
        )
    return carry_out(change, scope, lambda: _hosts(change, ground, scope, moved), _may_have_touched)


def _may_have_touched(problem: Exception) -> bool:
    """Whether a failed playbook run may have changed hosts: an engine that never began says so."""
    if isinstance(problem, EngineError):
        return not problem.untouched and not isinstance(problem, EngineMissing)
    return not isinstance(problem, IsmgrError)


def _stack(change: Change, before: StackState, scope: Scope) -> Done:
    if change.precondition and before.state_digest != change.precondition:
        return Done(trouble="somebody wrote to its state since it was planned", touched=False)
    result = scope.engines.stacks.up(stack_request(scope, change.address.name), scope.context)
    return Done(changed=len(result.steps), trouble="; ".join(result.failed))


def _hosts(change: Change, ground: _Ground, scope: Scope, moved: frozenset[Address]) -> Done:
    name, fleet, states = change.address.name, ground.fleet, ground.states
    limit = [one.name for one in change.targets]
    lost = _not_there(change, limit, fleet, scope, moved)
    if lost:
        return Done(trouble=lost, touched=False)
    result = scope.engines.playbooks.run(playbook_request(scope, name, fleet, limit, states), scope.context)
    changed = sum(counts.get(Status.CHANGED, 0) for counts in result.counts.values())
    trouble = _trouble(result)
    if trouble:
        return Done(changed=changed, trouble=trouble, touched=bool(changed or result.failed))
    try:
        checks = verify_group(scope, name, fleet, states, limit)
    except Exception as problem:
        raise Interrupted(changed) from problem
    bad = failed_checks(checks)
    words = f"{len(bad)} of {len(checks)} checks did not pass, first {bad[0].check} on {bad[0].host}" if bad else ""
    return Done(changed=changed, trouble=words, checks=checks)


def _not_there(change: Change, limit: Sequence[str], fleet: Fleet, scope: Scope, moved: frozenset[Address]) -> str:
    """Why the planned hosts cannot be worked on. A stack that has just changed may have rebooted its hosts: wait."""
    gone = sorted(set(limit) - set(fleet.membership[change.address.name]))
    if gone:
        return f"{', '.join(gone)} no longer belong{'s' * (len(gone) == 1)} to {change.address}"
    if not fleet.makers[change.address] & moved:
        return ""
    found = await_hosts(scope, [one for one in fleet.hosts if one.name in limit], fleet)
    return "; ".join(unreachable(found))


def _trouble(result: PlaybookResult) -> str:
    lost = [f"{one.host} unreachable ({one.reach})" for one in result.unreachable]
    broken = []
    for host in result.failed:
        last = [one for one in result.tasks if one.host == host and one.status is Status.FAILED]
        broken.append(f"{host} failed at {last[-1].task!r}: {last[-1].message}" if last else f"{host} failed")
    return "; ".join([*lost, *broken])


def _remember(changes: Sequence[Change], wave: Sequence[Change], ground: _Ground, scope: Scope, run: _Run) -> None:
    """Record what is applied now: addresses of this wave all of whose parts have landed, on all of their hosts."""
    landed = {one.key for one in run.outcomes if one.fate is Fate.LANDED}
    for address, inputs in {one.address: one.inputs for one in wave}.items():
        whole = all(one.key in landed for one in changes if one.address == address)
        everybody = ground.fleet.membership.get(address.name, ()) if address.kind is Kind.GROUP else ()
        if not whole or not all(map(scope.selection.takes_host, everybody)):
            continue
        try:
            scope.engines.ledger.record(address, inputs, scope.tree.revision.commit)
        except Exception as problem:  # noqa: BLE001  what landed must be told
            run.stopped = run.stopped or f"what landed could not be recorded: {told(problem, scope)}"
