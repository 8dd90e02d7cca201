"""Looking back at drills: one beside those before it, and what people write down about it afterwards. Reads and appends
in the store of results and the evidence only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ismgr_automation.converge.drill_signing import allowed, sign_offs
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import recovery
from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.core.json import digest
from ismgr_automation.estate.model import Estate
from ismgr_automation.evidence.entries import DrillNoted, RunClosed
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.clauses import Case, Seal
from ismgr_automation.recovery.particulars import Finding, Note, SignOff, note_json, read_note
from ismgr_automation.recovery.result import DrillResult, read_result
from ismgr_automation.recovery.schedule import slots
from ismgr_automation.recovery.sign_offs import Weighed
from ismgr_automation.recovery.trend import Trend, trend

MOST = 500
"""Drills of one plan that are looked at, the newest."""


def trend_of(scope: Scope, result: DrillResult) -> Trend:
    """A drill among those of its plan."""
    known = scope.engines.recovery.results.results(result.plan, MOST)
    return trend(result, tuple(map(read_result, known)))


def case_of(scope: Scope, result: DrillResult, seal: Seal, now: datetime) -> Case:
    """All that is known of a drill; ``seal`` is what its evidence says."""
    seal = replace(seal, next_due=next_due(scope.estate, result.plan, now))
    return Case(
        result=result,
        trend=trend_of(scope, result),
        notes=notes_of(scope, result.run),
        seal=seal,
        sign_offs=sign_offs_of(scope, result.run),
    )


def next_due(estate: Estate, plan: str, now: datetime) -> str:
    """When the next drill of a plan must be, by the schedule whose time comes first; empty without a schedule."""
    first = [
        next((one for one in slots(schedule, now) if one.at > now), None)
        for schedule in estate.schedules.values()
        if schedule.plan == plan
    ]
    slot = min((one for one in first if one is not None), key=lambda one: one.at, default=None)
    return f"{slot.at:%Y-%m-%d %H:%M} UTC, {slot.mode}, by {slot.schedule}" if slot is not None else ""


def notes_of(scope: Scope, run: str) -> tuple[Note, ...]:
    """What people wrote down about a drill, the oldest first."""
    return tuple(map(read_note, scope.engines.recovery.results.notes(run)))


def write_down(scope: Scope, note: Note, run: str) -> Note:
    """Append a note about a drill, in the evidence first, as a ``run`` of its own that is signed as any; returns it as
    it is kept. Whoever calls holds the lease: the evidence has one writer. Raises ``InputError`` for a drill that there
    is not, and for somebody who is in no Team document: who answers for something must be known; ``NotApproved`` for a
    sign-off that does not count; ``EngineError``."""
    store = scope.engines.recovery.results
    kept = store.result(note.run)
    if kept is None:
        raise InputError(f"There is no drill {note.run}.", next_step="`ismgr drill history` lists them.")
    if isinstance(note, SignOff):
        note = allowed(scope, kept, note)
    else:
        _refuse_unknown(scope, note.owner if isinstance(note, Finding) else note.person)
    _witness(scope, note, run)
    store.note(note.run, note_json(note))
    return note


def sign_offs_of(scope: Scope, run: str) -> tuple[Weighed, ...]:
    """The sign-offs of a drill, each with whether it counts."""
    kept = scope.engines.recovery.results.result(run)
    return sign_offs(scope, kept, notes_of(scope, run)) if kept is not None else ()


def _refuse_unknown(scope: Scope, person: str) -> None:
    people = people_of(scope)
    if person not in people:
        near = did_you_mean(person, people)
        raise InputError(
            f"{person} is in no Team document." + (f" Did you mean {near}?" if near else ""),
            next_step="Name somebody as a Team document does.",
        )


def _witness(scope: Scope, note: Note, run: str) -> None:
    body = note_json(note)
    recorder = scope.engines.evidence(run)
    try:
        recorder.write(DrillNoted(estate=scope.estate.document.name, drill=note.run, note=body))
        closing = recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=0, report=digest(body)))
    finally:
        recorder.abandon()
    for one in closing.trouble:
        scope.context.emit(OutputSeen(subject=recovery(note.run), text=one))


def people_of(scope: Scope) -> Sequence[str]:
    """The names of all members of all Teams."""
    return sorted({member.name for team in scope.estate.teams.values() for member in team.members})
