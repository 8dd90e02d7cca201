"""The end of a drill in isolation: its result from what was written down, kept for ever, and as the outcome of its
change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ismgr_automation.converge.bubble_field import bubble_of
from ismgr_automation.converge.drill_particulars import described
from ismgr_automation.converge.drill_told import Ended, goals_of, keep, load_of
from ismgr_automation.converge.outcome import Done
from ismgr_automation.recovery.isolated_telling import IsolatedRecord, left_of, tell_isolated
from ismgr_automation.recovery.isolated_verdict import Seen, judge_isolated
from ismgr_automation.recovery.result import DrillResult
from ismgr_automation.recovery.telling import Record, moved_home, tell

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill


def told_isolated(drill: Drill) -> Ended:
    """Measure, judge, keep and tell."""
    result = described(_result(drill), drill)
    kept = keep(drill, result)
    done = [one for one in result.tasks if one.ok and not one.found]
    names = {f"{one.leg}: {one.name}" for one in done}
    trouble = [f"nothing was begun: {drill.unsteady}"] if drill.unsteady else list(filter(None, [drill.trouble]))
    return Ended(
        verdict=result.verdict,
        done=Done(
            changed=len(names),
            trouble="; ".join(filter(None, [*trouble, *(result.left if not drill.unsteady else ()), kept])),
            touched=drill.touched,
            stops=bool(drill.trouble),
            applied=tuple(step for step in drill.work.change.steps if step.what in names),
            troubled=(),
        ),
    )


def _result(drill: Drill) -> DrillResult:
    entries, sides = drill.notes.journal.entries(), drill.field.sides
    where = bubble_of(drill.scope, drill.work.ground, drill.field)
    told = tell(Record(entries=entries, legs=(), attempts=drill.attempts, every=drill.request.every, held=drill.held))
    isolation = tell_isolated(
        IsolatedRecord(
            entries=entries,
            attempts=drill.attempts,
            network=where.bubble.network,
            gateways=tuple(where.bubble.gateways),
            spare=where.clone.spare,
            source=where.clone.source,
        )
    )
    goals, left = goals_of(drill.field.document, drill.scope), left_of(entries)
    judged = judge_isolated(
        Seen(
            told=isolation,
            goals=goals,
            tasks=told.tasks,
            writes=told.writes,
            unsteady=drill.unsteady,
            unmeasured=drill.uncounted,
            stopped=drill.trouble,
            aborted=drill.trouble if drill.scope.context.cancelled.is_set() else "",
            redundant=moved_home(drill.last, sides.old, sides.new),
            left=left,
        )
    )
    known = drill.notes.first("began") or {}
    return DrillResult(
        run=drill.scope.context.run,
        plan=drill.name,
        service=drill.field.document.service,
        mode=drill.work.mode,
        estate=drill.scope.estate.document.name,
        environment=drill.scope.environment_name,
        commit=drill.scope.tree.revision.commit,
        digest=drill.work.change.inputs,
        began_at=drill.began_at,
        ended_at=datetime.now(UTC),
        goals=goals,
        verdict=judged.verdict,
        verdicts=judged.verdicts,
        reasons=judged.reasons,
        home=sides.old,
        away=sides.new,
        writes=told.writes,
        tasks=told.tasks,
        readings=told.readings,
        load_average=load_of(known),
        resumed=told.resumed,
        isolation=isolation,
        steady=not drill.unsteady,
        left=left,
    )
