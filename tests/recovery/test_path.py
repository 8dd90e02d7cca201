"""Legs of a drill: their order, their direction, what waits for what, and what they may cost."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import always_before
from ismgr_automation.recovery.path import LegKind, budget, legs
from tests.recovery.documents import SIDES, plan


def test_a_failover_goes_there_is_made_whole_and_comes_back() -> None:
    found = legs(plan(), DrillMode.FAILOVER, SIDES)
    assert [(one.name, one.kind) for one in found] == [
        ("failover", LegKind.FAILOVER),
        ("reprotect", LegKind.REPROTECT),
        ("after", LegKind.AFTER),
        ("failback", LegKind.SWITCHOVER),
        ("reprotect-home", LegKind.REPROTECT),
        ("after-home", LegKind.AFTER),
    ]
    assert [one.sides for one in found] == [*[SIDES] * 3, *[SIDES.turned] * 3]


def test_after_a_planned_move_the_old_side_joins_and_nobody_is_let_out() -> None:
    found = legs(plan(), DrillMode.SWITCHOVER, SIDES)
    names = ["switchover", "reprotect", "after", "failback", "reprotect-home", "after-home"]
    assert [one.name for one in found] == names
    assert [task.name for task in found[1].tasks] == ["join"]
    assert [task.name for task in legs(plan(), DrillMode.FAILOVER, SIDES)[1].tasks] == ["out", "join"]


def test_what_was_broken_off_is_made_whole_and_comes_back() -> None:
    found = legs(plan(), DrillMode.RETURN, SIDES)
    assert [(one.name, one.sides) for one in found] == [
        ("reprotect", SIDES),
        ("failback", SIDES.turned),
        ("reprotect-home", SIDES.turned),
        ("after-home", SIDES.turned),
    ]


def test_clients_wait_for_moves_alone() -> None:
    assert {one for one in LegKind if one.hot} == {LegKind.FAILOVER, LegKind.SWITCHOVER}


def test_a_step_without_needs_waits_for_all_that_stand_before_it() -> None:
    failover = legs(plan(), DrillMode.FAILOVER, SIDES)[0]
    assert {one.name: set(one.needs) for one in failover.tasks} == {
        "fence": set(),
        "promote": {"fence"},
        "balancers": {"promote"},
        "address": {"promote"},
    }


def test_the_budget_is_the_chain_whose_deadlines_add_up_to_the_most() -> None:
    failover = legs(plan(), DrillMode.FAILOVER, SIDES)[0]
    found = budget(failover, {})
    # and whoever knows the old address of the name keeps it for five seconds
    assert (found.at_most, found.kept) == (timedelta(seconds=15), timedelta(seconds=5))
    assert found.chain == ("fence", "promote", "address")
    assert found.measured is None


def test_what_was_measured_is_the_longest_chain_of_it_and_nothing_where_a_task_never_was() -> None:
    failover = legs(plan(), DrillMode.FAILOVER, SIDES)[0]
    took = {"fence": 300, "promote": 30, "balancers": 5, "address": 20}
    measured = {name: timedelta(milliseconds=value) for name, value in took.items()}
    assert budget(failover, measured).measured == timedelta(milliseconds=350)
    del measured["balancers"]
    assert budget(failover, measured).measured is None


@given(st.data())
def test_tasks_come_after_all_that_they_wait_for(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    names = data.draw(st.permutations([f"s{number}" for number in range(count)]))
    steps = [
        {
            "name": name,
            "do": "verify",
            "group": "webs",
            # of those that stand somewhere: a circle is refused by the estate's checks
            "needs": data.draw(st.lists(st.sampled_from(sorted(names)[: sorted(names).index(name)]), unique=True))
            if sorted(names).index(name)
            else [],
        }
        for name in sorted(names)
    ]
    document = plan(after=steps)
    leg = legs(document, DrillMode.SWITCHOVER, SIDES)[2]
    done: set[str] = set()
    for one in leg.tasks:
        assert one.needs <= done
        assert always_before(document.after, one.name) <= done
        done.add(one.name)
    assert len(leg.tasks) == count
