"""A drill's plan as a value, whatever its mode: one change of one RecoveryPlan, bound by all that it rests on. Looks at
nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.plan import announce, beside
from ismgr_automation.converge.requests import policies_content, recovery_content
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.timing import told_of_time
from ismgr_automation.core.address import host, recovery
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.change import Action, Change, Finding, Reason, Step
from ismgr_automation.planning.plan import MODE, Inputs, Plan, Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a drill of the RecoveryPlan ``name`` would do, on which hosts. ``said`` is what its caller asked for besides
    the mode; ``idle`` that there is nothing to do."""

    name: str
    mode: DrillMode
    steps: tuple[Step, ...]
    hosts: Iterable[str]
    findings: tuple[Finding, ...]
    said: Mapping[str, str]
    idle: bool = False


def planned(wanted: Rehearsal, scope: Scope, ground: Ground, now: datetime) -> Plan:
    """The plan, with what is said of its time, announced to whoever watches."""
    change = Change(
        address=recovery(wanted.name),
        part=0,
        action=Action.CONFIGURE,
        reason=Reason.ASKED,
        steps=wanted.steps,
        targets=tuple(map(host, sorted(wanted.hosts))),
        inputs=recovery_content(scope, wanted.name),
    )
    asked = {name: value for name, value in wanted.said.items() if value}
    composed = Plan(
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        purpose=Purpose.DRILL,
        inputs=Inputs(
            documents=scope.documents,
            content={str(change.address): change.inputs},
            inventory=ground.fleet.digest,
            states={},
            engines={},
            selection=scope.selection.texts(),
            policies={**policies_content(scope), MODE: wanted.mode, **asked},
        ),
        changes=() if wanted.idle else (change,),
        waves=() if wanted.idle else ((change.key,),),
        deferred=(),
        drift=(),
        findings=wanted.findings,
        complete=True,
        errored=any(one.refuses for one in wanted.findings),
        beside=beside(scope, now),
    )
    composed = told_of_time(composed, scope, ground.fleet, now)
    announce(scope, composed)
    return composed
