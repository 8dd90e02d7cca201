"""Soaking: a wave must have been well for a while, and its checks must pass again, before the next one begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.ground import Ground, ground_of
from ismgr_automation.converge.outcomefile import read_outcome
from ismgr_automation.converge.prepared import prepared
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import with_present_primary
from ismgr_automation.converge.timing import asked_by, ring_soak
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.events import SoakFinished, SoakStarted
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Change
from ismgr_automation.ports.runs import Round, StepRecord
from ismgr_automation.ports.verification import CheckResult


def soak(known: Round, wave: Sequence[Change], run: str, scope: Scope) -> str:
    """Wait until the earlier batches of the wave's groups and baselines have soaked, then verify their hosts again.
    Says what did not stay well, or nothing. Ends early when somebody cancels."""
    said = [_soak(owner, one, known, run, scope) for owner, one in _later_batches(wave)]
    return "; ".join(one for one in said if one)


def _later_batches(wave: Sequence[Change]) -> list[tuple[Address, Change]]:
    """A change of each group or baseline that is not at its first batch. Firmware is in the batches of its baseline."""
    kinds = (Kind.GROUP, Kind.BASELINE, Kind.MACHINE)
    first = {asked_by(one): one for one in reversed(wave) if one.address.kind in kinds and one.batch > 1}
    return [(owner, first[owner]) for owner in sorted(first)]


def _soak(owner: Address, change: Change, known: Round, run: str, scope: Scope) -> str:
    earlier = [one.change for one in map(prepared, known.changes)]
    earlier = [one for one in earlier if one.batch < change.batch and asked_by(one) == owner]
    is_group = owner.kind is Kind.GROUP
    span = duration(scope.estate.groups[owner.name].soak) if is_group else ring_soak(change, earlier, scope)
    if not span:
        return ""
    keys = {one.key for one in earlier}
    steps = [one for one in scope.engines.journal.steps(run) if one.unit.round == known.number and one.unit.key in keys]
    _wait(owner, span, steps, scope)
    if scope.context.cancelled.is_set():
        return ""
    troubled = {host for one in steps if one.outcome is not None for host in read_outcome(one.outcome).troubled}
    hosts = [target.name for one in earlier for target in one.targets if target.name not in troubled]
    ground = ground_of([change], scope)
    groups = [owner.name] if is_group else sorted(scope.estate.groups)
    bad = [
        one
        for group in groups
        if (mine := [name for name in hosts if name in ground.fleet.membership[group]])
        for one in failed_checks(_checks(group, mine, ground, scope, patched=not is_group))
    ]
    scope.context.emit(SoakFinished(subject=owner))
    if not bad:
        return ""
    return f"{owner} did not stay well for {span.total_seconds():g} s: {bad[0].check} on {bad[0].host}"


def _checks(group: str, hosts: Sequence[str], ground: Ground, scope: Scope, *, patched: bool) -> Sequence[CheckResult]:
    told = with_present_primary(group, ground, scope) if patched else scope
    return verify_group(told, group, ground.fleet, ground.states, hosts)


def _wait(owner: Address, span: timedelta, steps: Sequence[StepRecord], scope: Scope) -> None:
    ends = [one.finished_at for one in steps if one.finished_at is not None]
    # the journal's times outlive this process: a run that goes on does not soak twice
    left = (max(ends) + span - datetime.now(UTC)).total_seconds() if ends else 0.0
    if left <= 0:
        return
    scope.context.emit(SoakStarted(subject=owner, seconds=left))
    scope.context.cancelled.wait(left)
