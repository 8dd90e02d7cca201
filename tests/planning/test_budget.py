"""The failure budget: every host and stack counts once, whatever happened to it and however often."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import group, host, stack
from ismgr_automation.planning.budget import Budget, covered, spent, troubled
from ismgr_automation.planning.change import Action, Change, Deferred, Envelope, Reason
from ismgr_automation.ports.hosts import PlaybookResult, Reach, Reachability
from ismgr_automation.ports.verification import CheckResult, Verdict

NAMES = st.lists(st.sampled_from([f"h{number}" for number in range(12)]), unique=True, max_size=12)


def shard(*names: str, part: int = 1) -> Change:
    return Change(
        address=group("g"),
        part=part,
        action=Action.CONFIGURE,
        reason=Reason.INPUTS,
        steps=(),
        targets=tuple(map(host, names)),
        inputs="in",
    )


STACK = replace(shard(), address=stack("s"), part=0, action=Action.UPDATE)


def check(name: str, verdict: Verdict) -> CheckResult:
    return CheckResult(host=name, suite="s.py", check="c", verdict=verdict, seconds=0.0)


def result(failed: tuple[str, ...] = (), unreachable: tuple[str, ...] = ()) -> PlaybookResult:
    lost = tuple(Reachability(host=name, reach=Reach.TIMEOUT) for name in unreachable)
    return PlaybookResult(tasks=(), counts={}, unreachable=lost, failed=failed, engine="e 1")


@given(st.integers(0, 20) | st.integers(0, 100).map(lambda n: f"{n}%"), st.integers(0, 500), NAMES)
def test_one_more_than_is_allowed_stops_the_run(setting: int | str, size: int, names: list[str]) -> None:
    budget = Budget.of(setting, covered=size)
    why = budget.exceeded(names)
    assert (why is None) == (len(names) <= budget.allowed)
    if isinstance(setting, str):
        # rounded down: never more than the share that people wrote
        assert budget.allowed * 100 <= size * int(setting[:-1]) < (budget.allowed + 1) * 100
    assert budget.exceeded([*names, *names]) == why


@given(st.data())
def test_hosts_that_fail_in_every_way_and_twice_count_once(data: st.DataObject) -> None:
    failed, lost, bad = (data.draw(NAMES) for _ in range(3))
    checks = [check(name, Verdict.FAILED) for name in bad] * 2
    taken = spent(shard(*failed), landed=False, troubled=troubled(result(tuple(failed), tuple(lost)), checks))
    if failed or lost or bad:
        assert taken == {*failed, *lost, *bad}
        assert Budget(allowed=len(taken), told="").exceeded(taken) is None
        assert Budget(allowed=len(taken) - 1, told="").exceeded(taken) is not None


@pytest.mark.parametrize(
    ("verdict", "counts"),
    [(Verdict.PASSED, False), (Verdict.SKIPPED, False), (Verdict.FAILED, True), (Verdict.ERROR, True)],
)
def test_a_check_counts_unless_it_passed_or_was_left_out(verdict: Verdict, *, counts: bool) -> None:
    assert troubled(result(), [check("h1", verdict)]) == (("h1",) if counts else ())


def test_an_engine_that_failed_without_blaming_anybody_costs_everything_it_worked_on() -> None:
    assert spent(shard("a", "b"), landed=False) == {"a", "b"}
    assert spent(shard("a", "b"), landed=False, troubled=["b"]) == {"b"}
    assert spent(shard("a", "b"), landed=True) == frozenset()
    assert spent(STACK, landed=False) == {"stack/s"}
    assert spent(STACK, landed=True) == frozenset()


def test_a_plan_covers_each_host_and_stack_once() -> None:
    envelope = Envelope(content="c", at_most=9, unknown=(), actions=(Action.CONFIGURE,))
    waits = Deferred(address=group("later"), waits_for=(), why="", expected=(host("b"), host("d")), envelope=envelope)
    assert covered([shard("a", "b"), shard("b", "c", part=2), STACK], [waits, replace(waits, address=stack("t"))]) == 6


def test_the_sentence_names_who_and_how_many_were_allowed() -> None:
    why = Budget.of("10%", covered=24).exceeded(["web1", "web2", "stack/names"])
    assert why == (
        "3 failed, could not be reached or did not verify (stack/names, web1, web2); the failure budget of the run is "
        "10% of 24, which is 2"
    )
    many = Budget.of(0, covered=24).exceeded([f"h{number}" for number in range(9)])
    assert many is not None
    assert "h0, h1, h2, h3, h4, 4 more" in many
