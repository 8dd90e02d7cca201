"""What journals say of the other side: whether it was asked to take the role, and whether that is forgotten by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ismgr_automation.core.json import JsonObject
from ismgr_automation.recovery.faults import may_follow

FENCE: JsonObject = {"what": "task-began", "leg": "failover", "action": "fence"}
THERE: JsonObject = {"what": "task-began", "leg": "failover", "action": "promote"}
BY_PLAN: JsonObject = {"what": "task-began", "leg": "switchover", "action": "promote"}
HOME: JsonObject = {"what": "task-began", "leg": "failback", "action": "promote"}
LIFTED: JsonObject = {"what": "fault-lifted", "ok": True}


def given(leg: str, *, ok: bool) -> JsonObject:
    return {"what": "given-back", "leg": leg, "ok": ok}


def joined(leg: str, *, ok: bool = True, found: bool = False) -> JsonObject:
    return {"what": "task-ended", "leg": leg, "action": "rejoin", "ok": ok, "found": found}


MAY: Mapping[str, Sequence[JsonObject]] = {
    "a promotion was begun": (FENCE, THERE),
    "one by plan was begun": (BY_PLAN,),
    "the role could not be given back": (THERE, given("failover", ok=False)),
    "the role was given back, and asked for again": (THERE, given("failover", ok=True), LIFTED, THERE),
    "the way home was given up, and the role is there": (THERE, HOME, given("failback", ok=True)),
    "the old side was made a standby": (THERE, joined("reprotect")),
    "the other side could not be made a standby": (THERE, HOME, joined("reprotect-home", ok=False)),
    "the other side was seen as a standby, and not made one": (THERE, joined("reprotect-home", found=True)),
}
MAY_NOT: Mapping[str, Sequence[JsonObject]] = {
    "nothing is known": (),
    "no promotion was begun": (FENCE, HOME),
    "the role was given back": (THERE, given("failover", ok=True)),
    "the role was given back by a return": (THERE, given("failover", ok=False), given("give-back", ok=True)),
    "the other side was made a standby": (THERE, HOME, joined("reprotect-home")),
}


@pytest.mark.parametrize("case", MAY)
def test_who_was_asked_to_take_the_role_may_follow(case: str) -> None:
    assert may_follow(MAY[case])


@pytest.mark.parametrize("case", MAY_NOT)
def test_who_was_not_asked_or_has_forgotten_it_does_not_follow(case: str) -> None:
    assert not may_follow(MAY_NOT[case])
