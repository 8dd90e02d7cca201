"""Many random schedules of faults and kills over drills in memory: whatever happens, never two who take writes, never a
write that the old side confirms after a promotion, and never a promotion that was not earned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from ismgr_automation.converge.drill_unit import DrillWork, apply_drill
from ismgr_automation.converge.ground import Ground, whole_ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.memory import Killed, MemoryDrillJournal, MemoryRecoveryWorld, MemoryWorldProbe
from ismgr_automation.ports.recovery import Outcome
from tests.drills import AWAY, BY_NETWORK, HOME, Drills, faulty_drills, fence_by_network, is_home, plan

SCHEDULES = 1000
MOST_FAULTS = 4
CALLS = 60
"""About how many calls and journal entries a whole drill makes."""


def die(_world: MemoryRecoveryWorld) -> None:
    raise Killed


def lapse(world: MemoryRecoveryWorld) -> None:
    """The hosts mend what the drill has broken."""
    for name, one in tuple(world.damage.broken.items()):
        if one.mend():
            del world.damage.broken[name]


BROKEN_FIRST = {
    True: ("", "", "cut", "cut-out", "dark", "frozen", "rolling", "readonly"),
    False: ("", "", "cut", "cut-out", "frozen", "rolling", "readonly"),
}
"""What a drill of a failover breaks first, by whether its fence is one by power."""
OF_A_FAULT = 30
"""And so many more calls and entries with a fault."""

FAULTS: Mapping[str, Callable[[MemoryRecoveryWorld], object]] = {
    "the controller is killed": die,
    "the line between the sites is cut": lambda world: world.part([HOME], [AWAY]),
    "a balancer loses home": lambda world: world.part(["lb1"], [HOME]),
    "all lines carry again": lambda world: world.heal(),
    "home crashes": lambda world: world.kill(HOME),
    "away crashes": lambda world: world.kill(AWAY),
    "home freezes": lambda world: world.freeze(HOME),
    "home goes on": lambda world: world.thaw(HOME),
    "away freezes": lambda world: world.freeze(AWAY),
    "away goes on": lambda world: world.thaw(AWAY),
    "home loses its power": lambda world: world.power_off(HOME),
    "the BMC of home dies": lambda world: world.dead_bmcs.add(HOME),
    "the fence of home lies": lambda world: world.liars.add(HOME),
    "home cannot be managed": lambda world: world.unmanaged.add(HOME),
    "away cannot be managed": lambda world: world.unmanaged.add(AWAY),
    "a balancer cannot be managed": lambda world: world.unmanaged.add("lb1"),
    "nobody can be managed": lambda world: world.unmanaged.update({HOME, AWAY, "lb1", "lb2"}),
    "all can be managed": lambda world: world.unmanaged.clear(),
    "replication is slow": lambda world: setattr(world, "lag", 80),
    "the fault of the drill lifts itself": lapse,
    "the disk of away is read-only": lambda world: setattr(world.members[AWAY], "readonly", True),
}


PLANNED = (DrillMode.SWITCHOVER, "")


@dataclass(slots=True)
class Schedule:
    """What happens at which call, counted over all processes of one drill."""

    world: MemoryRecoveryWorld
    at: dict[int, list[str]]
    journals: list[MemoryDrillJournal] = field(default_factory=list)
    """The last one is that of the drill that is being done."""
    unearned: list[str] = field(default_factory=list)
    """Promotions that nothing in the journal allows."""
    count: int = 0
    happened: list[str] = field(default_factory=list)

    def tell(self, call: str) -> None:
        """Something was asked or written down."""
        self.count += 1
        for name in self.at.pop(self.count, ()):
            self.happened.append(f"{call}: {name}")
            FAULTS[name](self.world)
        verb, _, host = call.partition(" ")
        if verb == "promote" and host in self.world.members and not self.world.members[host].primary:
            self.unearned += [] if earned(self.journals[-1].lines) else [call]


@dataclass(frozen=True, slots=True)
class Telling(MemoryDrillJournal):
    """A journal before and after whose every write something may happen."""

    tell: Callable[[str], None] = print

    def write(self, entry: Mapping[str, object]) -> None:
        """Keep it."""
        self.tell(f"before write {entry['what']}")
        MemoryDrillJournal.write(self, dict(entry))
        self.tell(f"after write {entry['what']}")


@dataclass(slots=True)
class Stage:
    """An estate that was read once, for many worlds."""

    site: Drills
    ground: Ground
    changes: dict[tuple[DrillMode, str], object]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    return [stage(tmp_path_factory.mktemp("power")), stage(tmp_path_factory.mktemp("network"), BY_NETWORK)]


def stage(folder: Path, edit: tuple[str, str] | None = None) -> Stage:
    site = faulty_drills(folder)
    if edit is not None:
        fence_by_network(site)
    asked = [(DrillMode.FAILOVER, one) for one in BROKEN_FIRST[edit is None]]
    changes = {(mode, fault): plan(site, mode, fault=fault).changes[0] for mode, fault in {*asked, PLANNED}}
    return Stage(site, whole_ground(site.scope()), changes)


def scope_over(site: Drills, scope: Scope, schedule: Schedule, run: str) -> Scope:
    """The estate over a fresh world."""
    # a client for each world
    site.client = MemoryWorldProbe(world=schedule.world, every=100, look=timedelta(seconds=10))
    schedule.journals.append(Telling(site.folder, tell=schedule.tell))
    recovery = replace(site.recovery(), journal=lambda _run: schedule.journals[-1])
    upkeep = site.upkeep(scope.estate)
    engines = replace(scope.engines, recovery=recovery, upkeep=upkeep)
    return replace(scope, engines=engines, context=replace(scope.context, run=run))


def earned(journal: Sequence[JsonObject]) -> bool:
    """Whether somebody else has confirmed a fence, or a member was stopped cleanly, in the leg that is being done."""
    began = max(place for place, one in enumerate(journal) if one["what"] == "leg-began")
    leg = journal[began]["leg"]
    done = [one for one in journal if one.get("leg") == leg]
    return any(
        (one["what"] == "confirmed" and one["ok"])
        or (one["what"] == "task-ended" and one["action"] == "demote" and one["ok"])
        for one in done
    )


def processes(stage: Stage, kind: tuple[DrillMode, str], scope: Scope, schedule: Schedule) -> Iterator[str]:
    """A drill, resumed as often as its controller is killed, and a way home."""
    asked = DrillWork(change=stage.changes[kind], ground=stage.ground, mode=kind[0], again=False)
    while True:
        try:
            done = apply_drill(asked, scope)
        except Killed:
            asked = replace(asked, again=True)
            yield "killed"
            continue
        except IsmgrError:
            yield "refused" if not schedule.world.promoted or asked.again else "raised"
        else:
            yield "stopped" if done.trouble else "done"
        return


def mend(world: MemoryRecoveryWorld, *, power: bool) -> None:
    """What people do before they bring a service home: nobody is made a primary by them."""
    lapse(world)
    world.heal()
    if not power:
        world.power_on(HOME)
    primaries = [name for name in world.writable() if len(world.writable()) == 1]
    for ready in world.balancers.values() if primaries else ():
        ready["db"] = primaries[0]  # the one that could not be reached has not heard of the move
    world.lag = 1
    for names in (world.unmanaged, world.dead_bmcs, world.liars):
        names.clear()
    for one in world.members.values():
        world.thaw(one.host)
        one.readonly = False
        if one.standby and one.powered and not one.runs:
            world.start(one.host)


def bring_home(stage: Stage, scope: Scope, schedule: Schedule) -> str:
    """`ismgr drill return` after people have mended what was broken."""
    context = replace(scope.context, run=f"{scope.context.run}-home")
    planned = plan_return(scope)
    if planned.errored:
        return "by hand"
    if planned.empty:
        return "home"
    schedule.journals.append(MemoryDrillJournal(stage.site.folder))
    work = DrillWork(change=planned.changes[0], ground=stage.ground, mode=DrillMode.RETURN, again=False)
    done = apply_drill(work, replace(scope, context=context))
    assert not done.trouble, done.trouble
    return "home"


def plan_return(scope: Scope):
    from ismgr_automation.converge.drill import plan_drill
    from tests.rehearsal import NOON

    return plan_drill(scope, NOON, "records", DrillMode.RETURN)


def check_safe(world: MemoryRecoveryWorld, *, power: bool) -> None:
    assert world.several == []
    # what a frozen server had taken in before it was fenced, it may still write down: nobody is told that it did
    told = {one.number for one in world.attempts if one.outcome is Outcome.ACKED}
    assert not told & {one.number for one in world.late}
    assert not (power and world.late)


def rehearse(stages: list[Stage], scopes: list[Scope], seed: int) -> tuple[str, ...]:
    """One schedule, to its end."""
    chance = Random(seed)  # noqa: S311  what happens must happen again with the same number
    power = chance.random() < 0.5
    here = 0 if power else 1
    mode = chance.choice((DrillMode.FAILOVER, DrillMode.FAILOVER, DrillMode.SWITCHOVER))
    kind = (mode, chance.choice(BROKEN_FIRST[power])) if mode is DrillMode.FAILOVER else PLANNED
    site = stages[here].site
    fresh = faulty_drills(site.folder)
    site.pair = world = fresh.pair
    world.synchronous = chance.random() < 0.3
    names = sorted(FAULTS)
    at: dict[int, list[str]] = {}
    for _ in range(chance.randint(1, MOST_FAULTS)):
        latest = CALLS + (OF_A_FAULT if kind[1] else 0)
        at.setdefault(chance.randint(1, latest), []).append(chance.choice((*names, "the controller is killed")))
    schedule = Schedule(world, at)
    scope = scope_over(site, scopes[here], schedule, f"run-{seed}")
    world.watch.append(schedule.tell)
    ends = list(processes(stages[here], kind, scope, schedule))
    check_safe(world, power=power)
    schedule.at.clear()
    mend(world, power=power)
    ends.append(bring_home(stages[here], scope, schedule))
    check_safe(world, power=power)
    assert schedule.unearned == []
    assert "raised" not in ends
    assert ends[-1] != "home" or is_home(site), schedule.happened
    return (*ends,)


@pytest.mark.no_cover  # chance is no proof that a line is tested, and measuring costs more than the schedules
def test_no_schedule_of_faults_and_kills_makes_two_primaries(stages: list[Stage]) -> None:
    scopes = [one.site.scope() for one in stages]
    ends: Counter[str] = Counter()
    for seed in range(SCHEDULES):
        try:
            ends.update(rehearse(stages, scopes, seed))
        except BaseException as problem:
            problem.add_note(f"schedule {seed}")
            raise
    assert ends["done"] > SCHEDULES / 10
    assert ends["killed"] > SCHEDULES / 10
    assert ends["stopped"] > SCHEDULES / 10
    assert ends["home"] > SCHEDULES / 2, ends
