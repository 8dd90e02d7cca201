"""Staleness as a comparison of two plans: whatever differs is named, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given

from ismgr_automation.core.address import stack
from ismgr_automation.planning.freshness import expired, moved, other_engine, overdue
from ismgr_automation.planning.observation import Observation
from ismgr_automation.planning.plan import Plan, Purpose
from ismgr_automation.planning.planfile import read
from tests.planning.test_compose import NOON, composed, group, group_sight, observations, seen, stack_sight, step, task

FORMATS = Path(__file__).parents[1] / "cases" / "formats" / "plan"


def plan() -> Plan:
    made = composed(seen(stack_sight(stack("s"), step("a")), group_sight(group("g"), task("h1"), task("h2"))))
    return replace(made, inputs=replace(made.inputs, policies={"p": "1"}, secrets={"env:KEY": "1"}, states={"s": "1"}))


def first(change: Plan, **fields: object) -> Plan:
    return replace(change, changes=(replace(change.changes[0], **fields), *change.changes[1:]))  # type: ignore[arg-type]


def inputs(change: Plan, **fields: object) -> Plan:
    return replace(change, inputs=replace(change.inputs, **fields))  # type: ignore[arg-type]


MOVES: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "a document": (lambda one: inputs(one, documents={"a.yaml": "2"}), "document a.yaml changed"),
    "a document more": (lambda one: inputs(one, documents={"a.yaml": "1", "b.yaml": "1"}), "document b.yaml changed"),
    "content": (lambda one: inputs(one, content={"stack/s": "2"}), "content of stack/s changed"),
    "a state": (lambda one: inputs(one, states={"s": "2"}), "state of s changed"),
    "an engine": (lambda one: inputs(one, engines={"stack/s": "e 2"}), "engine of stack/s changed"),
    "a policy": (lambda one: inputs(one, policies={"p": "2"}), "policy p changed"),
    "no policy": (lambda one: inputs(one, policies={}), "policy p changed"),
    "a secret": (lambda one: inputs(one, secrets={"env:KEY": "2"}), "secret env:KEY changed"),
    "the inventory": (lambda one: inputs(one, inventory="j"), "the inventory changed"),
    "the selection": (lambda one: inputs(one, selection=("host/h1",)), "targets or exclusions differ"),
    "a constraint": (
        lambda one: first(one, constraint="sha256:2"),
        "the engine's own plan of stack/s would be another now",
    ),
    "a batch": (lambda one: first(one, batch=3), "stack/s would run in another wave now"),
    "a step": (lambda one: first(one, steps=()), "stack/s would do something else now"),
    "a precondition": (lambda one: first(one, precondition="x"), "stack/s would do something else now"),
    "the order": (lambda one: replace(one, waves=one.waves[::-1]), "the order of the changes differs"),
    "the environment": (lambda one: replace(one, environment="other"), "it is a plan for something else"),
    "the purpose": (lambda one: replace(one, purpose=Purpose.DESTROY), "it is a plan for something else"),
}


@pytest.mark.parametrize(("change", "words"), MOVES.values(), ids=MOVES)
def test_what_moved_is_named_and_nothing_else(change: Callable[[Plan], Plan], words: str) -> None:
    planned = plan()
    now = change(planned)
    assert now.digest != planned.digest
    assert tuple(moved(planned, now)) == (words,)


@given(observations(), observations())
def test_plans_with_two_digests_differ_in_something_that_can_be_named(one: Observation, other: Observation) -> None:
    planned, now = composed(one), composed(other)
    assert bool(list(moved(planned, now))) == (planned.digest != now.digest)
    assert list(moved(planned, planned)) == []


def test_a_plan_of_an_older_version_is_stale_with_one_sentence() -> None:
    old = read((FORMATS / "1" / "fresh-site.json").read_text(encoding="utf-8"), "fresh-site.json")
    now = read((FORMATS / "2" / "fresh-site.json").read_text(encoding="utf-8"), "fresh-site.json")
    assert old.digest != now.digest
    assert tuple(moved(old, now)) == (
        "it was made by an older version of ismgr (its format is ismgr.plan/1, today's is ismgr.plan/2)",
    )


@pytest.mark.parametrize(
    ("age", "late"), [(timedelta(0), False), (timedelta(hours=23), False), (timedelta(hours=24), True)]
)
def test_a_plan_is_too_old_from_the_moment_of_its_expiry(age: timedelta, *, late: bool) -> None:
    made = plan()
    limited = replace(made, beside=replace(made.beside, expires_at=NOON + timedelta(hours=24)))
    why = expired(limited, NOON + age)
    assert (why is not None) == late
    if why is not None:
        assert why == "it expired at 2026-03-02T12:00:00+00:00 (it was made at 2026-03-01T12:00:00+00:00)"
    assert expired(made, NOON + age) is None
    assert limited.digest == made.digest


@pytest.mark.parametrize(
    ("waited", "age", "late"),
    [
        (timedelta(), timedelta(hours=23), False),
        (timedelta(), timedelta(hours=24), True),
        # begun in the plan's last hour: it is not stopped by the clock an hour later
        (timedelta(hours=23), timedelta(hours=2), False),
        (timedelta(hours=23), timedelta(days=21), True),
    ],
)
def test_a_run_may_go_on_for_as_long_as_its_plan_was_to_last(waited: timedelta, age: timedelta, *, late: bool) -> None:
    made = plan()
    limited = replace(made, beside=replace(made.beside, expires_at=NOON + timedelta(hours=24)))
    begun = NOON + waited
    assert (overdue(limited, begun, begun + age) is not None) == late
    assert overdue(made, begun, begun + age) is None


@pytest.mark.parametrize(
    ("planned", "now", "other"),
    [
        ("pulumi 3.230.0; ismgr 0.1.0", "pulumi 3.230.0; ismgr 0.1.0", ""),
        ("pulumi 3.230.0; ismgr 0.1.0", "pulumi 3.230.0", ""),
        ("pulumi 3.230.0; ismgr 0.1.0", "pulumi 3.231.0; ismgr 0.1.0", "pulumi 3.231.0"),
        ("pulumi 3.230.0", "pulumi 3.230.0; ismgr 0.1.0", "ismgr 0.1.0"),
        ("", "pulumi 3.230.0", ""),
    ],
)
def test_an_engine_that_did_not_plan_is_named(planned: str, now: str, other: str) -> None:
    words = f"{other} would do it now; it was planned with {planned}" if other else ""
    assert other_engine(planned, now) == words
