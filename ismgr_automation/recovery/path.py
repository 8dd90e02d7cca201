"""What a RecoveryPlan asks for in one direction: legs of tasks in an order that keeps their needs, and the time that
each leg may cost. Nothing is known here of how a task is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from graphlib import TopologicalSorter

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import Step, always_before, before
from ismgr_automation.estate.recovery import DnsStep, RecoveryPlan, UnfenceStep
from ismgr_automation.estate.resolve import duration


class LegKind(StrEnum):
    """What a leg is for."""

    FAILOVER = "failover"
    SWITCHOVER = "switchover"
    REPROTECT = "reprotect"
    AFTER = "after"

    @property
    def hot(self) -> bool:
        """Whether clients wait until it has ended."""
        return self in {LegKind.FAILOVER, LegKind.SWITCHOVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The direction of a move: hosts and sites, from the old primary to the new one."""

    old: str
    new: str
    old_site: str
    new_site: str

    @property
    def turned(self) -> Sides:
        """The way back."""
        return Sides(old=self.new, new=self.old, old_site=self.new_site, new_site=self.old_site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step of a document, with the names of all that must have ended well before it begins."""

    name: str
    step: Step
    needs: frozenset[str]
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Tasks in an order that keeps their needs; those that need nothing of each other may run together. ``name`` tells
    legs of one drill apart: ``failover``, ``failback``."""

    name: str
    kind: LegKind
    sides: Sides
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The time that a leg may cost. ``chain``: the tasks that one waits for another, from the first to the last, whose
    deadlines add up to the most, where clients may keep the old address of a name for its time to live besides.
    ``kept``: how much of it that is. ``measured``: what the longest chain took in the past, None where one of its tasks
    was never measured."""

    leg: str
    at_most: timedelta
    chain: tuple[str, ...]
    kept: timedelta
    measured: timedelta | None


def legs(plan: RecoveryPlan, mode: DrillMode, sides: Sides, *, at_home: bool = False) -> tuple[Leg, ...]:
    """The legs of a drill on the live service, there and back. ``sides`` lead from home to the other site. A return
    moves nobody where the primary is ``at_home``: then only redundancy is brought back."""
    back = sides.turned
    joining = _without_fence(plan.reprotect)
    home = (
        _leg("failback", LegKind.SWITCHOVER, plan.switchover, back),
        _leg("reprotect-home", LegKind.REPROTECT, joining, back),
        _leg("after-home", LegKind.AFTER, plan.after, back),
    )
    reprotect = _leg("reprotect", LegKind.REPROTECT, plan.reprotect, sides)
    after = _leg("after", LegKind.AFTER, plan.after, sides)
    match mode:
        case DrillMode.SWITCHOVER:
            there = _leg("switchover", LegKind.SWITCHOVER, plan.switchover, sides)
            return (there, _leg("reprotect", LegKind.REPROTECT, joining, sides), after, *home)
        case DrillMode.FAILOVER:
            return (_leg("failover", LegKind.FAILOVER, plan.failover, sides), reprotect, after, *home)
        case DrillMode.ISOLATED:
            return ()
        case DrillMode.RETURN:
            return home[1:] if at_home else (reprotect, *home)
        case DrillMode.RESTORE:
            return ()  # nobody moves


def at_most(plan: RecoveryPlan, mode: DrillMode) -> timedelta:
    """How long all legs of a drill may take by their deadlines."""
    if mode is DrillMode.ISOLATED:
        return duration(plan.bubble.lasts) if plan.bubble is not None else timedelta()
    if mode is DrillMode.RESTORE:
        return duration(plan.backup.deadline) if plan.backup is not None else timedelta()
    nowhere = Sides(old="", new="", old_site="", new_site="")
    return sum((budget(one, {}).at_most for one in legs(plan, mode, nowhere)), timedelta())


def budget(leg: Leg, measured: Mapping[str, timedelta]) -> Budget:
    """The longest chain by deadlines, and the longest by what was measured (by the names of tasks)."""
    kept = {one.name: _kept(leg, one) for one in leg.tasks}
    at_most, chain = _longest(leg.tasks, {one.name: one.deadline + kept[one.name] for one in leg.tasks})
    known = None
    if all(one.name in measured for one in leg.tasks):
        known, _ = _longest(leg.tasks, measured)
    return Budget(
        leg=leg.name,
        at_most=at_most,
        chain=chain,
        kept=sum((kept[one] for one in chain), timedelta()),
        measured=known,
    )


def _kept(leg: Leg, task: Task) -> timedelta:
    """How long clients may go where a name led before, after it was pointed elsewhere in a move."""
    if not leg.kind.hot or not isinstance(task.step, DnsStep):
        return timedelta()
    return timedelta(seconds=task.step.ttl)


def _without_fence(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps after a planned move: nobody was fenced, so nobody is let out, and nobody waits for it."""
    out = {one.name for one in steps if isinstance(one, UnfenceStep)}
    kept = [one for one in steps if one.name not in out]
    return tuple(one.model_copy(update={"needs": tuple(name for name in one.needs if name not in out)}) for one in kept)


def _leg(name: str, kind: LegKind, steps: Sequence[Step], sides: Sides) -> Leg:
    needs = before(steps)
    by_name = {one.name: one for one in steps}
    place = {one.name: index for index, one in enumerate(steps)}
    sorter = TopologicalSorter({one: sorted(needs[one], key=place.__getitem__) for one in by_name})
    order = sorted(sorter.static_order(), key=lambda one: (len(always_before(steps, one)), place[one]))
    tasks = [
        Task(name=one, step=by_name[one], needs=needs[one], deadline=duration(by_name[one].deadline)) for one in order
    ]
    return Leg(name=name, kind=kind, sides=sides, tasks=tuple(tasks))


def _longest(tasks: Sequence[Task], takes: Mapping[str, timedelta]) -> tuple[timedelta, tuple[str, ...]]:
    """The chain that takes longest; ``tasks`` are in order."""
    best: dict[str, tuple[timedelta, tuple[str, ...]]] = {}
    for one in tasks:
        first = max((best[name] for name in one.needs), key=lambda found: found[0], default=(timedelta(), ()))
        best[one.name] = (first[0] + takes[one.name], (*first[1], one.name))
    return max(best.values(), key=lambda found: found[0], default=(timedelta(), ()))
