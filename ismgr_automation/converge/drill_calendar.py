"""The calendar of drills against what was done: what is due, what forbids it, and records of what was skipped. The
world is not looked at; documents, results and runs are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain, pairwise

from ismgr_automation.converge.drill_hosts import hosts_of
from ismgr_automation.converge.drill_told import goals_of
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.timing import drill_work
from ismgr_automation.core.address import recovery
from ismgr_automation.core.address import schedule as address_of
from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import ExitCode, InputError
from ismgr_automation.core.events import DrillMeasured, OutputSeen
from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.estate.schedule import DrillSchedule
from ismgr_automation.evidence.entries import Entry, Noticed, RunClosed
from ismgr_automation.planning.change import Level
from ismgr_automation.planning.documented import fleet_of
from ismgr_automation.planning.plan import Occasion, Plan, Purpose
from ismgr_automation.planning.planfile import read
from ismgr_automation.planning.timing import Calendar
from ismgr_automation.ports.runs import Run, RunState
from ismgr_automation.recovery.result import DrillResult, Verdict, read_result, result_json
from ismgr_automation.recovery.schedule import (
    Agenda,
    Known,
    Outlook,
    Shift,
    Slot,
    Turn,
    begins_first,
    outlook,
    strays,
    turns_of,
)

LOOK_BACK = timedelta(days=366)
"""Times that were over before that are not put on record any more."""
MOST_RESULTS, MOST_RUNS = 5000, 500
PARTS = ("fault", "recovery", "cleanup")


def due(scope: Scope, now: datetime, name: str = "", *, token: int | None = None) -> Outlook:
    """What is due now by all schedules, or by one. ``token`` is that of our own lease, which is in nobody's way.

    Raises ``InputError`` for a schedule that there is not.
    """
    results = _results(scope)
    agendas = _agendas(scope, results, now, name)
    since = min((one.since for one in agendas), default=now)
    return outlook(agendas, _known(scope, results, now, since, token))


def coming(scope: Scope, now: datetime, span: tuple[datetime, datetime], name: str = "") -> tuple[Turn, ...]:
    """All times of all schedules, or of one, between two moments: those that were with their records, those that will
    be with what forbids them; and records of times that no schedule has any more."""
    begin, end = span
    results = _results(scope)
    agendas = _agendas(scope, results, now, name)
    known = _known(scope, results, now, begin, None)
    own = tuple(chain.from_iterable(turns_of(one, known, begin, end) for one in agendas))
    others = (one for one in strays(known, own, begin, end) if name in {"", one.slot.schedule})
    within = (one for one in (*own, *others) if begin <= one.slot.at)
    return tuple(sorted(within, key=begins_first))


def for_occasion(plan: Plan, slot: Slot) -> Plan:
    """A drill's plan as one that is begun for a time of a schedule. Its digest stays: the time is not what is done."""
    return replace(plan, beside=replace(plan.beside, occasion=Occasion(schedule=slot.schedule, at=slot.at)))


def with_occasion(run: Run, scope: Scope) -> JsonObject | None:
    """The result of a drill's run, kept with the schedule and the time that it was begun for, if it was; None for a
    run that left no result."""
    if run.purpose != Purpose.DRILL:
        return None
    store = scope.engines.recovery.results
    kept = store.result(run.id)
    occasion = read(run.plan, f"run {run.id}").beside.occasion
    if kept is None or occasion is None:
        return kept
    found = replace(read_result(kept), schedule=occasion.schedule, occurrence=occasion.at)
    store.keep(found.run, found.plan, result_json(found))
    return result_json(found)


def record_skip(scope: Scope, turn: Turn, now: datetime) -> DrillResult:
    """Put on record that no drill was carried out in a slot: in the evidence, signed as a run is, then in the store of
    results. Its name follows from schedule and time, so that whoever does it again does nothing. Raises
    ``EngineError``."""
    result = _skipped(scope, turn, now)
    store = scope.engines.recovery.results
    kept = store.result(result.run)
    if kept is not None:
        return read_result(kept)
    _witness(scope, result)
    store.keep(result.run, result.plan, result_json(result))
    scope.context.emit(
        DrillMeasured(
            subject=recovery(result.plan),
            run=result.run,
            mode=str(result.mode),
            verdict=str(result.verdict),
            outage_ms=None,
            resolution_ms=None,
            lost=None,
        )
    )
    return result


def _witness(scope: Scope, result: DrillResult) -> None:
    """Write it into the evidence, unless somebody did who died before the result was kept."""
    recorder = scope.engines.evidence(result.run)
    try:
        if recorder.ended() is not None:
            return
        recorder.write(_entry(result))
        closing = recorder.close(
            RunClosed(
                state=RunState.STOPPED,
                exit_code=int(ExitCode.REFUSED),
                landed=0,
                failed=0,
                unknown=0,
                not_started=1,
                stopped="; ".join(result.reasons),
                report=digest(result_json(result)),
            )
        )
    finally:
        recorder.abandon()
    for one in closing.trouble:
        scope.context.emit(OutputSeen(subject=recovery(result.plan), text=one))


def _skipped(scope: Scope, turn: Turn, now: datetime) -> DrillResult:
    """The record of a slot without a drill. It went from no host to no other: ``home`` and ``away`` stay empty."""
    slot = turn.slot
    document = scope.estate.recoveries[slot.plan]
    return DrillResult(
        run=_name(slot),
        plan=slot.plan,
        service=document.service,
        mode=slot.mode,
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        commit=scope.tree.revision.commit,
        digest="",
        began_at=slot.at,
        ended_at=min(now, slot.latest),
        goals=goals_of(document, slot.mode, scope),
        verdict=Verdict.SKIPPED,
        verdicts=dict.fromkeys(PARTS, Verdict.SKIPPED),
        reasons=(turn.reason,),
        schedule=slot.schedule,
        occurrence=slot.at,
    )


def _name(slot: Slot) -> str:
    """As runs are named, and the same for everybody: it sorts by the time of the slot."""
    return f"{slot.at:%Y%m%dT%H%M%S}-{sha256(f'{slot.schedule} {slot.at.isoformat()}'.encode()).hexdigest()[:8]}"


def _entry(result: DrillResult) -> Entry:
    at = f"{result.occurrence:%Y-%m-%d %H:%M} UTC" if result.occurrence is not None else ""
    return Noticed(
        level=Level.WARN,
        subject=recovery(result.plan),
        summary=f"{result.mode} drill of {address_of(result.schedule)} at {at} skipped: {'; '.join(result.reasons)}; "
        f"result {digest(result_json(result))}",
    )


def _results(scope: Scope) -> tuple[DrillResult, ...]:
    return tuple(map(read_result, scope.engines.recovery.results.results(limit=MOST_RESULTS)))


def _agendas(scope: Scope, results: Sequence[DrillResult], now: datetime, name: str) -> tuple[Agenda, ...]:
    schedules = scope.estate.schedules
    if name and name not in schedules:
        near = did_you_mean(name, schedules)
        raise InputError(
            f"There is no DrillSchedule {name!r}." + (f" Did you mean {near!r}?" if near else ""),
            next_step=f"One of {', '.join(schedules)}." if schedules else "Write a document with kind: DrillSchedule.",
        )
    fleet = fleet_of(scope.estate)
    found = []
    for one in schedules.values():
        if name not in {"", one.name}:
            continue
        plan = scope.estate.recoveries[one.plan]
        work = drill_work(plan, one.mode, hosts_of(plan, one.mode, fleet, scope))
        found.append(Agenda(schedule=one, work=work, since=_since(scope, one, results, now)))
    return tuple(found)


def _since(scope: Scope, schedule: DrillSchedule, results: Sequence[DrillResult], now: datetime) -> datetime:
    """From when on the times of a schedule count: the commit that brought it, or that changed its file last; earlier
    where it has a record; never so long ago that nobody could tell any more what was done then."""
    position = scope.estate.positions[address_of(schedule.name)]
    known = [one.occurrence for one in results if one.schedule == schedule.name and one.occurrence is not None]
    committed = scope.engines.upkeep.committed(position.path)
    marks = [*([max(known)] if known else []), *([committed] if committed is not None else [])]
    bounds = [now - LOOK_BACK]
    if len(results) == MOST_RESULTS:
        bounds.append(min(one.began_at for one in results))
    return max(min(marks, default=now).astimezone(UTC), *bounds)


def _known(scope: Scope, results: Sequence[DrillResult], now: datetime, since: datetime, token: int | None) -> Known:
    runs = scope.engines.runs.runs(scope.environment_name, MOST_RUNS)
    return Known(
        now=now,
        calendar=_calendar(scope, now, since),
        results=results,
        shifts=_shifts(runs),
        begun=dict(_begun(runs)),
        busy=_busy(scope, runs, token),
    )


def _calendar(scope: Scope, now: datetime, since: datetime) -> Calendar:
    """Windows and freezes with the events of calendars from ``since`` on, which may be long before now."""
    early, late = (scope.engines.upkeep.timetable(moment) for moment in (since, now))
    if since >= now:
        return early
    names = {*early.events, *late.events}
    events = {one: tuple(sorted({*early.events.get(one, ()), *late.events.get(one, ())})) for one in names}
    return replace(late, events=events)


def _shifts(runs: Iterable[Run]) -> tuple[Shift, ...]:
    """When which run was at work, the oldest first. One that nobody closed was over at the latest when the next one
    began."""
    ordered = sorted(runs, key=lambda one: one.started_at)
    nexts = [*(after.started_at for _, after in pairwise(ordered)), None]
    return tuple(
        Shift(run=one.id, purpose=one.purpose, began=one.started_at, ended=one.finished_at or after)
        for one, after in zip(ordered, nexts, strict=False)
    )


def _begun(runs: Iterable[Run]) -> Iterator[tuple[tuple[str, datetime], str]]:
    """The times that drills were begun for which are not ended. A time that one was begun for is not skipped."""
    for one in runs:
        if one.state is RunState.RUNNING and one.purpose == Purpose.DRILL:
            occasion = read(one.plan, f"run {one.id}").beside.occasion
            if occasion is not None:
                yield (occasion.schedule, occasion.at), one.id


def _busy(scope: Scope, runs: Sequence[Run], token: int | None) -> str:
    """Why no drill may begin whatever its time is: one at a time, and nothing is begun over what somebody left."""
    lease = scope.engines.leases.look(scope.lease)
    if lease is not None and not lease.expired and lease.token != token:
        return f"{lease.holder} has had the lease since {lease.acquired_at.isoformat(timespec='seconds')}"
    newest = (next(iter(runs), None), next((one for one in runs if one.purpose == Purpose.DRILL), None))
    for one in newest:
        if one is not None and one.state is RunState.RUNNING:
            return f"run {one.id} ({one.purpose}) is not ended: `ismgr resume {one.id}` goes on with it"
    return ""
