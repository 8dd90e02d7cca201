"""Carrying a run out: round by round, wave by wave, within one failure budget. The ledger says what is left, so a run
whose process died goes on here as well. Nothing is undone silently."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ismgr_automation.converge.applied import remember
from ismgr_automation.converge.ground import ground_of
from ismgr_automation.converge.health import may_start
from ismgr_automation.converge.looked import Looked
from ismgr_automation.converge.observe import graph_with
from ismgr_automation.converge.outcome import not_started, told
from ismgr_automation.converge.outcomefile import read_outcome
from ismgr_automation.converge.prepared import Prepared, prepared
from ismgr_automation.converge.release import Released, new_hosts, release
from ismgr_automation.converge.report import Fate, Outcome, Report
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import put_back
from ismgr_automation.converge.soak import soak
from ismgr_automation.converge.timing import closed
from ismgr_automation.converge.unit import Workbench
from ismgr_automation.converge.written import closed_wave, intents, opened_round
from ismgr_automation.core.address import Kind
from ismgr_automation.core.events import BudgetSpent, RoundStarted, WaveFinished, WaveStarted
from ismgr_automation.evidence.recorder import Recorder
from ismgr_automation.planning.budget import Budget, covered, spent
from ismgr_automation.planning.change import Change, Deferred
from ismgr_automation.planning.graph import ancestors
from ismgr_automation.planning.plan import Plan, Purpose
from ismgr_automation.planning.waves import Sick
from ismgr_automation.ports.runs import Round, Run, StepRecord, Unit
from ismgr_automation.ports.sequencer import Sequencer


@dataclass(slots=True, kw_only=True)
class Progress:
    """What has happened of a run so far, in this process and in those before it."""

    budget: Budget
    outcomes: list[Outcome] = field(default_factory=list)
    changes: dict[str, Change] = field(default_factory=dict)
    """Of the rounds that were begun, by key: kept here, because the ledger may be away when one of them ends."""
    spent: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    """Hosts that cost the budget and are up, as they were before."""
    """What counts against the budget."""
    stopped: str = ""
    refused: bool = False
    outside: bool = False
    rounds: int = 0

    @property
    def landed(self) -> frozenset[str]:
        """Keys of the changes that landed."""
        return frozenset(one.key for one in self.outcomes if one.fate is Fate.LANDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One run on its way: what it is, and all that takes part. ``before`` is what earlier processes did of it."""

    plan: Plan
    run: Run
    scope: Scope
    recorder: Recorder
    sequencer: Sequencer
    progress: Progress
    before: tuple[StepRecord, ...]
    ours: Callable[[], bool]

    @property
    def over(self) -> bool:
        """Whether nothing more may begin. Whoever slept through the end of the lease is told by the clock alone."""
        return bool(self.progress.stopped) or self.scope.context.cancelled.is_set() or not self.ours()


def carry_on(
    plan: Plan, run: Run, scope: Scope, recorder: Recorder, ours: Callable[[], bool], *, looked: Looked
) -> Report:
    """Do what is left of a run: first what was previewed, then in rounds what had been deferred, inside its envelopes.

    The run is in the ledger, and the lease is held. Nothing is raised once a wave has begun: the report says what
    landed, what did not, and why. What earlier processes did of the run is part of the report. ``ours``: whether the
    lease is held still; without it the end of nothing is written down. ``looked``: what this process has seen under
    this lease. Whoever takes a run over has seen nothing, whatever the ledger says of its rounds.
    """
    began = time.monotonic()
    opened, before = list(scope.engines.journal.rounds(run.id)), scope.engines.journal.steps(run.id)
    bench = Workbench(
        scope=scope,
        run=run.id,
        purpose=plan.purpose,
        undoes=plan.undoes,
        mode=plan.mode,
        planned_with=plan.inputs.engines,
        executor=scope.engines.executor,
        ours=ours,
        looked=looked,
    )
    progress = Progress(
        budget=Budget.of(scope.environment.failure_budget, covered=covered(plan.changes, plan.deferred))
    )
    waiting: tuple[Deferred, ...] | None = None
    warnings: tuple[str, ...] = ()
    try:
        with scope.engines.sequencing(bench.work) as sequencer:
            course = Course(
                plan=plan,
                run=run,
                scope=scope,
                recorder=recorder,
                sequencer=sequencer,
                progress=progress,
                before=before,
                ours=ours,
            )
            waiting = _rounds(course, opened)
    except Exception as problem:
        if waiting is None:
            raise
        warnings = (told(problem, scope),)
    undone = bool(waiting) or any(one.fate is not Fate.LANDED for one in progress.outcomes)
    return Report(
        run=run.id,
        digest=plan.digest,
        outcomes=tuple(progress.outcomes),
        checks=tuple(check for one in progress.outcomes for check in one.checks),
        rounds=progress.rounds,
        seconds=time.monotonic() - began,
        stopped=progress.stopped,
        refused=progress.refused,
        outside=progress.outside,
        # who cancels when all is done comes too late
        cancelled=undone and scope.context.cancelled.is_set(),
        waiting=waiting,
        warnings=warnings,
    )


def _rounds(course: Course, opened: list[Round]) -> tuple[Deferred, ...]:
    """All rounds, those that were opened before first; returns what still waits."""
    plan = course.plan
    if not opened and plan.changes:
        sealed = plan.beside.sidecars
        first = [Prepared(change=one, sealed=sealed.get(str(one.address), "")) for one in plan.changes]
        opened.extend(_open(1, first, plan.waves, course))
    for one in opened:
        _round(one, course)
    done = {one.change.address for known in opened for one in map(prepared, known.changes)}
    waiting = tuple(one for one in plan.deferred if one.address not in done)
    while waiting and not course.over:
        released = _release(waiting, course.scope)
        waiting, course.progress.stopped = released.waiting, released.stop
        for known in _open(len(opened) + 1, released.changes, released.waves, course) if released.changes else ():
            opened.append(known)
            _round(known, course)
    return waiting


def _release(waiting: tuple[Deferred, ...], scope: Scope) -> Released:
    try:
        return release(waiting, scope)
    except Exception as problem:  # noqa: BLE001  what landed in earlier rounds must be told
        return Released(waiting=waiting, stop=told(problem, scope))


def _open(
    number: int, changes: Sequence[Prepared], waves: Sequence[Sequence[str]], course: Course
) -> tuple[Round, ...]:
    """Write down what a round will do; none when it cannot be written, which stops the run."""
    known = Round(
        number=number, changes=tuple(one.to_json() for one in changes), waves=tuple(tuple(wave) for wave in waves)
    )
    try:
        course.recorder.write(opened_round(known))
        course.scope.engines.journal.open_round(course.run.id, known)
    except Exception as problem:  # noqa: BLE001  what landed in earlier rounds must be told
        course.progress.stopped = told(problem, course.scope)
        course.progress.outcomes += [not_started(one.change) for one in changes]
        return ()
    return (known,)


def _round(known: Round, course: Course) -> None:
    progress, scope = course.progress, course.scope
    changes = {one.change.key: one.change for one in map(prepared, known.changes)}
    progress.rounds += 1
    progress.changes |= changes
    before = {one.unit.key: one for one in course.before if one.unit.round == known.number}
    scope.context.emit(RoundStarted(round=known.number, waves=len(known.waves), changes=len(changes)))
    for number, keys in enumerate(known.waves, start=1):
        ended = {key: read_outcome(step.outcome) for key, step in before.items() if step.outcome is not None}
        _account([ended[key] for key in keys if key in ended], course)
        left = [changes[key] for key in keys if key not in ended]
        if left:
            attempts = {key: step.unit.attempt + 1 for key, step in before.items()}
            _wave(known, number, left, attempts, course)
        # also what landed just before a crash
        whole = [changes[key] for key in keys]
        trouble = remember(list(changes.values()), whole, progress.landed, course.plan.purpose, scope)
        progress.stopped = progress.stopped or trouble


def _wave(known: Round, number: int, left: Sequence[Change], attempts: dict[str, int], course: Course) -> None:
    """One wave: as many of its changes at once as may be, until all are done or the run is over."""
    todo = {one.key: one for one in left}
    while todo:
        go, behind = ([], []) if course.over else _ready(known, list(todo.values()), course)
        course.progress.outcomes += behind
        todo = _without(todo, behind)
        if course.over or not go:
            course.progress.outcomes += [not_started(one, _put_back(one, attempts, course)) for one in todo.values()]
            return
        _together(known, number, go, attempts, course)
        todo = _without(todo, go)


def _without(todo: Mapping[str, Change], these: Sequence[Change | Outcome]) -> dict[str, Change]:
    keys = {one.key for one in these}
    return {key: one for key, one in todo.items() if key not in keys}


def _put_back(change: Change, attempts: Mapping[str, int], course: Course) -> str:
    """A process that died may have left hosts out of service, and this one does not come to them any more. Says who is
    not back."""
    if change.key not in attempts or change.address.kind not in (Kind.BASELINE, Kind.MACHINE) or not course.ours():
        return ""
    try:
        kept = put_back([one.name for one in change.targets], ground_of([change], course.scope), course.scope)
    except Exception as problem:  # noqa: BLE001  what landed must be told
        return told(problem, course.scope)
    return "; ".join(kept.values())


def _ready(known: Round, left: Sequence[Change], course: Course) -> tuple[list[Change], list[Outcome]]:
    """Those that may begin now, and those that never will because a stack that they need failed. None and none when the
    run must stop, and then it says why."""
    progress, scope = course.progress, course.scope
    try:
        progress.stopped = soak(known, left, course.run.id, scope)
        if course.over:
            return [], []
        behind = _behind(left, course)
        rest = list(_without({one.key: one for one in left}, behind).values())
        drill = course.plan.purpose is Purpose.DRILL
        begun = drill and bool(course.before)
        # clients may be waiting: what a process that died had begun of a drill is never held up
        late = None if begun else closed(rest, course.plan, scope, ground_of(rest, scope).fleet, datetime.now(UTC))
        if late is not None:
            progress.stopped, progress.outside = str(late), True
            return [], []
        if drill:
            # it takes both sides away one after the other, by rules of its own
            return rest, []
        keys, why = may_start(rest, scope, progress.spent - progress.undone, _new(known, rest, course))
    except Exception as problem:  # noqa: BLE001  what landed in earlier waves must be told
        progress.stopped = told(problem, scope)
        return [], []
    progress.stopped = why.summary if why is not None else ""
    progress.refused = why is not None
    return (
        [one for one in rest if one.key in keys],
        [not_started(one, "it needs a stack that failed") for one in behind],
    )


def _new(known: Round, changes: Sequence[Change], course: Course) -> dict[str, Sick]:
    """Hosts that nobody can rely on yet: they were made in this run, and nothing has landed on them."""
    if known.number == 1:
        return {}
    progress = course.progress
    worked = {target for key in progress.landed if key in progress.changes for target in progress.changes[key].targets}
    names = [target.name for one in changes for target in one.targets if target not in worked]
    return new_hosts(course.plan.deferred, names)


def _behind(left: Sequence[Change], course: Course) -> list[Change]:
    """Changes that need a stack which failed within the budget."""
    failed = {one.address for one in course.progress.outcomes if one.fate is Fate.FAILED}
    failed = {one for one in failed if one.kind is Kind.STACK}
    if not failed:
        return []
    graph = graph_with(course.scope.estate, ground_of(left, course.scope).fleet)
    return [one for one in left if ancestors(graph, [one.address]) & failed]


def _together(known: Round, number: int, left: Sequence[Change], attempts: dict[str, int], course: Course) -> None:
    """Changes that run at once: their intents on disk, then all of their units."""
    progress, scope = course.progress, course.scope
    units = [Unit(run=course.run.id, round=known.number, key=one.key, attempt=attempts.get(one.key, 1)) for one in left]
    try:
        course.recorder.write(*intents(known.number, number, left, units))
    except Exception as problem:  # noqa: BLE001  what landed in earlier waves must be told
        progress.stopped = told(problem, scope)
        progress.outcomes += [not_started(one) for one in left]
        return
    scope.context.emit(WaveStarted(wave=number, addresses=tuple(one.address for one in left)))
    found: dict[str, Outcome] = {}
    try:
        for unit, body in course.sequencer.perform(units, scope.context.cancelled):
            found[unit.key] = read_outcome(body)
    except Exception as problem:  # noqa: BLE001  what landed must be told
        progress.stopped = told(problem, scope)
    outcomes = [found.get(one.key) or _unaccounted(one, course) for one in left]
    _account(outcomes, course)
    try:
        course.recorder.write(*closed_wave(known.number, number, outcomes, units, _executors(course)))
    except Exception as problem:  # noqa: BLE001  what landed must be told
        progress.stopped = progress.stopped or told(problem, scope)
    failed = [one for one in outcomes if one.fate in (Fate.FAILED, Fate.UNKNOWN)]
    scope.context.emit(WaveFinished(wave=number, failed=len(failed)))


def _executors(course: Course) -> dict[str, str]:
    """Who executed what, by the unit's key."""
    return {one.unit.key: one.executor for one in course.scope.engines.journal.steps(course.run.id)}


def _unaccounted(change: Change, course: Course) -> Outcome:
    """A unit that gave no outcome: it never began, or its end could not be written down."""
    blank = not_started(change)
    try:
        begun = any(one.unit.key == change.key for one in course.scope.engines.journal.steps(course.run.id))
    except Exception:  # noqa: BLE001  what landed must be told
        begun = True  # whoever cannot be asked has not said no
    return replace(blank, fate=Fate.UNKNOWN, summary="it began, and how it ended is not known") if begun else blank


def _account(outcomes: Sequence[Outcome], course: Course) -> None:
    """Add outcomes to the run, and stop it where they say so: at once, or when the failure budget is spent."""
    progress = course.progress
    progress.outcomes += outcomes
    bad = [one for one in outcomes if one.fate in (Fate.FAILED, Fate.UNKNOWN) or one.stops]
    for one in bad:
        progress.spent |= spent(progress.changes[one.key], landed=False, troubled=one.troubled)
        progress.undone |= set(one.undone)
    if not bad or progress.stopped:
        return
    words = "; ".join(f"{one.key} {one.fate}: {one.summary}" for one in bad)
    over = progress.budget.exceeded(progress.spent)
    if over is not None and progress.budget.allowed:
        course.scope.context.emit(BudgetSpent(failed=len(progress.spent), allowed=progress.budget.allowed))
        words = f"{words}; {over}"
    # nobody can tell what an unknown one did, and what was not planned may be anything
    if over is not None or any(one.stops or one.fate is Fate.UNKNOWN for one in bad):
        progress.stopped = words
