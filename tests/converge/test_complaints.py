"""What people complain about in other tools, where nothing else here shows that it cannot happen (see the table in
tests/house/test_complaints.py)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ismgr_automation.core.address import stack
from ismgr_automation.planning.change import Level
from tests.rehearsal import HOLDER, Rehearsal, without


def test_planning_takes_no_lease_and_waits_for_nobody(running: Rehearsal) -> None:
    running.leases.acquire("two-sites/lab", HOLDER, timedelta(minutes=5))
    held = running.leases.look("two-sites/lab")
    with running.open() as one, running.open() as other:
        assert one.plan().digest == other.plan().digest
        assert not one.drift().found
    assert running.leases.look("two-sites/lab") == held


def test_credentials_that_see_nothing_take_nothing_out_of_the_state_and_are_suspected(running: Rehearsal) -> None:
    before = {name: dict(one) for name, one in running.world.state.items()}
    running.world.actual["dc1-servers"].clear()
    with running.open() as estate:
        plan = estate.plan()
    (suspicion,) = [one for one in plan.findings if one.subject == stack("dc1-servers")]
    assert (suspicion.level, suspicion.summary) == (Level.WARN, "all 3 resources of stack/dc1-servers look gone")
    assert "credentials" in suspicion.next_step
    assert {one.target for one in plan.drift if one.address == stack("dc1-servers")} == set(before["dc1-servers"])
    assert running.world.state == before


def test_one_resource_that_is_gone_is_drift_and_no_suspicion(running: Rehearsal) -> None:
    del running.world.actual["dc1-servers"]["web1.dc1"]
    assert not [one for one in running.plan().findings if "look gone" in one.summary]


def test_the_plan_of_a_commit_is_the_same_wherever_and_whenever_it_is_made(running: Rehearsal) -> None:
    running.world.actual["names"]["www"] = {"to": "192.0.2.99"}
    first = running.plan()
    later = running.plan()
    assert without(first) == without(later)
    assert first.digest == replace(later, beside=first.beside).digest
