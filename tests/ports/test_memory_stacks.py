"""The double of a provisioning engine keeps to update plans, dies on request and is mended, as the real one is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.address import stack
from ismgr_automation.core.errors import EngineFailed, InputError, LeaseLost
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import Desired, Killed, MemoryStackEngine, MemoryWorld, StackLock
from ismgr_automation.ports.stacks import Recovery, StackRequest, UpdatePlan

THREE = {"a": {"size": 1}, "b": {"size": 1}, "c": {"size": 1}}
CONTEXT = Context(work=Path())


@pytest.fixture
def engine() -> MemoryStackEngine:
    made = MemoryStackEngine(MemoryWorld())
    asks(made, THREE)
    return made


@pytest.fixture
def request_() -> StackRequest:
    return StackRequest(
        address=stack("n"),
        program=Path(),
        stack="n",
        state="",
        passphrase=None,
        config={},
        secret_backends={},
        deadline=timedelta(minutes=1),
    )


def asks(engine: MemoryStackEngine, resources: dict[str, dict[str, int]]) -> None:
    engine.world.programs["n"] = lambda _config, _made: Desired(resources=resources)


OTHERS = {
    "b: other values than in the plan: size": THREE | {"b": {"size": 2}},
    "d: create is not in the plan": THREE | {"d": {}},
}


@pytest.mark.parametrize(("why", "wanted"), OTHERS.items(), ids=OTHERS)
def test_what_the_plan_does_not_hold_is_refused_and_what_came_before_has_landed(engine, request_, why, wanted):
    plan = engine.preview(request_, CONTEXT).update_plan
    asks(engine, wanted)
    done = engine.up(request_, CONTEXT, plan)
    assert done.unplanned == (why,)
    assert [one.name for one in done.steps] == [name for name in wanted if name < why[0]]
    assert set(engine.world.actual["n"]) == {one.name for one in done.steps}


def test_a_plan_with_nothing_in_it_allows_nothing(engine, request_):
    engine.up(request_, CONTEXT)
    plan = engine.preview(request_, CONTEXT).update_plan
    engine.world.actual["n"]["a"] = {"size": 9}
    assert engine.up(request_, CONTEXT, plan).unplanned == ("a: update is not in the plan",)


def test_a_plan_that_was_changed_or_is_another_stack_s_is_not_opened(engine, request_):
    plan = engine.preview(request_, CONTEXT).update_plan
    assert plan is not None
    with pytest.raises(InputError):
        engine.up(request_, CONTEXT, UpdatePlan(digest=plan.digest, sealed=plan.sealed.replace('"n"', '"m"')))


def test_a_crash_leaves_a_lock_and_a_pending_operation_and_recovery_mends_both(engine, request_):
    engine.world.crashes["n", "b"] = Killed()
    plan = engine.preview(request_, CONTEXT).update_plan
    with pytest.raises(Killed):
        engine.up(request_, CONTEXT, plan)
    assert (set(engine.world.state["n"]), set(engine.world.actual["n"])) == ({"a"}, {"a", "b"})
    with pytest.raises(EngineFailed, match="locked by us@here"):
        engine.up(request_, CONTEXT, plan)
    assert [one.name for one in engine.preview(request_, CONTEXT).drift] == ["b"]
    found = engine.recover(request_, CONTEXT)
    assert (len(found.cleared), found.resolved, found.open) == (1, ("b: it is there",), ())
    assert [one.name for one in engine.up(request_, CONTEXT, plan).steps] == ["c"]
    assert engine.preview(request_, CONTEXT).steps == ()
    assert engine.recover(request_, CONTEXT) == Recovery()


def test_what_nobody_knows_stays_open(engine, request_):
    engine.world.pending["n"] = {"a": True, "b": False}
    found = engine.recover(request_, CONTEXT)
    assert (found.resolved, found.open) == (("a: it is not there",), ("b: nobody knows whether it was made",))
    assert engine.recover(request_, CONTEXT).open == found.open


@pytest.mark.parametrize("dead", [None, False])
def test_a_lock_of_somebody_who_may_live_stays(engine, request_, dead):
    engine.world.locks["n"] = StackLock(dead=dead)
    assert "alice@elsewhere" in engine.recover(request_, CONTEXT).open[0]
    with pytest.raises(EngineFailed):
        engine.destroy(request_, CONTEXT)


def test_a_larger_token_that_was_here_stops_the_smaller_one(engine, request_):
    engine.up(request_, Context(work=Path(), token=4))
    with pytest.raises(LeaseLost):
        engine.destroy(request_, Context(work=Path(), token=3))
    assert len(engine.world.actual["n"]) == 3
