"""When hosts are restarted, and how long they are waited for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.maintenance import RebootPolicy
from ismgr_automation.patching.reboots import SHORTEST, Due, due, patience
from ismgr_automation.ports.packages import Need
from tests.patching.cases import facts

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("policy", "need", "reboot"),
    [
        (RebootPolicy.NEVER, Need.YES, False),
        (RebootPolicy.NEVER, Need.UNKNOWN, False),
        (RebootPolicy.NEVER, Need.NO, False),
        (RebootPolicy.IF_NEEDED, Need.YES, True),
        (RebootPolicy.IF_NEEDED, Need.UNKNOWN, True),
        (RebootPolicy.IF_NEEDED, Need.NO, False),
        (RebootPolicy.ALWAYS, Need.YES, True),
        (RebootPolicy.ALWAYS, Need.UNKNOWN, True),
        (RebootPolicy.ALWAYS, Need.NO, True),
    ],
)
def test_a_reboot_that_nobody_can_rule_out_is_one(policy: RebootPolicy, need: Need, reboot: bool) -> None:
    found = due(policy, replace(facts(()), reboot=need, services=("tool.service",)))
    assert found.reboot is reboot
    # whoever is restarted as a whole needs no service restarted besides
    assert found.services == (() if reboot else ("tool.service",))


def test_why_is_told_in_the_words_of_the_host_where_it_has_some() -> None:
    told = replace(facts(()), reboot=Need.YES, reboot_why=("a kernel", "PID 1"))
    assert due(RebootPolicy.IF_NEEDED, told) == Due(reboot=True, why="a kernel; PID 1")
    unknown = replace(facts(()), reboot=Need.UNKNOWN)
    assert due(RebootPolicy.IF_NEEDED, unknown).why == "nobody can tell whether it is needed"


@given(st.lists(st.timedeltas(timedelta(seconds=1), HOUR), max_size=60))
def test_a_host_is_never_given_up_before_what_it_usually_takes(history: list[timedelta]) -> None:
    found = patience(history, HOUR)
    if not history:
        assert found == HOUR
        return
    assert found >= SHORTEST
    slower = sum(one > found for one in history)
    assert slower * 20 <= len(history)
