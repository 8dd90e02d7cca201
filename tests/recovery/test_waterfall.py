"""An outage in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.recovery.result import Outage, Span
from ismgr_automation.recovery.waterfall import DETECT, RECONNECT, UNACCOUNTED, Mark, waterfall

STEPS = ("fence", "confirm", "promote", "switch")


def marks(*given_: tuple[str, int, int]) -> list[Mark]:
    return [Mark(name=name, began_ns=began, ended_ns=ended) for name, began, ended in given_]


def cut(began: int, ended: int, *given_: tuple[str, int, int]) -> list[tuple[str, int]]:
    return [(one.name, one.lasted_ns) for one in waterfall(began, ended, marks(*given_)).pieces]


def test_what_stands_between_the_marks_is_nobodys():
    found = cut(100, 200, ("fence", 110, 140), ("promote", 145, 180), ("switch", 180, 182))
    assert found == [(DETECT, 10), ("fence", 30), (UNACCOUNTED, 5), ("promote", 35), ("switch", 2), (RECONNECT, 18)]


def test_a_step_counts_only_while_the_client_waits():
    assert cut(100, 200, ("fence", 50, 120), ("promote", 120, 300)) == [("fence", 20), ("promote", 80)]
    assert cut(100, 200, ("before", 0, 90), ("fence", 100, 200), ("after", 200, 210)) == [("fence", 100)]


def test_of_steps_side_by_side_the_one_that_began_first_has_the_time():
    found = cut(0, 100, ("switch", 10, 60), ("play", 20, 90), ("fence", 0, 10))
    assert found == [("fence", 10), ("switch", 50), ("play", 30), (RECONNECT, 10)]
    assert cut(0, 100, ("outer", 0, 100), ("inner", 20, 40)) == [("outer", 100)]


def test_an_outage_without_a_mark_is_not_explained():
    found = waterfall(0, 100, marks(("fence", 200, 300)))
    assert (found.unaccounted, found.explained) == (1.0, False)
    assert cut(0, 100) == [(UNACCOUNTED, 100)]


@pytest.mark.parametrize(("hole", "explained"), [(5, True), (6, False)])
def test_more_than_a_twentieth_that_nobody_accounts_for_is_flagged(hole, explained):
    found = waterfall(0, 100, marks(("fence", 0, 40), ("promote", 40 + hole, 100)))
    assert (found.unaccounted, found.explained) == (hole / 100, explained)


def test_the_times_of_a_name_are_added_in_order_of_their_first_piece():
    pieces = (("fence", 0, 4), ("journal", 4, 5), ("fence", 5, 7))
    spans = tuple(Span(name=name, began_ms=began, ended_ms=ended) for name, began, ended in pieces)
    told = Outage(leg="failover", outage_ms=7, resolution_ms=1, waterfall=spans)
    assert list(told.by_name.items()) == [("fence", 6), ("journal", 1)]


def test_an_outage_that_does_not_last_is_none():
    with pytest.raises(ValueError, match="ends after it began"):
        waterfall(5, 5, [])


@given(
    began=st.integers(0, 1000),
    lasted=st.integers(1, 1000),
    drawn=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(-500, 2500), st.integers(0, 800)), max_size=12),
)
def test_pieces_follow_each_other_and_add_up_to_the_outage_exactly(began, lasted, drawn):
    given_ = [(name, start, start + long) for name, start, long in drawn]
    found = waterfall(began, began + lasted, marks(*given_))
    assert found.pieces[0].began_ns == began
    assert found.pieces[-1].ended_ns == began + lasted
    assert all(earlier.ended_ns == later.began_ns for earlier, later in pairwise(found.pieces))
    assert all(earlier.name != later.name for earlier, later in pairwise(found.pieces))
    assert all(one.lasted_ns > 0 for one in found.pieces)
    assert found.lasted_ns == lasted
    assert 0 <= found.unaccounted <= 1
    for one in found.pieces:
        ran = [name for name, start, end in given_ if start <= one.began_ns and end >= one.ended_ns]
        assert one.name in {DETECT, RECONNECT, UNACCOUNTED} or any(
            name == one.name and start < one.ended_ns and end > one.began_ns for name, start, end in given_
        )
        assert one.name not in {DETECT, RECONNECT, UNACCOUNTED} or not ran
