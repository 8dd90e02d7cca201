"""From moves to a plan: rings, waves and what goes with them, for any fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import Kind
from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.patching.compose import BaselineSight, Seen, compose_patches
from ismgr_automation.patching.rings import phases, roles
from ismgr_automation.patching.steps import moves, step_of_move
from ismgr_automation.planning.change import Action, Certainty, Level
from ismgr_automation.planning.plan import Beside, Inputs, Plan, Purpose
from ismgr_automation.planning.waves import Sick, guards
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Move
from tests.patching.cases import baseline

BESIDE = Beside(commit="c", ref="r", worktree=False, created_at=datetime(2026, 11, 20, tzinfo=UTC))
MOVE = Move(name="demo", architecture="amd64", before="1", after="2", digest="")
PAIR = HostGroup.model_validate(
    {
        "kind": "HostGroup",
        "name": "pair",
        "selector": "true",
        "playbook": "p.yml",
        "minimum_available": 1,
        "switchover": {"back": True},
    }
)


def seen(
    names: list[str],
    *,
    due: set[str] | None = None,
    groups: Mapping[str, HostGroup] | None = None,
    membership: Mapping[str, tuple[str, ...]] | None = None,
    primaries: Mapping[str, str] | None = None,
    sick: Mapping[str, Sick] | None = None,
    **document: object,
) -> Seen:
    asked = baseline(**document)
    groups, membership = groups or {}, membership or {}
    clusters = roles(groups, membership, primaries or {})
    hosts = [Host(name=name, address="192.0.2.1", origin="") for name in names]
    sight = BaselineSight(
        document=asked,
        inputs="content",
        moves={name: (step_of_move(name, MOVE),) for name in names if due is None or name in due},
        phases=phases(asked, hosts, clusters),
        clusters=clusters,
    )
    inputs = Inputs(documents={}, content={}, inventory="", states={}, engines={}, selection=())
    return Seen(
        baselines=(sight,),
        inputs=inputs,
        groups=groups,
        membership=membership,
        guards=guards(groups, membership),
        sick=sick or {},
    )


def composed(one: Seen, purpose: Purpose = Purpose.PATCH) -> Plan:
    return compose_patches(one, estate="clinic", environment="lab", purpose=purpose, beside=BESIDE)


def waves(plan: Plan) -> list[list[str]]:
    return [sorted(one.name for key in wave for one in plan.change(key).targets) for wave in plan.waves]


def test_the_canary_is_a_host_that_has_something_to_do() -> None:
    rings = [{"name": "canary", "selector": 'host.name in ["a", "b"]'}]
    found = composed(seen(["a", "b", "c", "d"], due={"b", "d"}, rings=rings))
    assert waves(found) == [["b"], ["d"]]


def test_without_rings_one_host_goes_first() -> None:
    assert waves(composed(seen(["a", "b", "c"]))) == [["a"], ["b", "c"]]


def test_nothing_to_do_is_an_empty_and_complete_plan() -> None:
    found = composed(seen(["a"], due=set()))
    assert (found.empty, found.complete, found.waves) == (True, True, ())


@pytest.mark.parametrize(
    ("policy", "steps"), [("never", []), ("always", [Certainty.CHANGES]), ("if-needed", [Certainty.UNPREDICTABLE])]
)
def test_a_plan_says_what_is_known_of_restarts(policy: str, steps: list[Certainty]) -> None:
    (change,) = composed(seen(["a"], reboot={"policy": policy})).changes
    assert [one.certainty for one in change.steps if one.what == "reboot"] == steps


def test_the_primary_of_a_pair_comes_last_and_the_plan_says_what_becomes_of_its_role() -> None:
    found = composed(seen(["a", "b"], groups={"pair": PAIR}, membership={"pair": ("a", "b")}, primaries={"pair": "a"}))
    assert waves(found) == [["b"], ["a"]]
    roles_of = {step.target: step for one in found.changes for step in one.steps if step.what.endswith("switchover")}
    assert (roles_of["a"].before, roles_of["a"].after) == ({"role": "primary"}, {"role": "primary"})
    assert roles_of["b"].certainty is Certainty.UNPREDICTABLE


@pytest.mark.parametrize("firmware", [False, True])
@pytest.mark.parametrize("sick", [{}, {"c": Sick.UNREACHABLE}], ids=["all up", "another away"])
def test_members_of_a_cluster_are_never_worked_on_by_two_baselines_at_once(
    sick: Mapping[str, Sick], firmware: bool
) -> None:
    groups, membership = {"pair": replace_minimum(0)}, {"pair": ("a", "b", "c")}
    one = seen(["a", "x"], groups=groups, membership=membership, primaries={"pair": "a"}, sick=sick)
    other = seen(["b", "y"], name="other", groups=groups, membership=membership, primaries={"pair": "a"}).baselines[0]
    if firmware:
        other = replace(other, moves={}, firmware=other.moves, machines={"b": "b", "y": "y"})
    found = waves(composed(replace(one, baselines=(*one.baselines, other))))
    assert sorted(name for wave in found for name in wave) == ["a", "b", "x", "y"]
    assert not [wave for wave in found if {"a", "b"} <= set(wave)]
    # nobody else waits for it
    assert len(found) == 3


def test_a_way_back_says_that_somebody_asked_for_it() -> None:
    forth, back = composed(seen(["a"])), composed(seen(["a"]), Purpose.ROLLBACK)
    assert (str(forth.changes[0].reason), str(back.changes[0].reason)) == ("due", "asked")
    assert forth.digest != back.digest


def test_who_cannot_be_spared_while_others_are_away_is_left_out_and_named() -> None:
    three = replace_minimum(2)
    one = seen(["a", "b"], groups={"pair": three}, membership={"pair": ("a", "b", "c")}, sick={"c": Sick.UNREACHABLE})
    found = composed(one)
    assert found.changes == ()
    (said,) = found.findings
    assert (said.level, said.subject.kind) == (Level.WARN, Kind.BASELINE)
    assert said.summary.startswith("left out: a, b; a cannot be worked on: 2 of the 3 members of group/pair")
    assert not found.errored


def test_a_promise_that_leaves_no_room_at_all_is_refused() -> None:
    found = composed(seen(["a", "b"], groups={"pair": replace_minimum(2)}, membership={"pair": ("a", "b")}))
    assert (found.refused, found.errored) == (True, True)


def replace_minimum(count: int) -> HostGroup:
    return PAIR.model_copy(update={"minimum_available": count})


NAMES = [f"h{number}" for number in range(12)]


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Seen, set[str], set[str], int, str]:
    due, members = draw(st.sets(st.sampled_from(NAMES))), draw(st.sets(st.sampled_from(NAMES), min_size=2))
    minimum = min(draw(st.integers(1, 6)), len(members) - 1)
    primary = draw(st.sampled_from(["", *sorted(members)]))
    ring = ", ".join(f'"{name}"' for name in sorted(draw(st.sets(st.sampled_from(NAMES)))))
    sizes = draw(st.lists(st.sampled_from([1, 2, "25%", "100%"]), min_size=1, max_size=3))
    one = seen(
        NAMES,
        due=due,
        groups={"pair": replace_minimum(minimum)},
        membership={"pair": tuple(sorted(members))},
        primaries={"pair": primary},
        rings=[{"name": "first", "selector": f"host.name in [{ring}]", "waves": sizes}],
    )
    return one, due, members, minimum, primary


@given(fleets())
def test_every_due_host_is_in_exactly_one_change_and_no_wave_takes_too_many_down(
    fleet: tuple[Seen, set[str], set[str], int, str],
) -> None:
    one, due, members, minimum, primary = fleet
    found = composed(one)
    cut = waves(found)
    assert sorted(name for wave in cut for name in wave) == sorted(due)
    assert sorted({name for change in found.changes for name in moves(change.steps)}) == sorted(due)
    for wave in cut:
        assert len(members - set(wave)) >= minimum
    if primary in due:
        turn = next(number for number, wave in enumerate(cut) if primary in wave)
        assert {name for wave in cut[turn:] for name in wave} & members == {primary}
    assert composed(one).digest == found.digest
    assert all(step.action in {Action.UPDATE, Action.CONFIGURE} for change in found.changes for step in change.steps)
