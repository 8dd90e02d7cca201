"""When vulnerabilities are due, and how they stand."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.maintenance import Severity, Sla
from ismgr_automation.patching.sla import BREACHES, PROFILES, WORST, Known, State, due, state, worst
from tests.patching.cases import DAY, load

KNOWN = ("published", "first_seen", "exploited")
DAYS = st.dates(date(2026, 1, 1), date(2027, 12, 31))


@pytest.mark.parametrize("case", load("sla.yaml"), ids=lambda one: one["case"])
def test_a_vulnerability_is_due_and_stands_as_its_case_says(case):
    sla = Sla.model_validate(case.get("sla", {}))
    known = Known(severity=Severity(case["severity"]), **{key: case[key] for key in KNOWN if key in case})
    due_on = due(sla, case.get("data_classes", ()), known)
    assert due_on == case["due"]
    assert state(sla, known, due_on, DAY, excepted=case.get("excepted", False)) == case["state"]


def test_every_state_has_its_place_and_the_worst_wins():
    assert set(WORST) == set(State)
    assert worst(State) is State.BREACHED
    assert worst([]) is State.OK
    assert {State.BREACHED, State.UNKNOWN} == BREACHES


def test_no_profile_gives_days_to_what_nobody_rated():
    assert all(Severity.UNKNOWN not in days for days in PROFILES.values())


@given(
    st.sampled_from(sorted(PROFILES)),
    st.sampled_from(Severity),
    st.tuples(*[st.none() | DAYS] * 3),
    DAYS,
    st.integers(0, 400),
)
def test_time_makes_nothing_better(profile, severity, dates, day, later):
    sla = Sla(profile=profile)
    known = Known(severity=severity, **dict(zip(KNOWN, dates, strict=True)))
    due_on = due(sla, (), known)
    now = state(sla, known, due_on, day)
    then = state(sla, known, due_on, min(date.fromordinal(day.toordinal() + later), date.max))
    assert WORST.index(then) <= WORST.index(now)
    if severity is Severity.UNKNOWN:
        assert now in BREACHES


@given(st.dictionaries(st.sampled_from(["phi", "personal"]), st.integers(0, 200)), DAYS)
def test_more_data_classes_never_give_more_time(classes, published):
    sla = Sla.model_validate({"data_classes": {name: {"high": days} for name, days in classes.items()}})
    known = Known(severity=Severity.HIGH, published=published)
    alone, all_together = due(sla, (), known), due(sla, list(classes), known)
    assert alone is not None
    assert all_together is not None
    assert all_together <= alone
