"""The end of a drill: its result from what was written down, kept for ever, and as the outcome of its change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ismgr_automation.converge.drill_fault import planned_fault
from ismgr_automation.converge.drill_particulars import described
from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import EngineError
from ismgr_automation.core.events import DrillMeasured
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Step
from ismgr_automation.recovery.result import DrillResult, Goals, TaskResult, Verdict, result_json
from ismgr_automation.recovery.telling import Record, Told, moved_home, tell
from ismgr_automation.recovery.verdict import Judgement, Measured, judge

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A drill that has ended."""

    verdict: Verdict
    done: Done


def told_drill(drill: Drill) -> Ended:
    """Measure, judge, keep and tell."""
    told = tell(
        Record(
            entries=drill.notes.journal.entries(),
            legs=drill.legs,
            attempts=drill.attempts,
            every=drill.request.every,
            held=drill.held,
            fault=planned_fault(drill.work.change, drill.field.document),
        )
    )
    result = _result(drill, told)
    kept = keep(drill, result)
    trouble = "; ".join(filter(None, [*_trouble(drill, result), kept]))
    return Ended(
        verdict=result.verdict,
        done=Done(
            changed=sum(one.ok and not one.found for one in told.tasks),
            trouble=trouble,
            touched=drill.touched,
            stops=bool(drill.trouble),
            applied=_applied(drill, told.tasks),
            troubled=(drill.field.sides.old,) if drill.trouble else (),
        ),
    )


def goals_of(document: RecoveryPlan, mode: DrillMode, scope: Scope) -> Goals:
    """What a drill must reach: the objectives of the recovery plan, or of its service where it has none of its own; of
    a restore those of the backup."""
    own, promised = document.objectives, scope.estate.services[document.service].objectives
    match mode:
        case DrillMode.RESTORE:
            backup = document.backup
            rto, rpo = (backup.rto, backup.fresh) if backup is not None else (None, None)
        case DrillMode.SWITCHOVER | DrillMode.FAILOVER | DrillMode.RETURN | DrillMode.ISOLATED:
            rto, rpo = own.rto or promised.rto, own.rpo or promised.rpo
    return Goals(rto=_seconds(rto), rpo=_seconds(rpo), mtd=_seconds(own.mtd))


def _result(drill: Drill, told: Told) -> DrillResult:
    ended = datetime.now(UTC)
    sides = drill.field.sides
    goals, nothing = goals_of(drill.field.document, drill.work.mode, drill.scope), drill.work.mode is DrillMode.RETURN
    judged = judge(
        Measured(
            goals=Goals(rto=None, rpo=goals.rpo) if nothing else goals,
            outages=told.outages,
            writes=told.writes,
            tasks=told.tasks,
            unsteady=drill.unsteady,
            uncounted="; ".join(filter(None, [drill.uncounted, *told.unmeasured])),
            redundant=moved_home(drill.last, sides.old, sides.new),
            aborted=drill.trouble if drill.scope.context.cancelled.is_set() else "",
            unserved=told.unserved,
            unbitten=told.unbitten,
            left=(*told.left, *drill.astray),
            faulty=told.faulty,
            unharmed=told.unharmed,
            taken=(told.fault.taken or 0) if told.fault is not None else 0,
            stopped=drill.trouble,
            moves=told.moves or not (nothing or told.stays),
        )
    )
    return replace(
        headed(drill, goals, judged, ended),
        outages=told.outages,
        writes=told.writes,
        tasks=told.tasks,
        readings=told.readings,
        without_redundancy_s=told.without_redundancy_s,
        left=(*told.left, *drill.astray),
        fault=told.fault,
        confirmations=told.confirmations,
        start_ns=told.start_ns,
    )


def headed(drill: Drill, goals: Goals, judged: Judgement, ended: datetime) -> DrillResult:
    """What every result says, whatever was drilled: which drill it was, when, of what commit, how it was judged."""
    head = DrillResult(
        run=drill.scope.context.run,
        plan=drill.name,
        service=drill.field.document.service,
        mode=drill.work.mode,
        estate=drill.scope.estate.document.name,
        environment=drill.scope.environment_name,
        commit=drill.scope.tree.revision.commit,
        digest=drill.work.change.inputs,
        began_at=drill.began_at,
        ended_at=ended,
        goals=goals,
        verdict=judged.verdict,
        verdicts=judged.verdicts,
        reasons=judged.reasons,
        home=drill.field.sides.old,
        away=drill.field.sides.new,
        load_average=_load(drill.notes.first("began") or {}),
        steady=None if drill.work.mode is DrillMode.RETURN else not drill.unsteady,
        resumed=len(drill.notes.all("resumed")),
    )
    return described(head, drill)


def _seconds(text: str | None) -> float | None:
    return duration(text).total_seconds() if text is not None else None


def _load(began: JsonObject) -> tuple[float, float, float] | None:
    """The load of this machine when a drill began, as its journal says."""
    listed = began.get("load")
    values = [float(one) for one in listed if isinstance(one, int | float)] if isinstance(listed, list) else []
    return (values[0], values[1], values[2]) if len(values) == 3 else None  # noqa: PLR2004  1, 5 and 15 minutes


def keep(drill: Drill, result: DrillResult) -> str:
    """Keep the result, and say that there is one; why it could not be kept."""
    first = result.outages[0] if result.outages else None
    kept = ""
    try:
        drill.scope.engines.recovery.results.keep(result.run, result.plan, result_json(result))
    except EngineError as problem:
        kept = f"the result could not be kept: {problem.summary}"
    drill.scope.context.emit(
        DrillMeasured(
            subject=drill.work.change.address,
            run=result.run,
            mode=str(result.mode),
            verdict=str(result.verdict),
            outage_ms=first.outage_ms if first is not None else None,
            resolution_ms=first.resolution_ms if first is not None else None,
            lost=result.writes.lost if result.writes is not None else None,
        )
    )
    return kept


def _trouble(drill: Drill, result: DrillResult) -> list[str]:
    """Why the change did not land: it stopped, or its service is not as it was. A missed objective is no failed change:
    it is told by the drill's own exit code."""
    if drill.unsteady:
        return [f"nothing was begun: {drill.unsteady}"]
    found = [drill.trouble] if drill.trouble else []
    if result.verdicts["cleanup"] is not Verdict.PASSED:
        found += [one for one in result.reasons if one.startswith("cleanup")]
    return found


def _applied(drill: Drill, tasks: Sequence[TaskResult]) -> tuple[Step, ...]:
    """The planned steps that were really done."""
    done = {f"{one.leg}: {one.name}" for one in tasks if one.ok and not one.found}
    return tuple(step for step in drill.work.change.steps if step.what in done)
