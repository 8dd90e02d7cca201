"""The model of a recovery in memory: writes are counted, two primaries are noticed, and verbs refuse what real ones
refuse. A careful controller loses nothing to the old side in any of many random worlds; a careless one is found out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.memory import (
    Killed,
    MemoryFences,
    MemoryRecoveryWorld,
    MemoryStandby,
    MemorySwitches,
)
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import BackendRequest, FenceRequest, NameRequest, Outcome, Sight
from ismgr_automation.ports.upkeep import BmcAccess, Cluster, Part

SOON = timedelta(seconds=1)
BALANCERS = Fleet(hosts=[], names=["lb1"], ssh=Ssh())
CLUSTER = Cluster(
    fleet=Fleet(hosts=[], names=["db1", "db2"], ssh=Ssh()), version="15", name="main", port=5432, deadline=SOON
)
SWITCH = BackendRequest(fleet=BALANCERS, backend="db", server="db2", socket="", deadline=SOON)
BMC = BmcAccess(machine="db1", address="", username="", password=SecretRef.parse("env:X"))
BY_NETWORK = FenceRequest(host="db1", fleet=BALANCERS, port=5432, deadline=SOON)
BY_POWER = FenceRequest(host="db1", fleet=BALANCERS, port=5432, deadline=SOON, bmc=BMC)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(work=tmp_path)


@pytest.fixture
def world() -> MemoryRecoveryWorld:
    world = MemoryRecoveryWorld.pair("db1", "db2")
    world.each_tick.append(world.write)
    world.advance(5)
    return world


def parts(world: MemoryRecoveryWorld, context: Context) -> list[Part]:
    return [one.part for one in MemoryStandby(world).look(CLUSTER, context)]


def fail_over(world: MemoryRecoveryWorld, context: Context, request: FenceRequest = BY_NETWORK) -> bool:
    """As the rules want it: no promotion before a fence that somebody else confirms. Whether it went through."""
    fences, standby = MemoryFences(world), MemoryStandby(world)
    if not fences.fence(request, context).act().ok or not fences.witness(request, context).confirm().ok:
        return False
    promoted = standby.promote(CLUSTER, "db2", context).act().ok
    return promoted and MemorySwitches(world).backend(SWITCH, context).act().ok


def test_a_write_is_on_the_standby_after_the_lag(world):
    world.lag = 3
    assert world.members["db2"].log == world.members["db1"].log[:4]
    world.advance()
    assert len(world.members["db1"].log) - len(world.members["db2"].log) == 2
    assert world.lost() == ()
    assert {one.outcome for one in world.attempts} == {Outcome.ACKED}


@pytest.mark.parametrize("request_", [BY_NETWORK, BY_POWER])
def test_a_failover_leaves_one_primary_and_the_old_one_comes_back_as_its_standby(world, context, request_):
    assert fail_over(world, context, request_)
    assert world.writable() == ("db2",)
    world.advance(3)
    standby, fences = MemoryStandby(world), MemoryFences(world)
    if request_ is BY_NETWORK:
        refused = fences.unfence(request_, context).act()
        assert (refused.ok, refused.words) == (False, "db1 runs as a primary")
        assert standby.rejoin(CLUSTER, "db1", "db2", "auto", context).act().words == "db1 is a primary itself"
        world.kill("db1")
        assert standby.rejoin(CLUSTER, "db1", "db2", "auto", context).act().ok
        assert fences.unfence(request_, context).act().ok
    else:
        assert fences.unfence(request_, context).act().ok
        assert standby.rejoin(CLUSTER, "db1", "db2", "auto", context).act().ok
    assert parts(world, context) == [Part.STANDBY, Part.PRIMARY]
    world.advance(2)
    assert world.streams("db1") == "db2"
    assert (world.several, world.late) == ([], [])
    assert world.attempts[-1].outcome is Outcome.ACKED


def test_promoting_without_a_fence_is_found_out(world, context):
    world.balancers["lb2"] = dict(world.balancers["lb1"])
    assert MemoryStandby(world).promote(CLUSTER, "db2", context).act().ok
    world.advance(4)
    assert world.several
    assert len(world.late) >= 4
    assert {one.host for one in world.late} == {"db1"}


def test_a_rolling_disaster_loses_what_was_written_since_the_line_was_cut(world, context):
    world.part(["db1"], ["db2"])
    world.advance(199)
    assert fail_over(world, context, BY_POWER)
    # the last one had not arrived when the line was cut, and one more was taken while the fence was raised
    assert len(world.lost()) in range(199, 202)
    assert not world.late


def test_under_synchronous_replication_nobody_is_told_what_may_be_lost(world, context):
    world.synchronous = True
    world.advance(2)
    world.part(["db1"], ["db2"])
    world.advance(20)
    assert fail_over(world, context, BY_POWER)
    assert world.lost() == ()
    assert [one.outcome for one in world.attempts].count(Outcome.UNKNOWN) >= 20


def test_a_frozen_primary_that_goes_on_takes_what_had_arrived(world, context):
    world.freeze("db1")
    world.advance()
    assert parts(world, context) == [Part.UNKNOWN, Part.STANDBY]
    assert MemoryStandby(world).promote(CLUSTER, "db2", context).act().ok
    world.thaw("db1")
    assert world.late
    assert world.attempts[-1].outcome is Outcome.UNKNOWN


def test_a_fence_that_lies_is_not_confirmed(world, context):
    world.liars.add("db1")
    assert not fail_over(world, context)
    assert world.promoted == []
    assert "can connect" in MemoryFences(world).witness(BY_NETWORK, context).confirm().words


@pytest.mark.parametrize(("lies", "lost", "words"), [
    (False, ["lb2"], ""), (True, ["lb2"], "lb1 can connect"), (True, ["lb1", "lb2"], "lb1, lb2 cannot look"),
])  # fmt: skip
def test_a_lost_witness_does_not_count_and_the_silence_that_a_client_meets_is_no_witness(
    world, context, lies, lost, words
):
    request = replace(BY_POWER, witnesses=("lb1", "lb2"))
    world.part(["client"], ["db1"])
    world.unmanaged.update(lost)
    world.liars.update(["db1"] if lies else [])
    assert MemoryFences(world).fence(request, context).act().ok
    told = MemoryFences(world).witness(request, context).confirm()
    assert (told.ok, told.words) == (not words, words or "nobody can connect")


def test_a_fence_by_network_is_not_confirmed_by_silence(world, context):
    world.part(["client"], ["db1"])
    assert "no answer" in MemoryFences(world).witness(BY_NETWORK, context).confirm().words
    world.dead_bmcs.add("db1")
    assert not MemoryFences(world).fence(BY_POWER, context).act().ok
    assert MemoryFences(world).fence(BY_POWER, context).observe().sight is Sight.UNKNOWN


def test_a_planned_switchover_loses_nothing_and_can_be_taken_back(world, context):
    standby = MemoryStandby(world)
    demote = standby.demote(CLUSTER, "db1", "db2", context)
    assert demote.stage().sight is Sight.NOT_DONE
    assert demote.act().ok
    assert demote.observe().sight is Sight.DONE
    assert world.writable() == ()
    assert standby.reinstate(CLUSTER, "db1", context).act().ok
    assert demote.act().ok
    assert standby.promote(CLUSTER, "db2", context).act().ok
    assert standby.rejoin(CLUSTER, "db1", "db2", "auto", context).act().words == "it followed"
    assert (world.lost(), world.several, world.late) == ((), [], [])


def test_an_old_primary_is_retired_behind_its_fence_and_let_out_then(world, context):
    assert fail_over(world, context, BY_NETWORK)
    standby, unfence = MemoryStandby(world), MemoryFences(world).unfence(BY_NETWORK, context)
    assert unfence.act().words == "db1 runs as a primary"
    retire = standby.retire(CLUSTER, "db1", context)
    assert retire.observe().sight is Sight.NOT_DONE
    assert retire.act().ok
    assert (retire.observe().sight, unfence.act().ok) == (Sight.DONE, True)
    assert standby.rejoin(CLUSTER, "db1", "db2", "auto", context).act().ok
    assert (world.writable(), world.several) == (("db2",), [])


def test_what_cannot_be_done_is_said(world, context):
    standby = MemoryStandby(world)
    world.part(["db1"], ["db2"])
    assert standby.demote(CLUSTER, "db1", "db2", context).stage().words == "db2 does not stream from db1"
    assert standby.rejoin(CLUSTER, "db2", "db1", "auto", context).act().words == "db2 cannot connect to db1"
    world.kill("db2")
    assert standby.promote(CLUSTER, "db2", context).act().words == "db2 is down"
    world.unmanaged.add("lb1")
    assert not MemorySwitches(world).backend(SWITCH, context).act().ok
    with pytest.raises(InputError):
        standby.rejoin(CLUSTER, "db1", "db2", "magic", context)
    with pytest.raises(InputError):
        standby.promote(CLUSTER, "db9", context)
    context.cancelled.set()
    with pytest.raises(Cancelled):
        standby.promote(CLUSTER, "db2", context).act()


def test_a_name_is_what_it_was_set_to(world, context):
    request = NameRequest(
        server="ns", port=53, zone="z", record="db", type="A", ttl=5, values=("192.0.2.2",), key_name="k",
        key=SecretRef.parse("env:X"), deadline=SOON,
    )  # fmt: skip
    verb = MemorySwitches(world).name(request, context)
    assert verb.observe().sight is Sight.NOT_DONE
    assert verb.act().ok
    assert (verb.observe().sight, world.names) == (Sight.DONE, {("z", "db"): ("192.0.2.2",)})


@pytest.mark.parametrize("more", [1, 2, 8])
def test_a_standby_with_writes_of_its_own_does_not_stream_whoever_has_more(world, more):
    assert world.streams("db2") == "db1"
    world.part(["db1"], ["db2"])
    world.promote("db2")
    for _ in range(more):
        world.write(to="db2")
    world.advance(3)
    world.heal()
    old, new = world.members["db1"], world.members["db2"]
    old.standby, old.upstream, new.standby, new.upstream = False, "", True, "db1"
    old.timeline = new.timeline
    assert world.streams("db2") == ""
    new.log = old.log[: len(new.log) - more]
    assert world.streams("db2") == "db1"


@pytest.mark.parametrize("rewinds", [True, False])
def test_an_old_primary_with_writes_of_its_own_loses_them_when_it_comes_back(world, context, rewinds):
    world.part(["db1"], ["db2"])
    world.advance(3)
    assert fail_over(world, context, BY_POWER)
    world.heal()
    world.power_on("db1")
    world.members["db1"].rewinds = rewinds
    standby = MemoryStandby(world)
    assert standby.rejoin(CLUSTER, "db1", "db2", "rewind", context).act().ok is rewinds
    world.kill("db1")
    assert standby.rejoin(CLUSTER, "db1", "db2", "auto", context).act().ok
    world.advance(3)
    assert world.members["db1"].log[:-2] == world.members["db2"].log[: len(world.members["db1"].log) - 2]


def die(_world: MemoryRecoveryWorld) -> None:
    raise Killed("controller")


FAULTS = {
    "kill the primary": lambda world: world.kill("db1"),
    "kill the standby": lambda world: world.kill("db2"),
    "freeze the primary": lambda world: world.freeze("db1"),
    "let it go on": lambda world: world.thaw("db1"),
    "cut the line": lambda world: world.part(["db1"], ["db2"]),
    "cut the power": lambda world: world.power_off("db1"),
    "start the old primary": lambda world: world.start("db1"),
    "kill the controller": die,
    "nothing": lambda _world: None,
}


@settings(max_examples=300)
@given(st.lists(st.sampled_from(sorted(FAULTS)), max_size=40), st.booleans(), st.booleans())
def test_a_careful_controller_never_has_two_primaries_whatever_happens(faults, power, synchronous):
    context = Context(work=Path())
    world = MemoryRecoveryWorld.pair("db1", "db2")
    world.synchronous = synchronous
    world.each_tick.append(world.write)
    world.advance(5)
    coming = iter(faults)
    world.watch.append(lambda _call: FAULTS[next(coming, "nothing")](world))
    for _ in range(20):
        try:
            if fail_over(world, context, BY_POWER if power else BY_NETWORK):
                break
        except Killed:
            continue
    assert world.several == []
    # what a frozen server had taken in before it was fenced, it may still write down: nobody is told that it did
    told = {one.number for one in world.attempts if one.outcome is Outcome.ACKED}
    assert not told & {one.number for one in world.late}
    assert not (power and world.late)
