"""The end of a drill in isolation: its result from what was written down, kept for ever, and as the outcome of its
change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ismgr_automation.converge.bubble_field import bubble_of
from ismgr_automation.converge.drill_told import Ended, goals_of, headed, keep
from ismgr_automation.converge.outcome import Done
from ismgr_automation.recovery.isolated_telling import IsolatedRecord, left_of, tell_isolated
from ismgr_automation.recovery.isolated_verdict import Seen, judge_isolated
from ismgr_automation.recovery.result import DrillResult
from ismgr_automation.recovery.telling import Record, moved_home, tell

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill


def told_isolated(drill: Drill) -> Ended:
    """Measure, judge, keep and tell."""
    result = _result(drill)
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
    goals, left = goals_of(drill.field.document, drill.work.mode, drill.scope), left_of(entries)
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
    return replace(
        headed(drill, goals, judged, datetime.now(UTC)),
        writes=told.writes,
        tasks=told.tasks,
        readings=told.readings,
        isolation=isolation,
        left=left,
    )
