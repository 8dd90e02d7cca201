"""A drill in isolation, carried out: the gateways are closed before anything is copied, and opened only when nothing of
the clone is left. Production is watched by the same client as in a live drill, and nobody works on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ismgr_automation.converge.bubble_field import BubbleField, bubble_of
from ismgr_automation.converge.drill_notes import Ended
from ismgr_automation.converge.outcome import briefly
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.errors import EngineError, IsmgrError
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.isolation import Bubble, Clone, CloneState, Counted, Knocks
from ismgr_automation.ports.recovery import Acted, Outcome, RunningProbe, Sight
from ismgr_automation.recovery.isolated import LEG, CheckTold, Inside, Step, refusal

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill


@dataclass(slots=True, kw_only=True)
class Trial:
    """One clone on its way, and what is known of it."""

    drill: Drill
    probe: RunningProbe
    where: BubbleField
    bubble: Bubble
    clone: Clone
    state: CloneState = CloneState.UNKNOWN
    counted: Counted | None = None
    proven: bool = False

    @property
    def calm(self) -> Context:
        """A context that nobody cancels: what was begun is taken away all the same."""
        return replace(self.drill.scope.context, cancelled=threading.Event())

    def ended(self, step: Step) -> bool:
        """Whether the journal says that a step has ended well."""
        last = next((one for one in reversed(self.drill.notes.all("task-ended", LEG)) if one["task"] == step), None)
        return last is not None and bool(last["ok"])

    def begun(self, step: Step) -> bool:
        """Whether the journal says that a step was begun."""
        return any(one["task"] == step for one in self.drill.notes.all("task-began", LEG))

    def inside(self) -> Inside:
        """What is known now."""
        return Inside(counted=self.counted, proven=self.proven, clone=self.state)


def try_isolated(drill: Drill, probe: RunningProbe) -> None:
    """Try a clone, and take it away; what went wrong is in ``drill.trouble``, all else in its journal. Raises
    ``IsmgrError`` while nothing was begun."""
    if not drill.touched and (drill.unsteady or drill.trouble):
        return
    where = bubble_of(drill.scope, drill.work.ground, drill.field)
    calm = replace(drill.scope.context, cancelled=threading.Event())
    with ExitStack() as stack:
        bubble = where.engines.isolation.bubble(where.bubble, calm)
        stack.callback(bubble.close)
        clone = where.engines.clones.clone(where.clone, drill.scope.context)
        stack.callback(clone.close)
        trial = Trial(drill=drill, probe=probe, where=where, bubble=bubble, clone=clone)
        try:
            drill.trouble = drill.trouble or _ready(trial)
            if drill.trouble and not drill.touched:
                return
            drill.trouble = drill.trouble or _there(trial)
        except Exception as problem:
            if not drill.touched:
                raise
            # whatever happens, the clone must be taken away
            drill.trouble = briefly(problem, drill.scope)
        left = _back(trial)
        if left and not drill.trouble:
            drill.trouble = left
        drill.notes.tried({"what": "leg-ended", "leg": LEG, "ok": not drill.trouble, "trouble": drill.trouble})


def _ready(trial: Trial) -> str:
    """Connect to all, and write down how it was; why it cannot begin, or go on."""
    drill, notes = trial.drill, trial.drill.notes
    seen = trial.bubble.stage()
    readings = trial.clone.stage()
    trial.state = trial.clone.state()
    if notes.first("leg-began", LEG) is not None:
        return _resumed(trial, closed=seen.sight is Sight.DONE)
    if trouble := readings.get("trouble") or (seen.words if seen.sight is Sight.UNKNOWN else ""):
        return f"it was not begun: {trouble}"
    standings = drill.scope.engines.recovery.standby.look(drill.field.cluster, trial.calm)
    notes.wrote(
        {
            "what": "leg-began",
            "leg": LEG,
            "standings": [asdict(one) for one in standings],
            "readings": dict(readings),
        }
    )
    drill.touched = True
    return ""


def _resumed(trial: Trial, *, closed: bool) -> str:
    """What a drill that goes on finds. A network that was closed and is not any more has lost its counters with it."""
    ended = trial.drill.notes.first("leg-ended", LEG)
    if ended is not None:
        return str(ended["trouble"])
    if closed or not trial.ended(Step.ISOLATE) or trial.begun(Step.OPEN):
        return ""
    words = "the gateways were closed, and were found open when the drill went on"
    trial.drill.notes.wrote({"what": "breached", "leg": LEG, "words": words})
    return words


def _there(trial: Trial) -> str:
    """Every step up to the checks; the first trouble ends it."""
    if trial.begun(Step.REMOVE):
        return ""
    return (
        _step(trial, Step.ISOLATE, lambda: _shut(trial))
        or _clone_and_prove(trial)
        or _step(trial, Step.PROMOTE, trial.clone.promote)
        or _step(trial, Step.CHECK, lambda: _check(trial))
    )


def _clone_and_prove(trial: Trial) -> str:
    """While the copy is made there is time to try from inside whether the walls hold; it is not promoted before that
    was seen."""
    _count(trial)
    knocks = trial.bubble.knock() if refusal(Step.PROVE, trial.inside()) is None else _nobody_knocks
    before = trial.counted.knocked if trial.counted is not None else 0
    troubles = (
        _step(trial, Step.CLONE, lambda: _take(trial)),
        _step(trial, Step.PROVE, lambda: _prove(trial, knocks(), before)),
    )
    return "; ".join(filter(None, troubles))


def _nobody_knocks() -> Knocks:
    return Knocks(tried=(), began_ns=0, ended_ns=0)


def _step(trial: Trial, step: Step, work: Callable[[], Acted]) -> str:
    """A step, unless somebody has stopped the drill, or it is found done."""
    if trial.drill.scope.context.cancelled.is_set():
        return f"stopped on request before {step}"
    if step is not Step.ISOLATE:
        _count(trial)
    if _found_done(trial, step):
        return ""
    trouble = _done(trial, step, work)
    return f"{step}: {trouble}" if trouble else ""


def _found_done(trial: Trial, step: Step) -> bool:
    """Whether a drill that goes on finds a step done: by what its world says, not by its journal."""
    match step:
        case Step.CLONE:
            done = _is_ours(trial)
        case Step.PROMOTE:
            done = trial.state is CloneState.PROMOTED
        case Step.CHECK:
            done = trial.ended(step)
        case Step.ISOLATE | Step.PROVE | Step.REMOVE | Step.OPEN:
            done = False
    if done:
        _note(trial, step, Acted.at(trial.drill.notes.clock(), ok=True, words="it was done already"), found=True)
    return done


def _back(trial: Trial) -> str:
    """Take the clone away, count for the last time, and open the gateways; what was left. Done also where the journal
    takes no word any more."""
    trial.state = trial.clone.state()
    trouble = _done(trial, Step.REMOVE, trial.clone.remove, insist=True)
    trial.state = trial.clone.state()
    _count(trial)
    if trial.counted is not None and not trial.begun(Step.OPEN):
        trial.drill.notes.tried({"what": "counted", "leg": LEG, **asdict(trial.counted)})
    opened = _done(trial, Step.OPEN, trial.bubble.lift, insist=True)
    return "; ".join(f"{step}: {why}" for step, why in ((Step.REMOVE, trouble), (Step.OPEN, opened)) if why)


def _done(trial: Trial, step: Step, work: Callable[[], Acted], *, insist: bool = False) -> str:
    """One step, with both of its ends in the journal; why it did not end well, or nothing."""
    notes = trial.drill.notes
    try:
        refused = refusal(step, trial.inside())
        if refused is not None:
            _note(trial, step, Acted.at(trial.drill.notes.clock(), ok=False, words=refused.why), rule=refused.rule)
            return f"the rule {refused.rule} says no: {refused.why}"
        entry = {"what": "task-began", "leg": LEG, "task": str(step), "action": str(step)}
        (notes.tried if insist else notes.wrote)(dict(entry))
        acted = work()
        _note(trial, step, acted)
    except Exception as problem:  # noqa: BLE001  whatever happens, the clone must be taken away
        words = briefly(problem, trial.drill.scope)
        with suppress(EngineError):
            _note(trial, step, Acted.at(trial.drill.notes.clock(), ok=False, words=words))
        return words
    return "" if acted.ok else acted.words or "it did not end well"


def _shut(trial: Trial) -> Acted:
    acted = trial.bubble.shut()
    _count(trial)
    return acted


def _prove(trial: Trial, knocks: Knocks, before: int) -> Acted:
    """From inside nobody reaches production, and it is the gateways' rules that met the tries: a way that never was
    proves nothing."""
    _count(trial)
    met = trial.counted.knocked - before if trial.counted is not None else 0
    places = {one.place: one.met for one in knocks.tried}
    trial.drill.notes.wrote({"what": "tried", "leg": LEG, "places": dict(places), "knocked": met})
    reached = [f"{one.place} ({one.met})" for one in knocks.tried if one.reached]
    trial.proven = bool(places) and not reached and met > 0
    words = f"production was reached from inside: {', '.join(reached)}" if reached else ""
    if not words and not trial.proven:
        words = "no try from inside was met by the gateways' rules: they were not seen to bite"
    said = words or f"{len(places)} places of production cannot be reached, {met} packets were dropped"
    return Acted(ok=not words, began_ns=knocks.began_ns, ended_ns=knocks.ended_ns, words=said)


def _take(trial: Trial) -> Acted:
    """Copy and start. How much had been acknowledged before is written down first: the clone must have it."""
    acked = [one.number for one in trial.probe.attempts() if one.outcome is Outcome.ACKED]
    last = acked[-1] if acked else 0
    trial.drill.notes.wrote({"what": "copying", "leg": LEG, "number": last, "acked": len(acked)})
    acted = trial.clone.take()
    trial.state = trial.clone.state()
    return acted


def _is_ours(trial: Trial) -> bool:
    """Whether a clone that is there is that of this drill, and whole."""
    known = trial.drill.notes.first("copying", LEG) is not None
    return known and trial.state in {CloneState.STANDBY, CloneState.PROMOTED}


def _check(trial: Trial) -> Acted:
    """Ask the clone what must be true of it. All is asked, also after one went wrong."""
    began = trial.drill.notes.clock()
    _rows(trial)
    found = [*_queries(trial), *_suites(trial)]
    for one in found:
        trial.drill.notes.wrote({"what": "checked", "leg": LEG, **asdict(one)})
    bad = [one.name for one in found if not one.ok]
    words = f"{', '.join(bad)} did not pass" if bad else f"{len(found)} checks passed"
    # what a check found is judged, and is no reason not to end the drill as planned
    return Acted(ok=True, began_ns=began, ended_ns=trial.drill.notes.clock(), words=words)


def _rows(trial: Trial) -> None:
    """How many of the production client's rows the clone has, of those acknowledged before the copy began."""
    probe, known = trial.drill.field.document.probe, trial.drill.notes.last("copying", LEG)
    if known is None:
        return
    query = (
        f"SELECT count(*), coalesce(max(number), 0) FROM {probe.table} "  # noqa: S608  an identifier by its pattern
        f"WHERE run = '{trial.drill.request.run}' AND number <= {int(str(known['number']))}"
    )
    answer = trial.clone.ask(probe.database, query)
    rows, _, newest = answer.rows.partition("|")
    held = {"rows": int(rows), "newest": int(newest)} if answer.ok else {"rows": 0, "newest": 0}
    trial.drill.notes.wrote({"what": "held", "leg": LEG, **held, "words": answer.words})


def _queries(trial: Trial) -> Iterator[CheckTold]:
    for one in trial.where.document.checks:
        answer = trial.clone.ask(one.database or trial.drill.field.document.probe.database, one.query)
        expected = one.expect.strip()
        ok = answer.ok and answer.rows == expected
        yield CheckTold(name=one.name, ok=ok, expected=expected, found=answer.rows, words=answer.words)


def _suites(trial: Trial) -> Iterator[CheckTold]:
    ground = trial.drill.work.ground
    for group in trial.where.document.verify:
        checks = verify_group(trial.drill.scope, group, ground.fleet, ground.states, (trial.where.clone.spare,))
        bad = failed_checks(checks)
        words = f"{len(bad)} of {len(checks)} checks did not pass, first {bad[0].check}" if bad else ""
        words = words or ("" if checks else f"group/{group} checks nothing on {trial.where.clone.spare}")
        yield CheckTold(name=f"group/{group}", ok=not words, words=words)


def _count(trial: Trial) -> None:
    """What the gateways have counted so far; None where they do not say."""
    try:
        trial.counted = trial.bubble.count()
    except IsmgrError:
        trial.counted = None


def _note(trial: Trial, step: Step, acted: Acted, *, rule: str = "", found: bool = False) -> None:
    one = Ended(leg=LEG, task=str(step), action=str(step), acted=acted, found=found, rule=rule)
    (trial.drill.notes.tried if step in {Step.REMOVE, Step.OPEN} else trial.drill.notes.wrote)(one.entry)
    one.report(trial.drill.scope.context)
