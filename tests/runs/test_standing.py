"""Skip, run or stop: every case of the table, and what must hold for all of them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.runs import StepRecord, Unit
from ismgr_automation.runs.standing import TABLE, Known, Standing, Verdict, decide, known

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def record(attempt: int, fate: str | None, key: str = "stack/dc1") -> StepRecord:
    return StepRecord(
        unit=Unit(run="r", round=1, key=key, attempt=attempt),
        executor="e",
        token=1,
        started_at=NOW,
        finished_at=NOW if fate else None,
        outcome={"fate": fate} if fate else None,
    )


def landed(outcome: JsonObject) -> bool:
    return outcome["fate"] == "landed"


CASES = [
    ([], Known.NEVER_BEGUN),
    ([None], Known.INTERRUPTED),
    (["landed"], Known.LANDED),
    (["failed"], Known.NOT_LANDED),
    (["unknown"], Known.NOT_LANDED),
    ([None, None], Known.INTERRUPTED),
    ([None, "landed"], Known.LANDED),
    ([None, "failed"], Known.NOT_LANDED),
    (["failed", None], Known.INTERRUPTED),
    (["landed", None], Known.LANDED),
    (["unknown", "landed"], Known.LANDED),
    ([None, "failed", "landed"], Known.LANDED),
]


@pytest.mark.parametrize(("fates", "expected"), CASES)
def test_the_journal_is_read_the_same_in_any_order(fates: list[str | None], expected: Known) -> None:
    records = [record(number, fate) for number, fate in enumerate(fates, 1)]
    assert {known(order, landed) for order in itertools.permutations(records)} == {expected}


def test_every_case_is_in_the_table() -> None:
    assert set(TABLE) == set(itertools.product(Known, [None, *Standing]))


histories = st.lists(st.sampled_from([None, "landed", "failed", "unknown"]), max_size=4)
seen = st.sampled_from([None, *Standing])


@given(histories, seen)
def test_what_is_done_is_never_run_and_what_is_not_done_is_never_skipped(
    fates: list[str | None], observed: Standing | None
) -> None:
    records = [record(number, fate) for number, fate in enumerate(fates, 1)]
    verdict = decide(records, observed, landed).verdict
    if verdict is Verdict.RUN:
        assert observed is Standing.NOT_DONE
        assert "landed" not in fates
    if verdict is Verdict.SKIP:
        assert observed is Standing.DONE or (observed is None and "landed" in fates)
    assert (verdict is Verdict.LOOK) == (observed is None and "landed" not in fates)
    if observed is Standing.UNKNOWN:
        assert verdict is Verdict.STOP


@given(histories)
def test_the_next_attempt_is_a_new_one(fates: list[str | None]) -> None:
    records = [record(number, fate) for number, fate in enumerate(fates, 1)]
    assert decide(records, Standing.NOT_DONE, landed).attempt == len(fates) + 1


def test_attempts_of_two_units_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="2 units"):
        decide([record(1, None), record(1, None, "stack/dc2")], None, landed)
