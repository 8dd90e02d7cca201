"""Faults in memory: each bites as its real one does, is lifted by its own words, and lifts itself when nobody is
there."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import Direction, FaultRequest, Harm
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.memory import Killed, MemoryFaults, MemoryRecoveryWorld
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Outcome, Sight

FLEET = Fleet(hosts=[], names=["db1", "gw1"], ssh=Ssh())
TIMED = [harm for harm in Harm if harm not in {Harm.POWER_OFF, Harm.STALE_PRIMARY}]
ON_GATEWAYS = {Harm.PARTITION, Harm.ROLLING, Harm.SLOW_LINK}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(work=tmp_path)


@pytest.fixture
def world() -> MemoryRecoveryWorld:
    world = MemoryRecoveryWorld.pair("db1", "db2")
    world.damage.behind["gw1"] = ("db1",)
    world.each_tick.append(world.write)
    world.advance(5)
    return world


def request(harm: Harm, **more: Any) -> FaultRequest:
    host = "gw1" if harm in ON_GATEWAYS else "db1"
    given = {"lead": timedelta(milliseconds=7), **more}
    return FaultRequest(
        run="r1", name="broken", harm=harm, fleet=FLEET, hosts=(host,), lifetime=timedelta(milliseconds=50), **given
    )


def last(world: MemoryRecoveryWorld) -> Outcome:
    world.advance()
    return world.attempts[-1].outcome


@pytest.mark.parametrize("harm", Harm)
def test_each_fault_bites_is_lifted_and_leaves_nothing(world, context, harm):
    faults = MemoryFaults(world)
    injection = faults.fault(request(harm), context)
    before = (world.lag, set(world.cut), world.members["db1"].readonly)
    assert injection.stage().sight is Sight.NOT_DONE
    assert not injection.bitten().ok
    acted = injection.act()
    assert acted.ok
    assert injection.bitten().ok
    assert (last(world) is Outcome.ACKED) is (harm is Harm.SLOW_LINK)
    assert faults.left(FLEET, context)
    assert not injection.lifted().ok
    assert injection.lift().ok
    assert injection.lifted().ok
    assert injection.lift().ok
    assert faults.left(FLEET, context) == ()
    assert (world.lag, world.cut, world.members["db1"].readonly) == before
    assert world.members["db1"].powered
    assert not world.damage.unanswered


@pytest.mark.parametrize("harm", TIMED)
def test_a_fault_that_nobody_renews_lifts_itself(world, context, harm):
    injection = MemoryFaults(world).fault(request(harm), context)
    injection.act()
    for _ in range(3):
        world.advance(30)
        assert injection.renew()
    assert injection.bitten().ok
    world.advance(60)
    assert not injection.renew()
    assert injection.lifted().ok
    assert injection.lift().ok
    world.advance(2)
    assert last(world) is Outcome.ACKED


@pytest.mark.parametrize("harm", Harm)
def test_the_words_of_the_journal_lift_it_for_who_comes_later(world, context, harm):
    injection = MemoryFaults(world).fault(request(harm), context)
    words = json.loads(json.dumps(injection.undo()))
    injection.act()
    assert MemoryFaults(world).lift(words, FLEET, context).ok
    assert MemoryFaults(world).left(FLEET, context) == ()


def test_a_controller_that_dies_before_it_breaks_anything_leaves_a_timer_only(world, context):
    def die(text: str) -> None:
        if text == "break broken":
            raise Killed

    world.watch.append(die)
    with pytest.raises(Killed):
        MemoryFaults(world).fault(request(Harm.FREEZE), context).act()
    assert world.members["db1"].primary
    assert len(MemoryFaults(world).found(FLEET, context)) == 1
    world.advance(50)
    assert MemoryFaults(world).left(FLEET, context) == ()


def test_a_frozen_member_is_there_and_answers_nobody(world, context):
    MemoryFaults(world).fault(request(Harm.FREEZE), context).act()
    assert last(world) is Outcome.UNKNOWN
    assert world.members["db1"].runs


def test_what_goes_into_a_site_that_nothing_leaves_may_be_taken_once(world, context):
    """A site cut off in one direction: the first write arrives, and nobody is told."""
    had = len(world.members["db1"].log)
    MemoryFaults(world).fault(request(Harm.PARTITION, direction=Direction.OUT), context).act()
    world.advance(4)
    assert [one.outcome for one in world.attempts[-4:]].count(Outcome.UNKNOWN) <= 1
    assert len(world.members["db1"].log) == had + 1
    assert world.streams("db2") == ""


def test_a_rolling_disaster_cuts_replication_first(world, context):
    injection = MemoryFaults(world).fault(request(Harm.ROLLING), context)
    acted = injection.act()
    first, second = acted.readings["replication_ns"], acted.readings["site_ns"]
    assert (second - first) // 1_000_000 == 7
    lonely = [one for one in world.attempts if first < one.sent_ns <= second]
    assert {one.outcome for one in lonely} == {Outcome.ACKED}
    assert len(world.members["db1"].log) - len(world.members["db2"].log) >= 7


def test_a_stale_primary_comes_back_beside_the_new_one_until_it_is_lifted(world, context):
    injection = MemoryFaults(world).fault(request(Harm.STALE_PRIMARY), context)
    injection.act()
    world.promote("db2")
    assert world.writable() == ("db2",)
    assert injection.come_back().ok
    assert set(world.writable()) == {"db1", "db2"}
    assert injection.lift().ok
    assert world.writable() == ("db2",)
    assert MemoryFaults(world).left(FLEET, context) == ()


def test_a_stale_primary_that_loses_power_again_stays_without(world, context):
    injection = MemoryFaults(world).fault(request(Harm.STALE_PRIMARY), context)
    injection.act()
    injection.come_back()
    world.power_off("db1")
    assert injection.lift().ok
    assert not world.members["db1"].powered


@pytest.mark.parametrize("harm", Harm)
def test_a_fault_without_teeth_is_told(world, context, harm):
    world.damage.toothless.add(harm.value)
    injection = MemoryFaults(world).fault(request(harm), context)
    assert injection.act().ok
    assert not injection.bitten().ok
    assert last(world) is Outcome.ACKED
    assert injection.lift().ok


@pytest.mark.parametrize("harm", Harm)
def test_a_fault_that_nobody_can_lift_is_told(world, context, harm):
    world.damage.stuck.add("broken")
    injection = MemoryFaults(world).fault(request(harm), context)
    injection.act()
    assert not injection.lift().ok
    assert not injection.lifted().ok
    world.advance(100)
    assert MemoryFaults(world).left(FLEET, context)


def test_hosts_that_cannot_be_reached_are_told_before_anything_is_broken(world, context):
    world.unmanaged.add("gw1")
    injection = MemoryFaults(world).fault(request(Harm.PARTITION), context)
    assert injection.stage().sight is Sight.UNKNOWN
    assert not injection.act().ok
    assert MemoryFaults(world).left(FLEET, context) == ("gw1: cannot be reached",)


def test_a_gateway_with_nobody_behind_it_is_no_place_for_a_fault(world, context):
    world.damage.behind.clear()
    with pytest.raises(InputError, match="gw1: nobody knows what partition would break there"):
        MemoryFaults(world).fault(request(Harm.PARTITION), context)


def test_a_disaster_that_would_be_lifted_while_it_still_rolls_is_none(world, context):
    with pytest.raises(InputError, match="before its second stage"):
        MemoryFaults(world).fault(request(Harm.ROLLING, lead=timedelta(milliseconds=50)), context)
