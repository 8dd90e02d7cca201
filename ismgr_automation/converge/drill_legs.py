"""One leg of a drill: its verbs are made ready all at once, then each is done as soon as those that it waits for are, a
safety rule is asked before each, and both ends of each are on the disk before anything else happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace

from ismgr_automation.converge.drill_back import give_back
from ismgr_automation.converge.drill_notes import Ended, Notes, span
from ismgr_automation.converge.drill_verbs import ACTS, Kit, verb_of, witness_of
from ismgr_automation.converge.outcome import briefly
from ismgr_automation.converge.parallel import each
from ismgr_automation.core.errors import EngineError
from ismgr_automation.ports.recovery import Acted, Sight, Standing, Verb, Witness
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.path import Task
from ismgr_automation.recovery.rules import Act, Situation, refusal

COLD = frozenset({Act.UNFENCE, Act.REJOIN, Act.REINSTATE})
"""Before these there is time to look at every member anew."""

STAGES = 3
"""How often verbs are made ready before a leg is given up that nobody has begun."""


@dataclass(slots=True, kw_only=True)
class Crew:
    """All that takes part in one leg. ``again``: what it asks for may have been done by somebody else. ``strike``
    breaks something once all are ready, and says why nothing may follow; ``relieve`` mends it before a way back."""

    kit: Kit
    notes: Notes
    again: bool
    strike: Callable[[], str] = str
    relieve: Callable[[], str] = str
    acted: bool = False
    """Whether anything was begun."""
    standings: dict[str, Standing] = field(default_factory=dict)
    raised: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    demoted: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    was_streaming: bool = False
    lag_at_start: int = 0
    verbs: dict[str, Verb] = field(default_factory=dict)
    witnesses: dict[str, Witness] = field(default_factory=dict)

    def clock(self) -> int:
        """Nanoseconds, as verbs and probe tell them."""
        return self.notes.clock()

    def situation(self) -> Situation:
        """What is known now."""
        return Situation(
            kind=self.kit.leg.kind,
            sides=self.kit.leg.sides,
            standings=dict(self.standings),
            raised=frozenset(self.raised),
            confirmed=frozenset(self.confirmed),
            demoted=frozenset(self.demoted),
            was_streaming=self.was_streaming,
            lag_allowed=self.kit.field.document.ready.lag,
            lag_at_start=self.lag_at_start,
        )

    def way_back(self) -> Situation:
        """What is known before the old side serves again, with what the journal says of promotions: it is read then
        only, and not while clients wait for a step."""
        return replace(self.situation(), asked=frozenset(self._asked()), held=frozenset(self.held))

    def _asked(self) -> Iterator[str]:
        """Whose promotion was begun, by this process or one before it. What a drill before this one had begun, and did
        not see the end of, its journal alone knows: then it may be so."""
        leg = self.kit.leg
        begun = any(one["action"] == "promote" for one in self.notes.all("task-began", leg.name))
        if begun or not leg.tasks:
            yield leg.sides.new

    def look(self) -> None:
        """Every member, as it is now."""
        engines, context = self.kit.scope.engines.recovery, self.kit.scope.context
        self.standings = {one.host: one for one in engines.standby.look(self.kit.field.cluster, context)}


def run_leg(crew: Crew) -> str:
    """Carry out a leg; why it did not end well, or nothing. Raises ``IsmgrError`` while nothing of it was begun, and
    ``EngineError`` where its end cannot be written down."""
    leg, pause = crew.kit.leg, crew.kit.scope.engines.recovery.pause
    for left in reversed(range(STAGES)):
        with ExitStack() as stack:
            not_ready = _stage(crew, stack)
            if not not_ready or crew.notes.first("leg-began", leg.name) is not None:
                _open(crew)
                trouble = _carry_out(crew)
                break
        # nobody waits yet: on a busy network who did not answer in time may do so now
        if not left or threading.Event().wait(pause.total_seconds()):
            return f"{leg.name} was not begun: {not_ready}"
    crew.notes.wrote({"what": "leg-ended", "leg": leg.name, "ok": not trouble, "trouble": trouble})
    return trouble


def _carry_out(crew: Crew) -> str:
    """All tasks; and where clients wait and one of them went wrong, the way back. Who resumes a way back does not try
    the way there again."""
    leg = crew.kit.leg
    broken = crew.notes.last("giving-back", leg.name)
    trouble = str(broken["trouble"]) if broken is not None else crew.strike() or _tasks(crew)
    if not trouble or not leg.kind.hot:
        return trouble
    if broken is None:
        crew.notes.tried({"what": "giving-back", "leg": leg.name, "trouble": trouble})
    return "; ".join(filter(None, [trouble, crew.relieve(), give_back(crew)]))


def _stage(crew: Crew, stack: ExitStack) -> str:
    """Make every verb ready, and every witness; who is not, in words."""
    kit = crew.kit
    for task in kit.leg.tasks:
        verb = crew.verbs[task.name] = verb_of(task, kit)
        stack.callback(verb.close)
        witness = witness_of(task, kit)
        if witness is not None:
            crew.witnesses[task.name] = witness
            stack.callback(witness.close)
    actors: list[tuple[str, Verb | Witness]] = [*crew.verbs.items(), *crew.witnesses.items()]
    found = each(actors, lambda one: one[1].stage(), workers=len(actors))
    if crew.witnesses and not kit.proven:
        # once a fence stands nobody can prove any more that it is the fence that keeps them out
        took = {name: took for seen in found[len(crew.verbs) :] for name, took in seen.readings.items()}
        crew.notes.wrote({"what": "witnesses", "leg": kit.leg.name, "milliseconds": took})
    # cold verbs find what they need when their turn comes: a machine that is off cannot be made ready
    bad = [
        f"{name}: {seen.words}"
        for (name, _), seen in zip(actors, found, strict=True)
        if seen.sight is Sight.UNKNOWN and kit.leg.kind.hot
    ]
    return "; ".join(bad)


def _open(crew: Crew) -> None:
    """Look at the members, and write down how it was when the leg began. Who resumes goes by what was written then."""
    leg, known = crew.kit.leg, crew.notes.first("leg-began", crew.kit.leg.name)
    crew.look()
    if known is None:
        new = crew.standings.get(leg.sides.new)
        crew.was_streaming, crew.lag_at_start = bool(new and new.streaming), new.lag_bytes if new is not None else 0
        crew.notes.wrote(
            {
                "what": "leg-began",
                "leg": leg.name,
                "streaming": crew.was_streaming,
                "lag": crew.lag_at_start,
                "standings": [asdict(one) for one in crew.standings.values()],
            }
        )
        return
    crew.again = True
    crew.was_streaming, crew.lag_at_start = bool(known["streaming"]), int(str(known["lag"]))


def _tasks(crew: Crew) -> str:
    """Each task as soon as those that it waits for are done; the first trouble ends it when all that runs has ended."""
    todo = list(crew.kit.leg.tasks)
    done: set[str] = set()
    running: dict[Future[str], Task] = {}
    trouble: list[str] = []
    with ThreadPoolExecutor(max_workers=len(todo), thread_name_prefix="ismgr-drill") as pool:
        while running or (todo and not trouble):
            for task in [one for one in todo if one.needs <= done and not trouble]:
                todo.remove(task)
                running[pool.submit(_task, task, crew)] = task
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                task, why = running.pop(one), one.result()
                if why:
                    trouble.append(f"{crew.kit.leg.name}: {task.name}: {why}")
                else:
                    done.add(task.name)
    return "; ".join(trouble)


def _task(task: Task, crew: Crew) -> str:
    """One task, with both of its ends in the journal; why it did not end well, or nothing."""
    act, verb = ACTS[type(task.step)], crew.verbs[task.name]
    try:
        if act in COLD:
            crew.look()
        if crew.again and _found_done(task, act, verb, crew):
            return ""
        refused = refusal(act, crew.situation())
        if refused is not None:
            _ended(task, crew, Acted.at(crew.clock(), ok=False, words=refused.why), rule=refused.rule)
            return f"the rule {refused.rule} says no: {refused.why}"
        crew.notes.wrote({"what": "task-began", "leg": crew.kit.leg.name, "task": task.name, "action": task.step.do})
        crew.acted = True
        if task.name in crew.witnesses:
            crew.witnesses[task.name].watch()
        acted = verb.act()
        _ended(task, crew, acted)
        if not acted.ok:
            return acted.words or "it did not end well"
        _learn(act, crew)
        return _confirm(task, crew)
    except Exception as problem:  # noqa: BLE001  whatever happens, clients must not be left waiting
        words = briefly(problem, crew.kit.scope)
        with suppress(EngineError):
            _ended(task, crew, Acted.at(crew.clock(), ok=False, words=words))
        return words


def _found_done(task: Task, act: Act, verb: Verb, crew: Crew) -> bool:
    """Whether the world is as the task would leave it already. A fence that is up must still be confirmed."""
    seen = verb.observe()
    if seen.sight is not Sight.DONE:
        return False
    _learn(act, crew)
    if _confirm(task, crew):
        return False
    _ended(task, crew, Acted.at(crew.clock(), ok=True, words=seen.words or "it was done already"), found=True)
    return True


def _learn(act: Act, crew: Crew) -> None:
    """What is known after an act that ended well, without another look."""
    old, new = crew.kit.leg.sides.old, crew.kit.leg.sides.new
    match act:
        case Act.FENCE:
            crew.raised.add(old)
        case Act.DEMOTE:
            crew.demoted.add(old)
            crew.standings[old] = replace(crew.standings[old], part=Part.DOWN, writable=False)
        case Act.PROMOTE:
            crew.standings[new] = replace(crew.standings[new], part=Part.PRIMARY, writable=True)
        case Act.UNFENCE:
            crew.raised.discard(old)
            crew.confirmed.discard(old)
        case Act.REJOIN | Act.SWITCH | Act.REINSTATE | Act.LIFT | Act.OTHER:
            pass


def _confirm(task: Task, crew: Crew) -> str:
    """Have somebody else look at a fence."""
    witness = crew.witnesses.get(task.name)
    if witness is None:
        return ""
    began = crew.clock()
    found = witness.confirm()
    crew.notes.wrote(
        {
            "what": "confirmed",
            "leg": crew.kit.leg.name,
            "task": task.name,
            "ok": found.ok,
            "by": found.by,
            "words": found.words,
            **span(began, found.ended_ns or crew.clock()),
        }
    )
    if found.ok:
        crew.confirmed.add(crew.kit.leg.sides.old)
        return ""
    return f"{found.by} does not confirm it: {found.words}"


def _ended(task: Task, crew: Crew, acted: Acted, *, rule: str = "", found: bool = False) -> None:
    leg = crew.kit.leg.name
    one = Ended(leg=leg, task=task.name, action=task.step.do, acted=acted, found=found, rule=rule)
    crew.notes.wrote(one.entry)
    one.report(crew.kit.scope.context)
