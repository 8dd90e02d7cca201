"""One drill on the live service, carried out: a client that measures is at work, every verb waits for one byte, a rule
is asked before each act, and what the journal calls begun is looked at in the world before it is done again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.drill import GIVE_BACK
from ismgr_automation.converge.drill_back import give_back
from ismgr_automation.converge.drill_fault import cuts_off, planned_fault
from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_isolated import try_isolated
from ismgr_automation.converge.drill_isolated_told import told_isolated
from ismgr_automation.converge.drill_legs import Crew, run_leg
from ismgr_automation.converge.drill_notes import Notes
from ismgr_automation.converge.drill_restore import restore_drill
from ismgr_automation.converge.drill_stop import asked_to_stop, listening
from ismgr_automation.converge.drill_strike import Breaking, breaking
from ismgr_automation.converge.drill_told import told_drill
from ismgr_automation.converge.drill_verbs import ACTS, Kit, switch_of_all
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.outcome import Done, briefly
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.errors import Cancelled, IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.core.spans import nanoseconds
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.recovery import ClientFault
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Change
from ismgr_automation.ports.recovery import Attempt, Manners, ProbeRequest, RunningProbe, Sight, Standing
from ismgr_automation.recovery.faults import Course, course_of
from ismgr_automation.recovery.measure import SETTLED, steady
from ismgr_automation.recovery.path import Leg, LegKind, legs
from ismgr_automation.recovery.rules import Act
from ismgr_automation.recovery.telling import moved_home

ASLEEP = timedelta(seconds=1)
"""How long a client may take for one write before it counts as dead; its own patience is less."""
PATIENCE = 10
"""How many times the asked-for steady time a service may take to become steady."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillWork:
    """What is asked: the change and the ground that it stands on. ``again``: somebody began it and died."""

    change: Change
    ground: Ground
    mode: DrillMode
    again: bool


@dataclass(slots=True, kw_only=True)
class Drill:
    """One drill on its way, and all that is known of it."""

    work: DrillWork
    scope: Scope
    field: Field
    request: ProbeRequest
    legs: tuple[Leg, ...]
    notes: Notes
    began_at: datetime
    unsteady: str = ""
    """Why the service was not steady before: then nothing is done."""
    trouble: str = ""
    """Why it stopped before its last leg."""
    touched: bool = False
    attempts: tuple[Attempt, ...] = ()
    held: frozenset[int] | None = None
    uncounted: str = ""
    last: tuple[Standing, ...] = ()
    """The members at the end."""
    breaking: Breaking | None = None
    """The fault that is done to machines or networks."""
    astray: tuple[str, ...] = ()
    """Who may still send clients elsewhere at the end, a sentence each."""

    @property
    def name(self) -> str:
        """The RecoveryPlan."""
        return self.field.document.name


def apply_drill(work: DrillWork, scope: Scope) -> Done:
    """Carry out a drill there and back, measure it, and keep its result. Raises ``Cancelled`` and ``EngineError`` while
    nothing has been touched; after that what went wrong is in the result."""
    drill = _begun(work, scope)
    with ExitStack() as stack:
        stack.callback(scope.engines.recovery.standby.close)
        stack.enter_context(listening(drill.notes.journal, scope))
        with _probing(drill) as probe:
            drill.breaking = _breaking(drill, stack)
            _make_steady(drill, probe)
            if work.mode is DrillMode.ISOLATED:
                try_isolated(drill, probe)
            elif not (drill.unsteady or drill.trouble):
                _move(drill)
                _settle(drill, probe)
            drill.attempts = tuple(probe.stop())
        if work.mode is DrillMode.RESTORE:
            return restore_drill(drill)
        _count(drill)
        drill.last = _look(drill)
        home = moved_home(drill.last, drill.field.sides.old, drill.field.sides.new)
        drill.notes.tried({"what": "looked", "ok": home})
        drill.astray = (*_astray(drill), *(drill.breaking.left() if drill.breaking is not None else ()))
    result = told_isolated(drill) if work.mode is DrillMode.ISOLATED else told_drill(drill)
    drill.notes.tried({"what": "ended", "verdict": str(result.verdict)})
    return result.done


def _begun(work: DrillWork, scope: Scope) -> Drill:
    name = work.change.address.name
    where = field_of(scope, work.ground, name)
    journal = scope.engines.recovery.journal(scope.context.run)
    notes = Notes(journal=journal, clock=scope.engines.recovery.clock)
    probe, fault = where.document.probe, planned_fault(work.change, where.document)
    request = ProbeRequest(
        run=scope.context.run,
        endpoints=probe.endpoints,
        database=probe.database,
        user=probe.user,
        password=SecretRef.parse(probe.password.secret),
        table=probe.table,
        every=duration(probe.every),
        patience=duration(probe.patience),
        folder=journal.folder,
        resolvers=probe.resolvers,
        manners=Manners(fault.do) if isinstance(fault, ClientFault) else Manners.GOOD,
    )
    known = notes.first("began")
    now = datetime.now(UTC)
    drill = Drill(
        work=work,
        scope=scope,
        field=where,
        request=request,
        legs=_planned(work, where),
        notes=notes,
        began_at=datetime.fromisoformat(str(known["at"])) if known is not None else now,
        touched=bool(notes.all("leg-began") or notes.all("fault-undo")),
    )
    if known is None:
        load = list(os.getloadavg())
        notes.wrote({"what": "began", "at": now.isoformat(), "mode": str(work.mode), "load": load, "boot": _boot()})
    else:
        notes.wrote({"what": "resumed", "at": now.isoformat(), "boot": _boot()})
        if known["boot"] != _boot():
            drill.uncounted = "this machine was started anew in the middle: its clock is not the one that it began with"
    return drill


def _planned(work: DrillWork, where: Field) -> tuple[Leg, ...]:
    """The legs that were planned: a return depends on where the primary was then."""
    names = {step.what.partition(": ")[0] for step in work.change.steps}
    return tuple(one for one in legs(where.document, work.mode, where.sides) if one.name in names)


def _boot() -> str:
    """The life of this machine: its monotonic clock begins anew with each."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123  one line of the kernel
        return file.read().strip()


@contextmanager
def _probing(drill: Drill) -> Iterator[RunningProbe]:
    """A client at work, for as long as the drill takes. Who brings a service home that nobody can write to does so
    without one."""
    client, context = drill.scope.engines.recovery.probe, drill.scope.context
    begin = client.resume if drill.work.again else client.start
    probe: RunningProbe = _Nobody()
    try:
        probe = begin(drill.request, context)
    except IsmgrError as problem:
        if isinstance(problem, Cancelled):
            raise
        if drill.touched or drill.work.mode is DrillMode.RETURN:
            drill.uncounted = f"no client was at work: {problem.summary}"
        else:
            drill.unsteady = f"no client was at work: {problem.summary}"
    try:
        yield probe
    finally:
        probe.stop()


class _Nobody:
    """A client that is not there."""

    def attempts(self) -> Sequence[Attempt]:
        """None."""
        return ()

    def stop(self) -> Sequence[Attempt]:
        """None."""
        return ()


def _make_steady(drill: Drill, probe: RunningProbe) -> None:
    """Nothing begins before every write was acknowledged for as long as the document asks, and the suites pass. Who
    resumes has no time for that."""
    if drill.unsteady or drill.touched or drill.work.mode is DrillMode.RETURN:
        return
    ready = drill.field.document.ready
    for group in ready.verify:
        checks = verify_group(drill.scope, group, drill.work.ground.fleet, drill.work.ground.states, None)
        bad = failed_checks(checks)
        if bad:
            drill.unsteady = f"{len(bad)} checks of group/{group} did not pass before, first {bad[0].check}"
            return
    wanted = duration(drill.field.document.probe.steady)
    drill.unsteady = _steady_for(drill, probe, wanted.total_seconds(), wanted.total_seconds() * PATIENCE)
    if not drill.unsteady and drill.breaking is not None:
        drill.unsteady = drill.breaking.unready()
    if drill.scope.context.cancelled.is_set():
        drill.unsteady, drill.trouble = "", "stopped on request before anything was begun"
    elif not drill.unsteady:
        drill.scope.context.emit(StepReported(step="steady", detail=f"every write acknowledged for {wanted}"))


def _settle(drill: Drill, probe: RunningProbe) -> None:
    """Let the client work on until service is seen to stay."""
    if not drill.touched or not probe.attempts():
        return
    seconds = SETTLED.total_seconds()
    _steady_for(drill, probe, seconds, seconds * PATIENCE)


def _steady_for(drill: Drill, probe: RunningProbe, seconds: float, within: float) -> str:
    """Wait until service has been steady for so long; why it was not, when ``within`` is over."""
    clock, look = drill.scope.engines.recovery.clock, drill.scope.engines.recovery.look
    until = clock() + int(within * 1e9)
    still = threading.Event() if drill.touched else drill.scope.context.cancelled
    while True:
        attempts = probe.attempts()
        end = attempts[-1].ended_ns if attempts else 0
        begin = end - int(seconds * 1e9)
        why = "no write was tried for so long" if not attempts or attempts[0].sent_ns > begin else None
        why = why or _asleep(clock() - end, drill.request.every) or steady(attempts, begin, end, drill.request.every)
        if why is None:
            return ""
        if clock() > until or still.wait(look.total_seconds()):
            return why


def _asleep(since_ns: int, every: timedelta) -> str | None:
    """Why a client is not at work: one that has died has nothing to complain of."""
    if since_ns <= nanoseconds(max(ASLEEP, 20 * every)):
        return None
    return f"the client has not ended a write for {since_ns / 1e6:.0f} ms"


def _move(drill: Drill) -> None:
    """Carry out the legs. Whatever has become of them the fault is lifted; what is raised once something was touched is
    told in the result."""
    try:
        _legs(drill)
    except Exception as problem:
        drill.touched = drill.touched or bool(drill.notes.all("fault-undo"))
        if not drill.touched:
            raise
        words = briefly(problem, drill.scope)
        drill.trouble = f"it broke off: {words}"
    if drill.breaking is not None:
        drill.trouble = "; ".join(filter(None, [drill.trouble, drill.breaking.lift()]))


def _legs(drill: Drill) -> None:
    if any(step.what.startswith(f"{GIVE_BACK}: ") for step in drill.work.change.steps):
        drill.trouble = _given_back(drill)
        if drill.trouble:
            return
    if drill.breaking is not None and course_of(drill.breaking.fault) is Course.SURVIVED:
        drill.touched, drill.trouble = True, drill.breaking.watch()
    for leg in drill.legs:
        if drill.trouble:
            return
        ended = drill.notes.last("leg-ended", leg.name)
        if ended is not None and not ended["ok"]:
            drill.trouble = str(ended["trouble"])
            return
        if ended is None:
            by = asked_to_stop(drill.notes.journal, drill.scope)
            begun = leg.kind.hot and drill.notes.first("leg-began", leg.name) is not None
            if drill.scope.context.cancelled.is_set() and not begun:
                # a leg that clients wait for is never left in its middle; between two there is time to stop
                drill.trouble = f"stopped on request{f' of {by}' if by else ''} before {leg.name}"
                return
            drill.trouble = _leg(leg, drill)
        if not drill.trouble and drill.breaking is not None:
            drill.trouble = drill.breaking.after(leg.name)


def _given_back(drill: Drill) -> str:
    """Let the old side serve again, as a leg of its own; why it does not."""
    nothing = Leg(name=GIVE_BACK, kind=LegKind.FAILOVER, sides=drill.field.sides, tasks=())
    kit = Kit(scope=_calm(drill.scope), ground=drill.work.ground, field=drill.field, leg=nothing)
    words = give_back(Crew(kit=kit, notes=drill.notes, again=True))
    drill.touched = True
    given = drill.notes.last("given-back", GIVE_BACK)
    return words if given is None or not given["ok"] else ""


def _leg(leg: Leg, drill: Drill) -> str:
    """Carry out a leg; why it did not end well."""
    scope = _calm(drill.scope) if leg.kind.hot else drill.scope
    kit = Kit(scope=scope, ground=drill.work.ground, field=drill.field, leg=leg, proven=drill.notes.proven(leg.name))
    if drill.breaking is not None and leg.name == "failover":
        kit = replace(kit, cut_off=cuts_off(drill.breaking.fault))
    crew = Crew(kit=kit, notes=drill.notes, again=drill.work.again or drill.work.mode is DrillMode.RETURN)
    if drill.breaking is not None and leg.name == "failover":
        crew.strike, crew.relieve = drill.breaking.strike, drill.breaking.lift
    trouble = ""
    try:
        trouble = run_leg(crew)
    except IsmgrError as problem:
        if not (drill.touched or crew.acted or drill.notes.all("fault-undo")):
            raise
        trouble = f"{leg.name}: {problem.summary}"
    drill.touched = drill.touched or crew.acted or bool(drill.notes.all("fault-undo"))
    return trouble


def _breaking(drill: Drill, stack: ExitStack) -> Breaking | None:
    """The fault of the plan, where there is one that is not the client's own. Let go of when the drill is over."""
    fault = planned_fault(drill.work.change, drill.field.document)
    if fault is None or course_of(fault) is Course.CLIENT:
        return None
    leg = Leg(name="failover", kind=LegKind.FAILOVER, sides=drill.field.sides, tasks=())
    kit = Kit(scope=_calm(drill.scope), ground=drill.work.ground, field=drill.field, leg=leg)
    return stack.enter_context(breaking(drill, fault, kit))


def _calm(scope: Scope) -> Scope:
    """A scope that nobody cancels."""
    return replace(scope, context=replace(scope.context, cancelled=threading.Event()))


def _count(drill: Drill) -> None:
    """Ask the database what it holds of the client's writes."""
    if drill.uncounted or not drill.attempts:
        return
    try:
        drill.held = drill.scope.engines.recovery.probe.held(drill.request, _calm(drill.scope).context)
    except IsmgrError as problem:
        drill.uncounted = f"the writes could not be counted: {problem.summary}"


def _astray(drill: Drill) -> Iterator[str]:
    """Balancers and names that do not lead home, or of which nobody can tell. One that was not reached in a move is
    no obstacle to it, and must not be forgotten."""
    home = next((one for one in drill.legs if one.name == "failback"), None)
    if home is None or not drill.touched or not drill.notes.first("leg-began", home.name):
        return
    kit = Kit(scope=_calm(drill.scope), ground=drill.work.ground, field=drill.field, leg=home)
    for task in home.tasks:
        if ACTS[type(task.step)] is not Act.SWITCH:
            continue
        try:
            with closing(switch_of_all(task, kit)) as verb:
                seen = verb.stage()
        except IsmgrError as problem:
            yield f"{task.name} may not lead to {home.sides.new}: {problem.summary}"
            continue
        if seen.sight is not Sight.DONE:
            yield f"{task.name} does not lead to {home.sides.new} everywhere: {seen.words or seen.sight}"


def _look(drill: Drill) -> tuple[Standing, ...]:
    try:
        return tuple(drill.scope.engines.recovery.standby.look(drill.field.cluster, _calm(drill.scope).context))
    except IsmgrError:
        return ()  # who is not seen is not redundant
