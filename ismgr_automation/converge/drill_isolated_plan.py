"""Planning a drill in isolation: which clone would be tried where, in which steps, and what stands against it. The
cluster is looked at, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from ismgr_automation.converge.bubble_field import BubbleField, bubble_of
from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_planned import Rehearsal, planned
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import recovery
from ismgr_automation.core.json import Json
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.change import Action, Finding, Level, Step
from ismgr_automation.planning.plan import URGENT, Plan
from ismgr_automation.ports.upkeep import ClusterMember, Part
from ismgr_automation.recovery import isolated


def plan_isolated(scope: Scope, now: datetime, name: str, *, urgent: str = "") -> Plan:
    """What a drill in isolation would do. Raises ``InputError`` as ``field_of`` and ``bubble_of`` do."""
    ground = whole_ground(scope)
    field = field_of(scope, ground, name)
    where = bubble_of(scope, ground, field)
    seen = scope.engines.upkeep.cluster.members(field.cluster, scope.context)
    against = tuple(_against(field, where, seen))
    rehearsal = Rehearsal(
        name=name,
        mode=DrillMode.ISOLATED,
        steps=tuple(_steps(where)),
        hosts=where.hosts,
        findings=against,
        said={URGENT: urgent},
    )
    return planned(rehearsal, scope, ground, now)


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
