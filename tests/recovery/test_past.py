"""What earlier drills say of the next one: medians of those that passed, the newest ten, with the load beside them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.recovery.past import COUNTED, past_of
from ismgr_automation.recovery.path import Leg, budget, legs
from ismgr_automation.recovery.result import DrillResult, Goals, TaskResult, Verdict
from tests.recovery.documents import SIDES, plan

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def failover() -> Leg:
    return legs(plan(), DrillMode.FAILOVER, SIDES)[0]


def took(leg: Leg, milliseconds: float, verdict: Verdict = Verdict.PASSED, load: float | None = 1.0) -> DrillResult:
    """A drill whose steps all took as long."""
    return DrillResult(
        run="r",
        plan="records",
        service="records",
        mode=DrillMode.FAILOVER,
        estate="clinic",
        environment="lab",
        commit="c",
        digest="d",
        began_at=NOW,
        ended_at=NOW,
        goals=Goals(rto=1, rpo=0),
        verdict=verdict,
        verdicts={},
        reasons=(),
        load_average=(load, load, load) if load is not None else None,
        tasks=tuple(
            TaskResult(
                leg=leg.name, name=one.name, action=one.step.do, ok=True, began_ms=7.0, ended_ms=7.0 + milliseconds
            )
            for one in leg.tasks
        ),
    )


times = st.integers(min_value=0, max_value=100_000)
drills = st.lists(st.tuples(times, st.sampled_from(list(Verdict))), max_size=40)


@given(drills)
def test_each_step_takes_the_median_of_the_newest_drills_that_passed(found: list[tuple[int, Verdict]]) -> None:
    leg = failover()
    past = past_of(leg, [took(leg, milliseconds, verdict) for milliseconds, verdict in found])
    counted = [milliseconds for milliseconds, verdict in found if verdict is Verdict.PASSED][:COUNTED]
    if not counted:
        assert past is None
        return
    assert past is not None
    assert past.drills == len(counted)
    middle = timedelta(milliseconds=median(counted))
    assert set(past.takes.values()) == {middle}
    chain = budget(leg, past.takes)
    assert chain.measured is not None
    assert middle <= chain.measured <= middle * len(leg.tasks)


@pytest.mark.parametrize("change", [{"ok": False}, {"found": True}, {"rule": "never-zero"}, {"leg": "failback"}])
def test_a_step_that_was_not_done_there_was_not_measured(change: dict[str, object]) -> None:
    leg = failover()
    one = took(leg, 40)
    odd = replace(one, tasks=(replace(one.tasks[0], **change), *one.tasks[1:]))  # type: ignore[arg-type]
    assert past_of(leg, [odd]) is None


def test_the_load_stands_beside_what_was_measured() -> None:
    leg = failover()
    assert str(past_of(leg, [took(leg, 40, load=0.5), took(leg, 60, load=3.25)])) == "2 drills at load 0.5 to 3.2"
    assert str(past_of(leg, [took(leg, 40, load=0.5)])) == "1 drill at load 0.5"
    assert str(past_of(leg, [took(leg, 40, load=None)])) == "1 drill, load not read"
