"""Safety rules: each says no to what it is for, by its name, and what nobody knows is never safe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.ports.recovery import Standing
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.path import LegKind
from ismgr_automation.recovery.rules import RULES, Act, Situation, refusal
from tests.recovery.documents import SIDES

OLD, NEW = SIDES.old, SIDES.new


def standing(host: str, part: Part) -> Standing:
    return Standing(host=host, part=part, writable=part is Part.PRIMARY, streaming=part is Part.STANDBY)


def now(kind: LegKind, old: Part, new: Part, **more: object) -> Situation:
    members = {OLD: standing(OLD, old), NEW: standing(NEW, new)}
    return replace(Situation(kind=kind, sides=SIDES, standings=members, was_streaming=True), **more)


FAILOVER, SWITCHOVER, REPROTECT = LegKind.FAILOVER, LegKind.SWITCHOVER, LegKind.REPROTECT
BOTH = {"raised": frozenset({OLD}), "confirmed": frozenset({OLD})}
UP = Part.PRIMARY

ALLOWED = {
    "a fenced old side, confirmed": (Act.PROMOTE, now(FAILOVER, Part.UNKNOWN, Part.STANDBY, **BOTH)),
    "an old side stopped cleanly": (
        Act.PROMOTE,
        now(SWITCHOVER, Part.DOWN, Part.STANDBY, demoted=frozenset({OLD})),
    ),
    "fencing a primary that somebody can follow": (Act.FENCE, now(FAILOVER, UP, Part.STANDBY)),
    "fencing again after the promotion": (Act.FENCE, now(FAILOVER, Part.UNKNOWN, UP, **BOTH)),
    "clients to a primary": (Act.SWITCH, now(FAILOVER, Part.UNKNOWN, UP)),
    "letting out who has somebody to follow": (Act.UNFENCE, now(REPROTECT, Part.DOWN, UP)),
    "a loser that is down": (Act.REJOIN, now(REPROTECT, Part.DOWN, UP)),
    "the old primary again, as nobody followed": (Act.REINSTATE, now(FAILOVER, Part.DOWN, Part.STANDBY)),
    "the old primary again, as the other is held back": (
        Act.REINSTATE,
        now(FAILOVER, Part.DOWN, Part.STANDBY, asked=frozenset({NEW}), held=frozenset({NEW})),
    ),
    "mending what nobody has left": (Act.LIFT, now(FAILOVER, Part.UNKNOWN, Part.STANDBY)),
    "mending where nobody could follow": (Act.LIFT, now(FAILOVER, Part.UNKNOWN, Part.DOWN)),
    "mending what keeps nobody down": (Act.LIFT, now(FAILOVER, UP, Part.STANDBY, asked=frozenset({NEW}))),
    "mending behind a fence that holds": (Act.LIFT, now(FAILOVER, UP, UP, **BOTH)),
    "mending what is a standby by now": (Act.LIFT, now(REPROTECT, Part.STANDBY, UP)),
    "suites at any time": (Act.OTHER, now(REPROTECT, Part.UNKNOWN, Part.UNKNOWN)),
}

REFUSED = {
    "an old side that takes writes": (Act.PROMOTE, now(SWITCHOVER, UP, Part.STANDBY), "never-two-primaries"),
    "an old side that nobody can see": (
        Act.PROMOTE,
        now(SWITCHOVER, Part.UNKNOWN, Part.STANDBY),
        "never-two-primaries",
    ),
    "a fence that nobody confirmed": (
        Act.PROMOTE,
        now(FAILOVER, Part.UNKNOWN, Part.STANDBY, raised=frozenset({OLD})),
        "never-two-primaries",
    ),
    "a word without a fence": (
        Act.PROMOTE,
        now(FAILOVER, Part.STANDBY, Part.STANDBY, confirmed=frozenset({OLD})),
        "confirmed-fence",
    ),
    "an old side that is a standby and not fenced": (
        Act.PROMOTE,
        now(FAILOVER, Part.STANDBY, Part.STANDBY),
        "confirmed-fence",
    ),
    "an old side that is down, but not for good": (
        Act.PROMOTE,
        now(SWITCHOVER, Part.STANDBY, Part.STANDBY),
        "clean-handover",
    ),
    "a primary with nobody to follow": (Act.FENCE, now(FAILOVER, UP, Part.DOWN), "never-zero"),
    "a primary whose standby nobody sees": (Act.DEMOTE, now(SWITCHOVER, UP, Part.UNKNOWN), "never-zero"),
    "a standby that did not stream": (
        Act.FENCE,
        now(FAILOVER, UP, Part.STANDBY, was_streaming=False),
        "caught-up",
    ),
    "a standby far behind": (
        Act.DEMOTE,
        now(SWITCHOVER, UP, Part.STANDBY, lag_at_start=2, lag_allowed=1),
        "caught-up",
    ),
    "clients to a standby": (Act.SWITCH, now(FAILOVER, Part.DOWN, Part.STANDBY), "clients-to-the-primary"),
    "letting out with no primary": (Act.UNFENCE, now(REPROTECT, Part.DOWN, Part.DOWN), "no-return-as-primary"),
    "overwriting a primary": (Act.REJOIN, now(REPROTECT, UP, UP), "rejoin-the-loser"),
    "the old primary again beside a new one": (Act.REINSTATE, now(FAILOVER, Part.DOWN, UP), "nobody-followed"),
    "the old primary again where nobody can tell": (
        Act.REINSTATE,
        now(FAILOVER, Part.DOWN, Part.UNKNOWN),
        "nobody-followed",
    ),
    "the old primary again before a promotion that may land": (
        Act.REINSTATE,
        now(FAILOVER, Part.DOWN, Part.STANDBY, asked=frozenset({NEW})),
        "no-late-promotion",
    ),
    "power for the old side beside a new one": (Act.LIFT, now(FAILOVER, Part.UNKNOWN, UP), "lift-behind-fence"),
    "power for the old side while a promotion may land": (
        Act.LIFT,
        now(FAILOVER, Part.UNKNOWN, Part.STANDBY, asked=frozenset({NEW})),
        "lift-behind-fence",
    ),
    "power for the old side beside one that nobody sees": (
        Act.LIFT,
        now(FAILOVER, Part.UNKNOWN, Part.UNKNOWN),
        "lift-behind-fence",
    ),
    "power for the old side beside one that was promoted and is down": (
        Act.LIFT,
        now(FAILOVER, Part.UNKNOWN, Part.DOWN, asked=frozenset({NEW})),
        "lift-behind-fence",
    ),
    "overwriting from a standby": (Act.REJOIN, now(REPROTECT, Part.DOWN, Part.STANDBY), "rejoin-the-loser"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_safe_may_be_done(name: str) -> None:
    assert refusal(*ALLOWED[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_safe_is_refused_by_the_name_of_its_rule(name: str) -> None:
    act, situation, rule = REFUSED[name]
    found = refusal(act, situation)
    assert found is not None
    assert found.rule == rule
    assert found.why


def test_every_rule_has_a_case_that_it_refuses() -> None:
    assert {rule for _, _, rule in REFUSED.values()} == set(RULES)


parts = st.sampled_from(Part)
hosts = st.frozensets(st.sampled_from([OLD, NEW]))


@given(
    st.builds(
        now,
        st.sampled_from([FAILOVER, SWITCHOVER]),
        parts,
        parts,
        raised=hosts,
        confirmed=hosts,
        demoted=hosts,
    )
)
def test_nobody_is_promoted_while_the_other_side_may_take_a_write(situation: Situation) -> None:
    if refusal(Act.PROMOTE, situation) is None:
        assert OLD in situation.demoted or {OLD} <= situation.raised & situation.confirmed


@given(st.builds(now, st.just(FAILOVER), parts, parts, raised=hosts, confirmed=hosts, asked=hosts))
def test_nothing_is_mended_that_keeps_the_old_side_down_while_the_other_may_have_followed(situation: Situation) -> None:
    kept_down = situation.part(OLD) in {UP, Part.UNKNOWN} and not situation.at_home and not situation.safe(OLD)
    if kept_down and refusal(Act.LIFT, situation) is None:
        assert situation.part(NEW) in {Part.STANDBY, Part.DOWN}
        assert NEW not in situation.asked


@given(old=parts, new=parts)
def test_data_is_never_overwritten_on_the_only_member_that_takes_writes(old: Part, new: Part) -> None:
    if refusal(Act.REJOIN, now(REPROTECT, old, new)) is None:
        assert old is not UP
        assert new is UP
