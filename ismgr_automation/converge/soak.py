"""Soaking: a wave must have been well for a while, and its checks must pass again, before the next one begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.ground import ground_of
from ismgr_automation.converge.outcomefile import read_outcome
from ismgr_automation.converge.prepared import prepared
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.address import Kind
from ismgr_automation.core.events import SoakFinished, SoakStarted
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Change
from ismgr_automation.ports.runs import Round, StepRecord


def soak(known: Round, wave: Sequence[Change], run: str, scope: Scope) -> str:
    """Wait until the earlier batches of the wave's groups have soaked, then verify their hosts again. Says what did not
    stay well, or nothing. Ends early when somebody cancels."""
    said = [_soak(one, known, run, scope) for one in _later_batches(wave)]
    return "; ".join(one for one in said if one)


def _later_batches(wave: Sequence[Change]) -> list[Change]:
    first = {one.address: one for one in reversed(wave) if one.address.kind is Kind.GROUP and one.batch > 1}
    return [first[address] for address in sorted(first)]


def _soak(change: Change, known: Round, run: str, scope: Scope) -> str:
    span = duration(scope.estate.groups[change.address.name].soak)
    if not span:
        return ""
    earlier = [one.change for one in map(prepared, known.changes)]
    earlier = [one for one in earlier if one.address == change.address and one.batch < change.batch]
    keys = {one.key for one in earlier}
    steps = [one for one in scope.engines.journal.steps(run) if one.unit.round == known.number and one.unit.key in keys]
    _wait(change, span, steps, scope)
    if scope.context.cancelled.is_set():
        return ""
    troubled = {host for one in steps if one.outcome is not None for host in read_outcome(one.outcome).troubled}
    hosts = [target.name for one in earlier for target in one.targets if target.name not in troubled]
    ground = ground_of([change], scope)
    bad = failed_checks(verify_group(scope, change.address.name, ground.fleet, ground.states, hosts))
    scope.context.emit(SoakFinished(subject=change.address))
    if not bad:
        return ""
    return f"{change.address} did not stay well for {span.total_seconds():g} s: {bad[0].check} on {bad[0].host}"


def _wait(change: Change, span: timedelta, steps: Sequence[StepRecord], scope: Scope) -> None:
    ends = [one.finished_at for one in steps if one.finished_at is not None]
    # the journal's times outlive this process: a run that goes on does not soak twice
    left = (max(ends) + span - datetime.now(UTC)).total_seconds() if ends else 0.0
    if left <= 0:
        return
    scope.context.emit(SoakStarted(subject=change.address, seconds=left))
    scope.context.cancelled.wait(left)
