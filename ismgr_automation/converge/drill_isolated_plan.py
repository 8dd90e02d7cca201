"""Planning a drill in isolation: which clone would be tried where, in which steps, and what stands against it. The
cluster is looked at, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from ismgr_automation.converge.bubble_field import BubbleField, bubble_of
from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.plan import announce, beside
from ismgr_automation.converge.requests import policies_content, recovery_content
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.timing import told_of_time
from ismgr_automation.core.address import host, recovery
from ismgr_automation.core.json import Json
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.change import Action, Change, Finding, Level, Reason, Step
from ismgr_automation.planning.plan import MODE, URGENT, Inputs, Plan, Purpose
from ismgr_automation.ports.upkeep import ClusterMember, Part
from ismgr_automation.recovery import isolated


def plan_isolated(scope: Scope, now: datetime, name: str, *, urgent: str = "") -> Plan:
    """What a drill in isolation would do. Raises ``InputError`` as ``field_of`` and ``bubble_of`` do."""
    ground = whole_ground(scope)
    field = field_of(scope, ground, name)
    where = bubble_of(scope, ground, field)
    seen = scope.engines.upkeep.cluster.members(field.cluster, scope.context)
    against = tuple(_against(field, where, seen))
    address = recovery(name)
    change = Change(
        address=address,
        part=0,
        action=Action.CONFIGURE,
        reason=Reason.ASKED,
        steps=tuple(_steps(where)),
        targets=tuple(map(host, sorted(where.hosts))),
        inputs=recovery_content(scope, name),
    )
    composed = Plan(
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        purpose=Purpose.DRILL,
        inputs=Inputs(
            documents=scope.documents,
            content={str(address): change.inputs},
            inventory=ground.fleet.digest,
            states={},
            engines={},
            selection=scope.selection.texts(),
            policies={
                **policies_content(scope),
                MODE: DrillMode.ISOLATED,
                **({URGENT: urgent} if urgent else {}),
            },
        ),
        changes=(change,),
        waves=((change.key,),),
        deferred=(),
        drift=(),
        findings=against,
        complete=True,
        errored=bool(against),
        beside=beside(scope, now),
    )
    composed = told_of_time(composed, scope, ground.fleet, now)
    announce(scope, composed)
    return composed


def _steps(where: BubbleField) -> Iterator[Step]:
    gateways = ", ".join(where.bubble.gateways)
    for step in isolated.Step:
        at_gateways = step in {isolated.Step.ISOLATE, isolated.Step.OPEN}
        after: dict[str, Json] = {"do": str(step)}
        match step:
            case isolated.Step.ISOLATE | isolated.Step.OPEN:
                after["network"] = where.bubble.network
            case isolated.Step.PROVE:
                after["places"] = list(where.bubble.places)
            case isolated.Step.CLONE:
                after |= {"source": where.clone.source, "port": where.clone.port}
            case isolated.Step.CHECK:
                after["checks"] = [one.model_dump(mode="json") for one in where.document.checks]
                after["verify"] = list(where.document.verify)
            case isolated.Step.PROMOTE | isolated.Step.REMOVE:
                pass
        yield Step(
            target=gateways if at_gateways else where.clone.spare,
            what=f"{isolated.LEG}: {step}",
            action=Action.CONFIGURE,
            why=isolated.WORDS[step],
            before=None,
            after=after,
        )


def _against(field: Field, where: BubbleField, seen: Sequence[ClusterMember]) -> Iterator[Finding]:
    """What is copied must be what clients would be given: a standby that streams, or the one primary."""
    by_host = {one.host: one for one in seen}
    primaries = sorted(one.host for one in seen if one.part is Part.PRIMARY)
    source = by_host.get(where.clone.source)
    if primaries != [field.sides.old]:
        words = f"{' and '.join(primaries) or 'nobody'} has the primary role, and not {field.sides.old} alone"
        yield _deny(field, words, "`ismgr drill return` brings the service home.")
    elif source is None or (source.host != field.sides.old and not (source.part is Part.STANDBY and source.streaming)):
        words = (source.detail or str(source.part)) if source is not None else "not seen"
        yield _deny(field, f"{where.clone.source} does not stream from {field.sides.old}: {words}", "Mend it first.")


def _deny(field: Field, summary: str, next_step: str) -> Finding:
    subject = recovery(field.document.name)
    return Finding(level=Level.DENY, subject=subject, summary=summary, next_step=next_step, refuses=True)
