"""What is left of faults on the hosts of an estate, from whatever run, and how it is taken away: by what the hosts know
of it themselves, and by the journals of drills. No fault that keeps an old primary down is lifted beside a new one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import dropwhile

from ismgr_automation.converge.drill import name_of
from ismgr_automation.converge.drill_fault import harmed
from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_verbs import Kit, fence_of, fence_request
from ismgr_automation.converge.ground import Ground, whole_ground
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.estate.recovery import FenceWay
from ismgr_automation.planning.plan import Purpose
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.faults import Faults, Harm
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Sight
from ismgr_automation.ports.runs import Run, RunState
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.faults import may_follow
from ismgr_automation.recovery.path import Leg, LegKind
from ismgr_automation.recovery.rules import Act, Situation, refusal

RUNS = 200
"""How many runs back journals are read."""
_POWER = frozenset({Harm.POWER_OFF, Harm.STALE_PRIMARY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What is left on the hosts of one RecoveryPlan, what of it was lifted, and what could not be, a sentence each."""

    plan: str
    left: tuple[str, ...]
    lifted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A drill of a plan with its journal, which is empty where another machine has it."""

    run: Run
    entries: Sequence[JsonObject]


def leftovers(scope: Scope, name: str = "", *, lift: bool = False) -> tuple[Leftovers, ...]:
    """What is left of faults, for one RecoveryPlan or for all that have any; with ``lift`` it is taken away first.
    Raises ``InputError``, ``EngineError``."""
    faults = scope.engines.recovery.faults
    names = [name] if name else sorted(key for key, one in scope.estate.recoveries.items() if one.faults)
    if faults is None or not names:
        return ()
    ground = whole_ground(scope)
    return tuple(_of_a_plan(scope, ground, faults, one, lift=lift) for one in names)


def _of_a_plan(scope: Scope, ground: Ground, faults: Faults, name: str, *, lift: bool) -> Leftovers:
    field = field_of(scope, ground, name)
    leg = Leg(name="failover", kind=LegKind.FAILOVER, sides=field.sides, tasks=())
    kit = Kit(scope=scope, ground=ground, field=field, leg=leg)
    hosts = dict.fromkeys((*(host for one in field.document.faults for host in harmed(one, kit)), field.sides.old))
    fleet = at_hand(scope, ground.fleet, hosts)
    lifted: list[str] = []
    kept: list[str] = []
    past = _past(kit) if lift else ()
    for undo in _undos(kit, faults, fleet, past) if lift else ():
        what = f"{undo['do']} of {undo['run']}"
        why = _lifted(undo, kit, faults, fleet, past)
        if why:
            kept.append(f"{what}: {why}")
        else:
            lifted.append(what)
    left = tuple(faults.left(fleet, scope.context))
    return Leftovers(plan=name, left=left, lifted=tuple(lifted), kept=tuple(kept))


def _past(kit: Kit) -> tuple[Past, ...]:
    """The drills of a plan, the oldest first. Raises ``PlanFileError`` for a run whose plan was altered."""
    engines, name = kit.scope.engines, kit.field.document.name
    return tuple(
        Past(run=one, entries=engines.recovery.journal(one.id).entries())
        for one in reversed(engines.runs.runs(kit.scope.environment_name, RUNS))
        if one.purpose == Purpose.DRILL and name_of(read(one.plan, f"run {one.id}")) == name
    )


def _undos(kit: Kit, faults: Faults, fleet: Fleet, past: Sequence[Past]) -> tuple[JsonObject, ...]:
    """Each once: what the hosts say, then what journals say that no other entry takes back."""
    found = [*faults.found(fleet, kit.scope.context), *_journaled(kit.field, past)]
    return tuple({digest(one): one for one in found}.values())


def _journaled(field: Field, past: Sequence[Past]) -> Iterator[JsonObject]:
    names = {one.name for one in field.document.faults}
    for drill in reversed(past):
        open_undo: JsonObject | None = None
        for entry in drill.entries:
            if entry["what"] == "fault-undo" and entry["fault"] in names and isinstance(entry["undo"], dict):
                open_undo = entry["undo"]
            elif entry["what"] == "fault-lifted" and entry["ok"]:
                open_undo = None
        if open_undo is not None:
            yield open_undo


def _lifted(undo: JsonObject, kit: Kit, faults: Faults, fleet: Fleet, past: Sequence[Past]) -> str:
    """Why it is not lifted; empty where it is."""
    since = tuple(dropwhile(lambda one: one.run.id != undo["run"], past))
    try:
        refused = refusal(Act.LIFT, _situation(undo, kit, since))
        if refused is not None:
            return f"the rule {refused.rule} says no: {refused.why}; {_way_out(kit, since)}"
        acted = faults.lift(undo, fleet, kit.scope.context)
    except IsmgrError as problem:
        return problem.summary
    return "" if acted.ok else acted.words or "it did not end well"


def _way_out(kit: Kit, since: Sequence[Past]) -> str:
    """What somebody can do whose fault is not lifted."""
    name, new = kit.field.document.name, kit.field.sides.new
    home = f"`ismgr drill return {name}` brings the service home"
    if since and since[0].run.state is RunState.RUNNING:
        home = f"`ismgr drill resume {since[0].run.id}` goes on with its drill, and {home}"
    return f"{home}; where nobody can tell what {new} is, see to it that it can be reached, and ask again"


def _situation(undo: JsonObject, kit: Kit, since: Sequence[Past]) -> Situation:
    engines, sides = kit.scope.engines.recovery, kit.field.sides
    standings = {one.host: one for one in engines.standby.look(kit.field.cluster, kit.scope.context)}
    asked = may_follow(entry for one in since for entry in one.entries)
    if not (since and since[0].entries):
        # its journal is elsewhere: a server that is down may have been a primary before
        asked = standings[sides.new].part is not Part.STANDBY
    fence = fence_of(kit.field.document)
    up: Sequence[str] = ()
    if str(undo["do"]) not in _POWER and fence.way is FenceWay.NETWORK:
        with closing(engines.fences.fence(fence_request(fence, kit), kit.scope.context)) as verb:
            up = [sides.old] if verb.stage().sight is Sight.DONE else []
    raised = frozenset(up)
    return Situation(
        kind=LegKind.FAILOVER,
        sides=sides,
        standings=standings,
        raised=raised,
        confirmed=raised,
        asked=frozenset({sides.new}) if asked else frozenset(),
    )
