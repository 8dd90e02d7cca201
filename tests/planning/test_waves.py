"""Waves of host groups: never fewer members up than a group promises, whoever works on them, whoever is sick."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import group
from ismgr_automation.planning import waves
from ismgr_automation.planning.waves import Guard, Shard, Sick, apart, obstacle, shards, startable, why_not
from tests.planning.fleets import Group, Rules, World, by_size, cut, promised, run, world

FLEETS = 10_000
SIZES = st.lists(st.integers(1, 9) | st.integers(1, 100).map(lambda n: f"{n}%"), min_size=1, max_size=5)
NAMES = st.lists(st.text("abc123", min_size=1), unique=True, max_size=30).map(sorted)


def guard(floor: int, *members: str, name: str = "db") -> Guard:
    return Guard(group=group(name), members=frozenset(members), floor=floor)


def batches(found: tuple[Shard, ...]) -> list[list[str]]:
    return [
        [name for one in found if one.batch == number for name in one.names]
        for number in sorted({one.batch for one in found})
    ]


def test_no_promise_is_ever_broken_in_ten_thousand_fleets() -> None:
    whole = interrupted = sick = 0
    for seed in range(FLEETS):
        seen = run(seed, Rules())
        assert not seen.broken, f"fleet {seed}: {seen.broken}"
        everybody = sum(len(one.worked) for one in seen.world.groups)
        whole += len(seen.done) == everybody
        interrupted += len(seen.done) < everybody
        sick += bool(seen.world.sick)
    # the fleets are of every kind, or the sentence above says little
    assert min(whole, interrupted, sick) > FLEETS // 10


def test_who_can_be_worked_on_is_worked_on_once_and_who_cannot_has_an_obstacle() -> None:
    stuck_fleets = 0
    for seed in range(FLEETS // 5):
        met = world(seed)
        found = promised(met.groups)
        for one in met.groups:
            stuck = _stuck(one, met)
            why = obstacle(one.worked, found, met.sick)
            assert (set(why.hosts) if why else set()) == stuck, f"fleet {seed}"
            listed = [name for shard in cut(one, found, met) for name in shard.names]
            assert sorted(listed) == sorted(set(one.worked) - stuck), f"fleet {seed}"
            stuck_fleets += bool(stuck)
    assert stuck_fleets > FLEETS // 50


def _stuck(one: Group, met: World) -> set[str]:
    """Who can never be worked on: even when all others that are worked on are up, too few are."""
    down = {name for name in met.sick if name not in one.worked}
    well = {name for name in one.worked if name not in met.sick}
    return {
        name
        for name in well
        for other in met.groups
        if name in other.members and len(other.members - down - {name}) < other.floor
    }


def test_a_kind_day_ends_with_everything_done() -> None:
    for seed in range(FLEETS // 5):
        met = world(seed)
        kind = met.failing == met.falling == 0
        if kind and len(met.groups) == 1 and obstacle(met.groups[0].worked, promised(met.groups), met.sick) is None:
            assert sorted(run(seed, Rules()).done) == sorted(met.groups[0].worked), f"fleet {seed}"


def _half_is_a_quorum(groups: object) -> tuple[Guard, ...]:
    return tuple(
        Guard(group=group(one.name), members=one.members, floor=max(one.minimum, len(one.members) // 2))
        for one in groups  # type: ignore[attr-defined]
    )


def _own(name: str, found: object) -> list[Guard]:
    return [one for one in found if one.group.name == name]  # type: ignore[attr-defined]


def _all(wave: Mapping[str, object], _guards: object, _sick: object) -> tuple[str, ...]:
    return tuple(wave)


def _as_they_are(wanted: object, *_rest: object) -> tuple[tuple[str, ...], ...]:
    return tuple(map(tuple, wanted))  # type: ignore[call-overload]


def _by_size_alone(one: Group, _guards: object, _world: object) -> tuple[Shard, ...]:
    found = by_size(sorted(one.worked), one.sizes)
    return tuple(Shard(batch=number, part=number, names=names) for number, names in enumerate(found, start=1))


BROKEN = {
    "half of the members is a quorum": Rules(guards=_half_is_a_quorum),
    "one member less will do": Rules(
        guards=lambda groups: tuple(
            Guard(group=one.group, members=one.members, floor=one.floor - 1) for one in promised(groups)
        )
    ),
    "sick members count as up": Rules(
        shards=lambda one, found, met: shards(one.worked, one.sizes, found, at_most=met.at_most),
        startable=lambda wave, found, _sick: startable(wave, found),
    ),
    "health is that of the plan": Rules(startable=_all),
    "sizes are all that counts": Rules(shards=_by_size_alone, apart=_as_they_are, startable=_all),
    "groups do not know of each other": Rules(apart=_as_they_are, startable=_all),
    "only the own group is asked": Rules(
        shards=lambda one, found, met: cut(one, _own(one.name, found), met),
        apart=_as_they_are,
        startable=lambda wave, found, sick: tuple(
            key for key in wave if startable({key: wave[key]}, _own(key.split("#")[0], found), sick)
        ),
    ),
}


@pytest.mark.parametrize("rules", BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found_by_the_same_fleets(rules: Rules) -> None:
    assert any(run(seed, rules).broken for seed in range(FLEETS))


@given(NAMES, SIZES)
def test_without_promises_waves_are_as_large_as_they_may_be(names: list[str], sizes: list[int | str]) -> None:
    assert batches(shards(names, sizes)) == [list(one) for one in by_size(names, sizes)]


@given(NAMES, SIZES, st.integers(0, 30), st.integers(1, 7))
def test_sizes_are_upper_bounds(names: list[str], sizes: list[int | str], floor: int, at_most: int) -> None:
    found = shards(names, sizes, [guard(floor, *names)], at_most=at_most)
    assert [one.part for one in found] == list(range(1, len(found) + 1))
    assert all(0 < len(one.names) <= at_most for one in found)
    ends, done = [], 0
    for part in by_size(names, sizes):
        done += len(part)
        ends.append(done)
    done = 0
    for batch in batches(found):
        # no batch reaches over the end of the wave that it belongs to
        assert not [end for end in ends if done < end < done + len(batch)]
        done += len(batch)


HOSTS = tuple(f"h{number:03d}" for number in range(120))


@pytest.mark.parametrize(
    ("floor", "sizes", "sick", "lengths"),
    [
        (0, (1, "100%"), {}, [1, 4]),
        (4, (1, "100%"), {}, [1, 1, 1, 1, 1]),
        (3, (1, "100%"), {}, [1, 2, 2]),
        (3, (1, "100%"), {"e": Sick.UNVERIFIED}, [1, 2, 2]),
        (4, ("100%",), {"e": Sick.UNREACHABLE}, [1, 1, 1, 1, 1]),
        (5, ("100%",), {"d": Sick.NEW, "e": Sick.NEW}, [2]),
        (4, ("100%",), {"a": Sick.NEW, "b": Sick.NEW, "c": Sick.NEW, "d": Sick.NEW, "e": Sick.NEW}, [5]),
        (3, (1, 2, "100%"), {"d": Sick.NEW, "e": Sick.NEW}, [1, 2, 2]),
    ],
)
def test_a_promise_makes_more_waves_of_fewer_hosts(
    floor: int, sizes: tuple[int | str, ...], sick: dict[str, Sick], lengths: list[int]
) -> None:
    found = shards("abcde", sizes, [guard(floor, *"abcde")], sick)
    assert [len(one) for one in batches(found)] == lengths


def test_the_sick_go_first() -> None:
    found = shards("abc", (1, "100%"), [guard(1, *"abc")], {"c": Sick.UNVERIFIED})
    assert batches(found) == [["c"], ["a", "b"]]


def test_a_batch_of_many_becomes_shards_of_even_size() -> None:
    found = shards(HOSTS, (1, "100%"))
    assert [(one.batch, one.part, len(one.names)) for one in found] == [(1, 1, 1), (2, 2, 39), (2, 3, 40), (2, 4, 40)]


def test_who_is_left_out_can_be_down_as_well() -> None:
    three = [guard(2, *"abc")]
    assert batches(shards("ab", ("100%",), three)) == [["a"], ["b"]]
    why = obstacle("ab", three, {"c": Sick.UNREACHABLE})
    assert why is not None
    assert why.summary == (
        "a cannot be worked on: 2 of the 3 members of group/db must always be up and c (unreachable) is down"
    )
    assert why.hosts == ("a", "b")
    assert why.next_step == "Mend c first, or change what group/db promises (minimum_available, quorum)."
    assert shards("ab", ("100%",), three, {"c": Sick.UNREACHABLE}) == ()


def test_a_promise_that_leaves_nobody_to_work_on_is_told() -> None:
    why = obstacle("ab", [guard(2, *"ab")])
    assert why is not None
    assert why.summary == "a cannot be worked on: 2 of the 2 members of group/db must always be up"
    assert "Add members" in why.next_step


def test_a_group_keeps_its_promise_when_another_works_on_its_hosts() -> None:
    databases = guard(1, "a", "b", name="databases")
    assert batches(shards("abcd", ("100%",), [databases])) == [["a", "c", "d"], ["b"]]


def test_groups_that_share_a_promise_take_turns() -> None:
    targets = {"group/x#1": ("a",), "group/y#1": ("b",), "group/z#1": ("c",), "stack/s": ()}
    split = apart([tuple(targets)], targets, [guard(1, "a", "b")])
    assert split == (("group/x#1", "group/z#1", "stack/s"), ("group/y#1",))
    assert startable(targets, [guard(1, "a", "b")]) == split[0]


def test_a_host_is_worked_on_by_one_change_at_a_time() -> None:
    targets = {"group/x#1": ("a", "b"), "group/y#1": ("b", "c")}
    assert apart([tuple(targets)], targets, []) == (("group/x#1",), ("group/y#1",))


def test_before_each_wave_the_health_of_the_moment_counts() -> None:
    wave = {"group/db#2": ("b", "c")}
    promise = [guard(2, *"abcd")]
    assert startable(wave, promise) == ("group/db#2",)
    assert why_not(wave, promise) is None
    failed = {"a": Sick.UNVERIFIED}
    assert startable(wave, promise, failed) == ()
    why = why_not(wave, promise, failed)
    assert why is not None
    assert why.summary == (
        "b, c cannot be worked on together: 2 of the 4 members of group/db must always be up and a (not verified) "
        "is down"
    )


def test_of_a_wave_as_many_start_as_still_may() -> None:
    wave = {"group/db#2": ("b",), "group/db#3": ("c",)}
    promise = [guard(2, *"abcd")]
    assert startable(wave, promise) == ("group/db#2", "group/db#3")
    assert startable(wave, promise, {"a": Sick.UNVERIFIED}) == ("group/db#2",)


def test_what_takes_nobody_down_may_always_start() -> None:
    assert startable({"stack/s": ()}, [guard(2, "a", "b")], {"a": Sick.UNREACHABLE}) == ("stack/s",)
    assert startable({"group/db#1": ("a",)}, [guard(2, "a", "b")], {"a": Sick.UNVERIFIED}) == ("group/db#1",)
    assert startable({}, []) == ()
    assert why_not({}, []) is None


def test_groups_without_a_promise_have_no_guard() -> None:
    plain = Group(name="plain", members=frozenset("ab"), worked=("a",), sizes=(1,))
    quorum = Group(name="quorum", members=frozenset("abcd"), worked=("a",), sizes=(1,), quorum=True, minimum=1)
    nobody = Group(name="nobody", members=frozenset(), worked=(), sizes=(1,), minimum=1)
    assert [(one.group.name, one.floor) for one in promised([plain, quorum, nobody])] == [("quorum", 3)]
    assert waves.SHARD == 50
