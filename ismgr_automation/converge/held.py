"""Working under a lease that is held: planning, applying, resuming. The lease itself is kept by ``runs.keeper``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from ismgr_automation.converge.contract import apply_exactly, resume_exactly
from ismgr_automation.converge.looked import Looked
from ismgr_automation.converge.refused import refusals_on_record
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.run import Tenure, refuse_if_lost
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import Cancelled
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.approvals import Approval
from ismgr_automation.ports.leases import Lease
from ismgr_automation.ports.runs import Run
from ismgr_automation.runs.keeper import Kept, clock_ns

Names = Sequence[str | Address]
"""Addresses, or their texts: ``stack/NAME``, ``group/NAME``, ``host/NAME``."""

Pair = tuple[Scope, Scope]
"""One wired to look, one wired to work."""


class Planner(Protocol):
    """An estate at one revision."""

    def plan(self, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """What would have to change."""
        ...

    def plan_patch(self, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """Which packages and firmware would move."""
        ...

    def plan_rollback(self, run: str, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """What goes back to the versions before a run."""
        ...

    def plan_drill(self, name: str, mode: DrillMode, *, urgent: str = "", fault: str = "") -> Plan:
        """What a drill would do."""
        ...

    def plan_destroy(self, targets: Names = (), excludes: Names = ()) -> Plan:
        """What deletes the selected stacks."""
        ...

    def run(self, run: str) -> Run:
        """What is recorded of a run."""
        ...


class Held:
    """An environment whose lease is ours, while the ``with`` of ``Estate.hold`` lasts. What is planned under it may
    be applied without another look, once and at once: nobody else applies meanwhile."""

    def __init__(self, estate: Planner, kept: Kept, scopes: Callable[[Plan], AbstractContextManager[Pair]]) -> None:
        self._estate = estate
        self._kept = kept
        self._scopes = scopes
        self._composed = Looked()

    @property
    def lease(self) -> Lease:
        """The lease, with its fencing token."""
        return self._kept.lease

    def plan(self, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """Plan under the lease."""
        with self._told_apart():
            return self._known(self._estate.plan(targets, excludes, urgent=urgent))

    def plan_patch(self, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """Plan patches under the lease."""
        with self._told_apart():
            return self._known(self._estate.plan_patch(targets, excludes, urgent=urgent))

    def plan_rollback(self, run: str, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """Plan the way back from a run under the lease."""
        with self._told_apart():
            return self._known(self._estate.plan_rollback(run, targets, excludes, urgent=urgent))

    def plan_drill(self, name: str, mode: DrillMode, *, urgent: str = "", fault: str = "") -> Plan:
        """Plan a drill under the lease."""
        with self._told_apart():
            return self._known(self._estate.plan_drill(name, mode, urgent=urgent, fault=fault))

    def plan_destroy(self, targets: Names = (), excludes: Names = ()) -> Plan:
        """Plan to delete stacks under the lease."""
        with self._told_apart():
            return self._known(self._estate.plan_destroy(targets, excludes))

    def apply(self, plan: Plan, *, approvals: Sequence[Approval] = ()) -> Report:
        """Apply a plan. Everything is looked at again first, but for a plan that was made under this lease less than a
        minute ago: a lease does not keep people from hosts while somebody reads a plan."""
        composed, self._composed = self._composed.covers(plan.digest), Looked()
        with (
            self._told_apart(),
            self._scopes(plan) as (looking, working),
            nullcontext() if composed else refusals_on_record(plan, working, self.tenure),
        ):
            return apply_exactly(plan, looking, working, self.tenure, composed=composed, approvals=approvals)

    def resume(self, run: str, *, approvals: Sequence[Approval] = ()) -> Report:
        """Go on with a run whose process died."""
        planned = read(self._estate.run(run).plan, f"run {run}")
        with self._told_apart(), self._scopes(planned) as (looking, working):
            return resume_exactly(run, looking, working, self.tenure, approvals=approvals)

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """A lost lease stops engines as somebody's wish does; whoever is stopped must hear which of them it was."""
        try:
            yield
        except Cancelled:
            refuse_if_lost(self.tenure)
            raise

    def _known(self, plan: Plan) -> Plan:
        self._composed = Looked.now([plan.digest])
        return plan

    @property
    def tenure(self) -> Tenure:
        """The lease, and whether it is still ours."""
        return Tenure(lease=self._kept.lease, lost=self._lost)

    def _lost(self) -> str:
        """Why the lease is ours no longer. The clock is asked as well: who wakes up from a pause was told nothing."""
        kept = self._kept
        over = kept.lost.is_set() or clock_ns() >= kept.until_ns
        return f"the lease was lost: {kept.why or 'its time was over'}" if over else ""
