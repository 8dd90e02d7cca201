"""Random fleets and a run over them, with its own arithmetic: an oracle that shares no code with what it judges."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.planning import waves
from ismgr_automation.planning.waves import Guard, Shard, Sick


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group, and which of its members are worked on."""

    name: str
    members: frozenset[str]
    worked: tuple[str, ...]
    sizes: tuple[int | str, ...]
    minimum: int = 0
    quorum: bool = False

    @property
    def floor(self) -> int:
        """The fewest members that are enough: with a quorum the smallest number whose double is more than all."""
        count = 0
        while count < self.minimum or (self.quorum and 2 * count <= len(self.members)):
            count += 1
        return count

    @property
    def document(self) -> HostGroup:
        """The group as an estate says it."""
        return HostGroup(
            kind="HostGroup",
            name=self.name,
            selector="true",
            playbook="p.yml",
            waves=self.sizes,
            minimum_available=self.minimum,
            quorum=self.quorum,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Hosts in groups that may overlap, some of them sick, and how kind the day is."""

    groups: tuple[Group, ...]
    sick: Mapping[str, Sick]
    at_most: int
    failing: float
    """How likely it is that work on a host fails."""
    falling: float
    """How likely it is that some host falls by itself before a start."""
    goes_on: bool
    """Whether the run goes on after a failure, as a failure budget may allow."""

    @property
    def worked(self) -> dict[str, tuple[str, ...]]:
        """Who is worked on, by group."""
        return {one.name: one.worked for one in self.groups}


def world(seed: int) -> World:
    """A fleet; the same seed gives the same one."""
    rng = random.Random(seed)  # noqa: S311  a test wants repeatable choices
    hosts = [f"h{number:02d}" for number in range(rng.choice((1, 2, 3, 3, 4, 5, 5, 7, 9, 14)))]
    groups = []
    for index in range(rng.choice((1, 1, 2, 3))):
        members = hosts if rng.random() < 0.4 else rng.sample(hosts, rng.randint(1, len(hosts)))
        worked = members if rng.random() < 0.7 else rng.sample(members, rng.randint(0, len(members)))
        sizes = [rng.choice((1, 1, 2, 5, "10%", "34%", "50%", "100%")) for _ in range(rng.randint(1, 3))]
        groups.append(
            Group(
                name=f"g{index}",
                members=frozenset(members),
                worked=tuple(worked),
                sizes=tuple(sizes) if rng.random() < 0.7 else (1, "100%"),
                minimum=rng.choice((0, 0, 1, 1, 2, len(members) - 1, len(members))),
                quorum=rng.random() < 0.3,
            )
        )
    share = rng.choice((0.0, 0.0, 0.1, 0.3, 1.0))
    return World(
        groups=tuple(groups),
        sick={name: rng.choice(list(Sick)) for name in hosts if rng.random() < share},
        at_most=rng.choice((1, 2, 3, 50)),
        failing=rng.choice((0.0, 0.0, 0.1, 0.5)),
        falling=rng.choice((0.0, 0.0, 0.1)),
        goes_on=rng.random() < 0.7,
    )


def by_size(names: Sequence[str], sizes: Sequence[int | str]) -> list[tuple[str, ...]]:
    """Waves that only look at their sizes: percentages are of all, rounded up; what is left makes the last."""
    left, found = list(names), []
    for size in [*sizes, "100%"]:
        count = size if isinstance(size, int) else -(-len(names) * int(size[:-1]) // 100)
        if left:
            found.append(tuple(left[: max(count, 1)]))
        left = left[max(count, 1) :]
    return found


Start = Callable[[Mapping[str, Collection[str]], Sequence[Guard], Mapping[str, Sick]], tuple[str, ...]]
Split = Callable[
    [Sequence[Sequence[str]], Mapping[str, Collection[str]], Sequence[Guard], Mapping[str, Sick]],
    tuple[tuple[str, ...], ...],
]


def cut(group: Group, found: Sequence[Guard], world: World) -> tuple[Shard, ...]:
    """The shards of one group as they should be cut."""
    return waves.shards(group.worked, group.sizes, found, world.sick, at_most=world.at_most)


def promised(groups: Sequence[Group]) -> tuple[Guard, ...]:
    """What the groups promise."""
    return waves.guards({one.name: one.document for one in groups}, {one.name: one.members for one in groups})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is judged; each rule can be replaced by a broken one."""

    guards: Callable[[Sequence[Group]], tuple[Guard, ...]] = promised
    shards: Callable[[Group, Sequence[Guard], World], tuple[Shard, ...]] = cut
    apart: Split = waves.apart
    startable: Start = waves.startable


@dataclass(slots=True, kw_only=True)
class Run:
    """One run over a world: who is down because of what, and which promises were broken."""

    world: World
    rng: random.Random
    sick: dict[str, Sick]
    done: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    ours: set[str] = field(default_factory=set)
    """Hosts that were up when we began to work on them, and are not up again."""
    fallen: set[str] = field(default_factory=set)
    """Hosts that fell by themselves during the run."""
    broken: list[str] = field(default_factory=list)

    def go(self, rules: Rules) -> Run:
        """Plan, then carry the plan out."""
        found = rules.guards(self.world.groups)
        targets: dict[str, tuple[str, ...]] = {}
        plan: dict[int, list[str]] = {}
        for group in self.world.groups:
            for shard in rules.shards(group, found, self.world):
                targets[f"{group.name}#{shard.part}"] = shard.names
                plan.setdefault(shard.batch, []).append(f"{group.name}#{shard.part}")
        for wave in rules.apart([plan[number] for number in sorted(plan)], targets, found, self.world.sick):
            left = {key: targets[key] for key in wave}
            while left:
                self._fall()
                keys = rules.startable(left, found, self.sick)
                if not keys:
                    return self
                well = self._work({key: left.pop(key) for key in keys})
                if not well and not self.world.goes_on:
                    return self
        return self

    def _fall(self) -> None:
        up = sorted({name for one in self.world.groups for name in one.members} - set(self.sick))
        if up and self.rng.random() < self.world.falling:
            fallen = self.rng.choice(up)
            self.sick[fallen] = Sick.UNREACHABLE
            self.fallen.add(fallen)

    def _work(self, units: Mapping[str, Collection[str]]) -> bool:
        names = [name for who in units.values() for name in who]
        if len(names) != len(set(names)):
            self.broken.append("two changes work on one host at the same time")
        started = {name for name in names if name not in self.sick}
        self.running |= set(names)
        self.ours |= started
        for group in self.world.groups:
            if started & group.members and len(self._up(group)) < group.floor:
                self.broken.append(f"{group.name} was left with {len(self._up(group))} of {group.floor} by a start")
        well = True
        for name in self.rng.sample(sorted(set(names)), len(set(names))):
            self.running.discard(name)
            if self.rng.random() < self.world.failing:
                self.sick[name] = Sick.UNVERIFIED
                well = False
            else:
                self.sick.pop(name, None)
                self.ours.discard(name)
                self.fallen.discard(name)
            self._look()
        self.done += names
        return well

    def _look(self) -> None:
        for group in self.world.groups:
            fallen = len(self.fallen & group.members)
            if self.ours & group.members and len(self._up(group)) < group.floor - fallen:
                self.broken.append(f"{group.name} had {len(self._up(group))} of {group.floor} in the middle")

    def _up(self, group: Group) -> set[str]:
        return set(group.members) - set(self.sick) - self.running


def run(seed: int, rules: Rules) -> Run:
    """Carry the world of a seed out."""
    met = world(seed)
    return Run(world=met, rng=random.Random(-seed - 1), sick=dict(met.sick)).go(rules)  # noqa: S311  repeatable
