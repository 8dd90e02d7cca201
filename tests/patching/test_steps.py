"""Decided moves as steps of a plan, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import digest
from ismgr_automation.estate.maintenance import Severity
from ismgr_automation.patching.rules import Ruling, Standing
from ismgr_automation.patching.sla import State
from ismgr_automation.patching.steps import move, move_of, moves, step, step_of_move, steps
from ismgr_automation.patching.updates import Decision, Exposure, Update
from ismgr_automation.planning.change import Action, Step
from ismgr_automation.planning.plan import step_json
from ismgr_automation.planning.planfile import read_step
from ismgr_automation.ports.packages import Move
from tests.patching.cases import DAY

NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,8}", fullmatch=True)
VERSIONS = st.from_regex(r"([0-9]:)?[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,4})?", fullmatch=True)


def _exposure(cve, *, mended):
    return Exposure(
        cve=cve,
        severity=Severity.HIGH,
        fixed="1",
        offered=mended,
        mended=mended,
        exploited=False,
        epss=0.1,
        due=DAY,
        state=State.OK,
    )


@st.composite
def updates(draw):
    decision = Decision(
        package=draw(NAMES),
        architecture=draw(st.sampled_from(["amd64", "all", "i386"])),
        source="demo",
        installed=draw(VERSIONS),
        target=draw(VERSIONS | st.just("")),
        digest=draw(st.sampled_from(["", "sha256:abc"])),
        severity=draw(st.none() | st.sampled_from(Severity)),
        ruling=Ruling(standing=Standing.APPROVE, rule=draw(NAMES), why="rule r approves it"),
        exposures=tuple(
            _exposure(f"CVE-{n}", mended=mended) for n, mended in enumerate(draw(st.lists(st.booleans(), max_size=3)))
        ),
        due=draw(st.none() | st.dates()),
    )
    return Update(draw(NAMES), decision)


@given(updates().filter(lambda one: one.decision.target), NAMES)
def test_a_step_gives_back_the_move_that_it_was_made_of(update, ring):
    assert move(step(update, ring)) == move_of(update)
    assert move(read_step(step_json(step(update, ring)))) == move_of(update)


@given(st.lists(updates(), max_size=6, unique_by=lambda one: (one.host, one.decision.package)), st.randoms())
def test_equal_decisions_give_equal_digests_in_any_order(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = steps(found, {}), steps(shuffled, {})
    assert digest([step_json(each) for each in one]) == digest([step_json(each) for each in other])
    assert len(one) == sum(bool(each.decision.target) for each in found)


@given(NAMES, VERSIONS | st.just(""), VERSIONS)
def test_a_move_that_was_made_gives_a_step_that_gives_it_back_also_where_nothing_was_before(name, before, after):
    made = Move(name=name, architecture="amd64", before=before, after=after, digest="sha256:abc")
    assert move(read_step(step_json(step_of_move("db1", made)))) == made


def _update(**fields):
    given_ = {"package": "demo", "architecture": "amd64", "source": "demo", "installed": "1.0-1", "target": "1.1-1"}
    ruling = Ruling(standing=Standing.APPROVE, rule="everything", why="rule everything approves it")
    return Update("db1", Decision(**{**given_, "ruling": ruling, **fields}))


def test_a_step_says_what_is_mended_by_when_and_why():
    exposures = (_exposure("CVE-2", mended=True), _exposure("CVE-1", mended=True), _exposure("CVE-3", mended=False))
    found = step(_update(exposures=exposures, due=DAY, severity=Severity.HIGH, digest="sha256:a"), "test")
    assert found == Step(
        target="db1",
        what="demo:amd64",
        action=Action.UPDATE,
        why="rule everything approves it",
        before={"version": "1.0-1"},
        after={
            "version": "1.1-1",
            "digest": "sha256:a",
            "cves": ["CVE-1", "CVE-2"],
            "severity": "high",
            "due": "2026-11-20",
            "ring": "test",
            "rule": "everything",
        },
    )


def test_the_moves_of_a_plan_are_grouped_by_host():
    found = steps([_update(), replace(_update(), host="db2"), _update(package="bash", target="")], {"db1": "test"})
    assert moves(found) == {
        name: (Move(name="demo", architecture="amd64", before="1.0-1", after="1.1-1"),) for name in ("db1", "db2")
    }
    assert [one.after["ring"] for one in found] == ["test", ""]


def test_a_new_package_is_a_move_and_a_restart_is_none():
    made = Move(name="demo-2", architecture="amd64", before="", after="1.1-1")
    beside = Step(target="db1", what="reboot", action=Action.CONFIGURE)
    assert moves([step_of_move("db1", made), beside]) == {"db1": (made,)}


@pytest.mark.parametrize(
    "fields",
    [
        {"what": "demo"},
        {"what": ":amd64"},
        {"before": None},
        {"before": {"version": ""}},
        {"action": Action.CREATE},
        {"action": Action.CREATE, "before": None},
        {"after": {"version": 1, "digest": ""}},
        {"after": {"version": "1.1-1"}},
        {"after": "1.1-1"},
    ],
)
def test_a_step_that_is_no_move_is_refused(fields):
    with pytest.raises(PlanFileError, match="is no move of a package"):
        move(replace(step(_update()), **fields))
