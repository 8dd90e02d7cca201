"""Looking back at drills: one beside those before it, and what people write down about it afterwards. Reads and appends
in the store of results only."""

from __future__ import annotations

from collections.abc import Sequence

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.recovery.clauses import Case, Seal
from ismgr_automation.recovery.particulars import Finding, Note, note_json, read_note
from ismgr_automation.recovery.result import DrillResult, read_result
from ismgr_automation.recovery.trend import Trend, trend

MOST = 500
"""Drills of one plan that are looked at, the newest."""


def trend_of(scope: Scope, result: DrillResult) -> Trend:
    """A drill among those of its plan."""
    known = scope.engines.recovery.results.results(result.plan, MOST)
    return trend(result, tuple(map(read_result, known)))


def case_of(scope: Scope, result: DrillResult, seal: Seal) -> Case:
    """All that is known of a drill; ``seal`` is what its evidence says."""
    return Case(result=result, trend=trend_of(scope, result), notes=notes_of(scope, result.run), seal=seal)


def notes_of(scope: Scope, run: str) -> tuple[Note, ...]:
    """What people wrote down about a drill, the oldest first."""
    return tuple(map(read_note, scope.engines.recovery.results.notes(run)))


def write_down(scope: Scope, note: Note) -> None:
    """Append a note about a drill. Raises ``InputError`` for a drill that there is not, and for somebody who is in no
    Team document: who answers for something must be known."""
    store = scope.engines.recovery.results
    if store.result(note.run) is None:
        raise InputError(f"There is no drill {note.run}.", next_step="`ismgr drill history` lists them.")
    person = note.owner if isinstance(note, Finding) else note.person
    people = people_of(scope)
    if person not in people:
        near = did_you_mean(person, people)
        raise InputError(
            f"{person} is in no Team document." + (f" Did you mean {near}?" if near else ""),
            next_step="Name somebody as a Team document does.",
        )
    store.note(note.run, note_json(note))


def people_of(scope: Scope) -> Sequence[str]:
    """The names of all members of all Teams."""
    return sorted({member.name for team in scope.estate.teams.values() for member in team.members})
