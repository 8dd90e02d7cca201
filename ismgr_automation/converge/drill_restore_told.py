"""The end of a drill of mode ``restore``: its result from what was written down, kept for ever, and as the outcome of
its change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ismgr_automation.converge.drill_told import Ended, goals_of, headed, keep
from ismgr_automation.converge.outcome import Done
from ismgr_automation.estate.resolve import duration
from ismgr_automation.recovery.restore_told import RestoreTold
from ismgr_automation.recovery.restoring import RestoreRecord, RestoreSeen, counted, judge_restore, tell_restore
from ismgr_automation.recovery.result import DrillResult

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_restore import RestoreCrew


def told_restore(crew: RestoreCrew, record: RestoreRecord) -> Ended:
    """Tell, judge, keep."""
    drill = crew.drill
    result = _result(crew, record)
    kept = keep(drill, result)
    steps = result.restore.steps if result.restore is not None else ()
    good = {f"restore: {one.name}" for one in steps if one.ok}
    trouble = [f"nothing was begun: {drill.unsteady}"] if drill.unsteady else [drill.trouble, crew.removed]
    return Ended(
        verdict=result.verdict,
        done=Done(
            changed=len(good),
            trouble="; ".join(filter(None, [*trouble, kept])),
            touched=bool(crew.removed),
            stops=bool(drill.trouble),
            applied=tuple(one for one in drill.work.change.steps if one.what in good),
            troubled=(crew.vault.restore.host,) if crew.removed else (),
        ),
    )


def _result(crew: RestoreCrew, record: RestoreRecord) -> DrillResult:
    drill, vault = crew.drill, crew.vault
    blank = RestoreTold(host=vault.restore.host, repository=vault.repository.host, stanza=vault.document.stanza)
    told = tell_restore(record, blank)
    writes, holes = counted(record)
    goals = goals_of(drill.field.document, drill.work.mode, drill.scope)
    left = (crew.removed,) if crew.removed else ()
    judged = judge_restore(
        RestoreSeen(
            goals=goals,
            told=told,
            writes=writes,
            limits={one.name: (duration(one.fresh).total_seconds(), one.at_least) for one in vault.document.files},
            holes=holes,
            unsteady=drill.unsteady,
            uncounted=drill.uncounted,
            stopped=drill.trouble,
            aborted=drill.trouble if drill.scope.context.cancelled.is_set() else "",
            left=left,
        )
    )
    return replace(headed(drill, goals, judged, datetime.now(UTC)), writes=writes, left=left, restore=told)
