"""Which ways an old primary is brought back by, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.engines.postgresql.rejoining import Step, Way, attempts

FOLLOW, REWIND, REBUILD = Step.FOLLOW, Step.REWIND, Step.REBUILD


@pytest.mark.parametrize(
    ("way", "follows", "copied", "rewinds", "wanted"),
    [
        (Way.AUTO, True, False, True, (FOLLOW, REWIND, REBUILD)),
        (Way.AUTO, False, False, False, (REBUILD,)),
        (Way.REWIND, False, False, True, (REWIND,)),
        (Way.REWIND, True, True, True, (FOLLOW, REWIND)),
        (Way.REWIND, False, False, False, ()),
        # what is there may be the old data: it is copied all the same
        (Way.REBUILD, True, False, True, (REBUILD,)),
        (Way.REBUILD, True, True, True, (FOLLOW, REBUILD)),
    ],
)
def test_what_costs_least_comes_first(way, follows, copied, rewinds, wanted):
    assert attempts(way, follows=follows, copied=copied, rewinds=rewinds) == wanted


@given(st.sampled_from(Way), st.booleans(), st.booleans(), st.booleans())
def test_everything_is_copied_only_where_that_was_asked_for_and_last(way, follows, copied, rewinds):
    steps = attempts(way, follows=follows, copied=copied, rewinds=rewinds)
    assert (REBUILD in steps) is (way is not Way.REWIND)
    assert steps[-1:] == (REBUILD,) or way is Way.REWIND
    assert REWIND not in steps or rewinds
