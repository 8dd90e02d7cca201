"""Refusals on record: a plan that somebody made, perhaps signed, and that was not applied. Only whoever holds the lease
writes, and a refusal is raised whatever becomes of its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ismgr_automation.converge.outcome import told
from ismgr_automation.converge.run import Tenure, new_name
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import Refused
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.evidence.entries import RunRefused
from ismgr_automation.planning.plan import Plan


@contextmanager
def refusals_on_record(plan: Plan, scope: Scope, tenure: Tenure) -> Iterator[None]:
    """Write a refusal that comes out of the block into the evidence, and let it go on."""
    try:
        yield
    except Refused as refusal:
        # without a lease somebody else may be writing
        if not tenure.lost():
            _record(plan, refusal, scope, tenure)
        raise


def _record(plan: Plan, refusal: Refused, scope: Scope, tenure: Tenure) -> None:
    entry = RunRefused(
        estate=plan.estate,
        digest=plan.digest,
        reason=refusal.reason,
        summary=refusal.summary,
        holder=tenure.lease.holder,
    )
    try:
        recorder = scope.engines.evidence(new_name(datetime.now(UTC)))
        try:
            recorder.write(entry)
        finally:
            recorder.abandon()
    except Exception as problem:  # noqa: BLE001  the refusal itself must be told
        scope.context.emit(OutputSeen(subject=None, text=f"the refusal is not on record: {told(problem, scope)}"))
