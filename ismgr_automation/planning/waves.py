"""Cutting host groups into waves so that enough of their members are always up. Pure: health is an argument, and
nothing here looks at a host."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.address import Address, group
from ismgr_automation.estate.documents import HostGroup

SHARD = 50
"""The most hosts that one change works on: what is carried out, and tried again, in one piece."""


class Sick(StrEnum):
    """Why a host does not count as up. All others do: with a doubt, say nothing and it is treated with care."""

    UNREACHABLE = "unreachable"
    UNVERIFIED = "not verified"
    """It was worked on, or looked at, and its checks did not pass."""
    NEW = "new"
    """A stack has just made it, so nobody can be relying on it. A host that was there before is never new, even where
    ismgr has not worked on it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one host group promises: at least ``floor`` of ``members`` are up at every moment, whoever works on them."""

    group: Address
    members: frozenset[str]
    floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Hosts that are worked on in one piece. Shards of one ``batch`` may run together; both numbers count from 1."""

    batch: int
    part: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why hosts cannot be worked on without breaking a promise."""

    group: Address
    """Whose promise it is."""
    hosts: tuple[str, ...]
    """Who cannot be worked on."""
    summary: str
    next_step: str


def guards(groups: Mapping[str, HostGroup], membership: Mapping[str, Collection[str]]) -> tuple[Guard, ...]:
    """What all groups promise, those that promise nothing left out. ``membership`` holds everybody: hosts that a
    selection leaves out can be down as well."""
    found = []
    for name, document in sorted(groups.items()):
        who = frozenset(membership.get(name, ()))
        floor = max(document.minimum_available, len(who) // 2 + 1 if document.quorum else 0)
        if floor and who:
            found.append(Guard(group=group(name), members=who, floor=floor))
    return tuple(found)


def shards(
    names: Collection[str],
    sizes: Sequence[int | str],
    guards: Sequence[Guard] = (),
    sick: Mapping[str, Sick] | None = None,
    *,
    at_most: int = SHARD,
) -> tuple[Shard, ...]:
    """Cut the hosts that are worked on into batches, and batches into shards of ``at_most`` hosts.

    ``sizes`` are the most hosts of each wave: counts, or percentages of ``names`` rounded up; what is left makes the
    last. A wave becomes several batches where a guard asks for it, supposing that every host of a running batch is
    down. Sick hosts go first, which costs nobody anything, and count as up once their batch is done: before each batch
    ask ``startable`` whether they are. Hosts for whom there is an ``obstacle`` are in no shard.

    >>> [one.names for one in shards(["a", "b", "c", "d", "e"], [1, "50%"])]
    [('a',), ('b', 'c', 'd'), ('e',)]
    """
    cut, _ = _cut(names, sizes, guards, sick or {})
    found: list[Shard] = []
    for batch, who in enumerate(cut, start=1):
        # of even size: the slowest shard is what everybody waits for
        count = math.ceil(len(who) / at_most)
        for number in range(count):
            piece = who[number * len(who) // count : (number + 1) * len(who) // count]
            found.append(Shard(batch=batch, part=len(found) + 1, names=piece))
    return tuple(found)


def obstacle(
    names: Collection[str], guards: Sequence[Guard], sick: Mapping[str, Sick] | None = None
) -> Obstacle | None:
    """Why some of the hosts can never be worked on, or None when ``shards`` has them all."""
    sick = sick or {}
    _, left = _cut(names, ["100%"], guards, sick)
    if not left:
        return None
    # whoever is left is up, and so is everybody whose turn was before
    still = {name: why for name, why in sick.items() if name not in names}
    return _told(left[:1], guards, still, left)


def startable(
    wave: Mapping[str, Collection[str]], guards: Sequence[Guard], sick: Mapping[str, Sick] | None = None
) -> tuple[str, ...]:
    """Which changes of a wave may start together now: as many as the guards allow with the health that is seen now.

    ``wave`` has the hosts of each change by its key. Empty when none of them may: ``why_not`` says why.
    """
    return _pack(wave, guards, sick or {})


def why_not(
    wave: Mapping[str, Collection[str]], guards: Sequence[Guard], sick: Mapping[str, Sick] | None = None
) -> Obstacle | None:
    """Why no change of a wave may start now; None when one may, or when there is none."""
    sick = sick or {}
    if not wave or _pack(wave, guards, sick):
        return None
    key = min(wave)
    return _told(sorted(wave[key]), guards, sick, sorted({name for names in wave.values() for name in names}))


def apart(
    waves: Sequence[Sequence[str]],
    targets: Mapping[str, Collection[str]],
    guards: Sequence[Guard],
    sick: Mapping[str, Sick] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Split waves in which changes of several groups would together take too many hosts down, or work on one host.

    ``targets`` has the hosts of each change by its key; stacks have none. A change that cannot run even alone has a
    wave of its own: there is an obstacle then, and nothing is applied.
    """
    down = dict(sick or {})
    found: list[tuple[str, ...]] = []
    for wave in waves:
        left = {key: targets.get(key, ()) for key in wave}
        while left:
            together = _pack(left, guards, down) or (next(iter(left)),)
            found.append(together)
            for name in (name for key in together for name in left.pop(key)):
                down.pop(name, None)
    return tuple(found)


def _pack(wave: Mapping[str, Collection[str]], guards: Sequence[Guard], sick: Mapping[str, Sick]) -> tuple[str, ...]:
    spare = [_spare(guard, sick) for guard in guards]
    taken: set[str] = set()
    found: list[str] = []
    for key, names in wave.items():
        well = {name for name in names if name not in sick}
        costs = [len(guard.members & well) for guard in guards]
        # two playbooks on one host would fight for its package manager
        alone = taken.isdisjoint(names)
        if alone and all(not cost or cost <= left for cost, left in zip(costs, spare, strict=True)):
            spare = [left - cost for cost, left in zip(costs, spare, strict=True)]
            taken |= set(names)
            found.append(key)
    return tuple(found)


def _spare(guard: Guard, sick: Mapping[str, Sick]) -> int:
    """How many members may go down now; negative when too few are up already."""
    return len(guard.members) - len(guard.members.intersection(sick)) - guard.floor


def _cut(
    names: Collection[str], sizes: Sequence[int | str], guards: Sequence[Guard], sick: Mapping[str, Sick]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Batches in order, and who is in none of them."""
    guards = [guard for guard in guards if not guard.members.isdisjoint(names)]
    queue = _Queue(names, guards, sick)
    spare = [_spare(guard, sick) for guard in guards]
    batches: list[tuple[str, ...]] = []
    for quota in _quotas(len(set(names)), sizes):
        left = quota
        while left and (batch := queue.take(left, spare)):
            left -= len(batch)
            batches.append(tuple(sorted(batch)))
            for index, guard in enumerate(guards):
                spare[index] += sum(name in sick and name in guard.members for name in batch)
    return batches, queue.rest()


def _quotas(count: int, sizes: Sequence[int | str]) -> Iterator[int]:
    for size in sizes:
        yield max(size if isinstance(size, int) else math.ceil(count * float(size.rstrip("%")) / 100), 1)
    yield count


class _Queue:
    """Who is still to be worked on: hosts that cost the same guards the same stand in one row, sick ones in front."""

    def __init__(self, names: Collection[str], guards: Sequence[Guard], sick: Mapping[str, Sick]) -> None:
        costs: dict[str, list[int]] = defaultdict(list)
        for index, guard in enumerate(guards):
            for name in guard.members.intersection(names):
                costs[name].append(index)
        self._rows: dict[tuple[bool, tuple[int, ...]], list[str]] = {}
        for name in sorted(set(names), reverse=True):
            well = name not in sick
            self._rows.setdefault((well, tuple(costs.get(name, ())) if well else ()), []).append(name)

    def take(self, most: int, spare: Sequence[int]) -> list[str]:
        """At most so many hosts that may all be down together."""
        left = list(spare)
        taken: list[str] = []
        for (_, costs), row in sorted(self._rows.items(), key=lambda item: (item[0][0], item[1][-1:])):
            count = max(min(len(row), most - len(taken), *(left[index] for index in costs)), 0)
            taken += [row.pop() for _ in range(count)]
            for index in costs:
                left[index] -= count
        return taken

    def rest(self) -> list[str]:
        """Everybody who was not taken."""
        return sorted(name for row in self._rows.values() for name in row)


def _told(
    hosts: Sequence[str], guards: Sequence[Guard], sick: Mapping[str, Sick], left: Sequence[str]
) -> Obstacle | None:
    """The first guard that these hosts together would break, in words."""
    well = {name for name in hosts if name not in sick}
    for guard in guards:
        mine = sorted(well & guard.members)
        if not mine or len(mine) <= _spare(guard, sick):
            continue
        down = sorted(guard.members & set(sick))
        without = f" and {_listed(f'{name} ({sick[name]})' for name in down)} {_is(down)} down" if down else ""
        return Obstacle(
            group=guard.group,
            hosts=tuple(left),
            summary=(
                f"{_listed(mine)} cannot be worked on{' together' if len(mine) > 1 else ''}: {guard.floor} of the "
                f"{len(guard.members)} members of {guard.group} must always be up{without}"
            ),
            next_step=(
                f"Mend {_listed(down)} first, or change what {guard.group} promises (minimum_available, quorum)."
                if down
                else f"Add members to {guard.group}, or change what it promises (minimum_available, quorum)."
            ),
        )
    return None


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed if len(listed) <= most else [*listed[:most], f"{len(listed) - most} more"])
