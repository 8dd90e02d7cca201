"""The clause map: what a drill's record has and has not of what each standard asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ismgr_automation.estate.drill_mode import DrillMode, PaperMode
from ismgr_automation.recovery.clauses import CLAUSES, Case, Field, Seal, Standard
from ismgr_automation.recovery.coverage import NO_PLACE, coverage, coverage_json, held
from ismgr_automation.recovery.isolated import IsolationTold
from ismgr_automation.recovery.particulars import Extent, People, Scenario
from ismgr_automation.recovery.restore_told import Invariant
from ismgr_automation.recovery.result import FaultTold, Goals, Outage, Table, Verdict
from ismgr_automation.recovery.topics import Topic
from tests.recovery.results import NOBODY_MOVES, bare, case, finding, isolated, restored, statement, task

VERIFIED = task("after", "suites", "verify", 120.0, 900.0)


def missing(of: Case, field: Field) -> tuple[str, ...]:
    return next(one.missing for one in held(of) if one.field is field)


def test_every_field_is_asked_for_by_somebody_and_every_standard_asks_for_something() -> None:
    assert set(CLAUSES) == set(Field)
    assert all(clauses for field in CLAUSES.values() for clauses in field.values())
    assert {standard for field in CLAUSES.values() for standard in field} == set(Standard)


def test_a_drill_of_which_all_is_known_lacks_nothing_but_the_sign_off() -> None:
    assert {one.field: one.missing for one in held(case()) if one.missing} == {
        Field.SIGN_OFF: ("sign off by the owner", "sign off by management")
    }
    complete = {one.standard for one in coverage(case()) if one.complete}
    assert complete == set(Standard) - {Standard.DORA, Standard.ISO_22301, Standard.HIPAA}


def test_a_drill_of_which_nothing_is_known_covers_nothing_but_its_name() -> None:
    uncovered = {one.field for one in held(bare()) if one.missing}
    assert uncovered == set(Field)
    assert not [one.standard for one in coverage(bare()) if one.complete or one.covered]


CASES: dict[str, tuple[dict[str, Any], Field, str]] = {
    "tools": ({"tools": {}}, Field.IDENTITY, "tool versions"),
    "commit": ({"commit": ""}, Field.IDENTITY, "commit"),
    "systems": ({"extent": Extent(sites=("a",), data_classes=("phi",), tier=1)}, Field.SCOPE, "systems"),
    "tier 0 is one": ({"extent": Extent(hosts=("a",), sites=("a",), tier=0)}, Field.SCOPE, "data classes"),
    "bia": ({"scenario": Scenario(left_out=("nothing",))}, Field.SCOPE, "business impact analysis"),
    "an RPO of nothing is one": ({"goals": Goals(rto=None, rpo=0.0, mtd=1.0)}, Field.OBJECTIVES, "RTO"),
    "maximum downtime": ({"goals": Goals(rto=1.0, rpo=0.0)}, Field.OBJECTIVES, "MTD"),
    "approval": ({"people": People(planned=("Ada",), ran=("eve",))}, Field.PEOPLE, "who approved it"),
    "own approval": (
        {"people": People(planned=("Ada",), approved=("Ada",), ran=("eve",))}, Field.PEOPLE, "separation of duties",
    ),
    "steady": ({"steady": None}, Field.PREFLIGHT, "steady client"),
    "steps": ({"tasks": ()}, Field.STEPS, "steps"),
    "waterfall": ({"outages": (Outage(leg="x", outage_ms=9.0, resolution_ms=1.0),)}, Field.RTO, "time of each step"),
    "count": ({"writes": None}, Field.RPO, "count of lost writes"),
    "lag": ({"readings": ()}, Field.RPO, "lag readings"),
    "suites": ({"tasks": ()}, Field.INTEGRITY, "suites that passed"),
    "gap": ({"outages": ()}, Field.EFFECTS, "longest gap in service"),
    "witness": ({"confirmations": ()}, Field.FENCE, "independent confirmation"),
    "alone": ({"without_redundancy_s": None}, Field.RETURN, "time without redundancy"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_part_that_is_not_there_is_named_and_the_mark_withheld_from_who_asks(name: str) -> None:
    changed, field, part = CASES[name]
    lacking = case(**changed)
    assert part in missing(lacking, field)
    for one in coverage(lacking):
        if one.standard in CLAUSES[field]:
            assert not one.complete
            assert field not in one.covered
            assert field in {each.field for each in one.missing}


def test_no_fence_is_asked_for_where_the_old_side_was_not_lost() -> None:
    planned = case(mode=DrillMode.SWITCHOVER, tasks=(), confirmations=())
    assert [one.asked for one in held(planned) if one.field is Field.FENCE] == [False]
    assert Field.FENCE not in {each.field for one in coverage(planned) for each in one.missing}


@pytest.mark.parametrize("topic", Topic)
def test_what_no_machine_can_know_is_missing_until_a_person_states_it(topic: Topic) -> None:
    found = (finding(),) if topic is not Topic.REVIEW else ()
    others = tuple(statement(one) for one in Topic if one is not topic)
    without, with_it = case(notes=(*found, *others)), case(notes=(*found, *others, statement(topic)))
    lacking = {one.field for one in held(without) if one.missing}
    assert lacking - {one.field for one in held(with_it) if one.missing} or topic is Topic.RETENTION
    assert sum(len(one.missing) for one in held(without)) == sum(len(one.missing) for one in held(with_it)) + 1


def test_who_failed_must_find_something() -> None:
    failed = case(verdict=Verdict.FAILED, notes=tuple(map(statement, Topic)))
    assert missing(failed, Field.FINDINGS) == ("findings",)
    assert missing(case(notes=(finding(cause=""),)), Field.FINDINGS) == ("root causes",)


@pytest.mark.parametrize("seal", [Seal(), Seal(recorded=True), Seal(signed_by="runner")])
def test_a_result_is_signed_when_its_digest_is_in_a_whole_chain_that_a_runner_signed(seal: Seal) -> None:
    assert "signed record" in missing(case(seal=seal), Field.SIGN_OFF)
    assert "when the next one is due" in missing(case(seal=seal), Field.COMPARISON)


def test_a_drill_in_isolation_has_its_effects_without_an_outage() -> None:
    inside = IsolationTold(network="", gateways=(), spare="", source="")
    counted = replace(inside, longest_gap_ms=12.0, passed_out=0)
    assert "longest gap in service" in missing(case(outages=(), isolation=inside), Field.EFFECTS)
    assert missing(case(outages=(), isolation=counted), Field.EFFECTS) == ()


PAPER = Table(rehearsed=DrillMode.FAILOVER, paper="sha256:ab", people=("Ada",), seats=())
MODES: dict[str, tuple[Case, set[Field]]] = {
    "failover": (case(), set()),
    "switchover": (case(mode=DrillMode.SWITCHOVER, tasks=(VERIFIED,), confirmations=()), {Field.FENCE}),
    "a return that moved somebody": (case(mode=DrillMode.RETURN, tasks=(VERIFIED,), confirmations=()), {Field.FENCE}),
    "isolated": (isolated(), {Field.FENCE, Field.RTO}),
    "restore": (restored(), {Field.FENCE, Field.EFFECTS}),
    "tabletop": (
        case(
            mode=PaperMode.TABLETOP, table=PAPER, tasks=(task("failover", "fence", "paper", 0.0, 60_000.0),),
            readings=(), writes=None, method=None, steady=None, **NOBODY_MOVES,
        ),
        set(NO_PLACE[PaperMode.TABLETOP]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_can_have_all_that_has_a_place_in_it(mode: str) -> None:
    found, no_place = MODES[mode]
    assert {one.field for one in held(found) if not one.asked} == no_place
    assert {one.field: one.missing for one in held(found) if one.missing} == {
        Field.SIGN_OFF: ("sign off by the owner", "sign off by management")
    }
    assert {Standard.NIST, Standard.SOC_2} <= {one.standard for one in coverage(found) if one.complete}


LACKING: dict[str, tuple[Case, Field, str]] = {
    "no backup": (restored(label=""), Field.PREFLIGHT, "backup"),
    "no step": (restored(steps=()), Field.STEPS, "steps"),
    "it never answered": (restored(rto_ms=None), Field.RTO, "time until it answered"),
    "of unknown age": (restored(age_s=None), Field.RPO, "age of the newest write"),
    "nothing was asked": (restored(invariants=()), Field.INTEGRITY, "suites that passed"),
    "one does not hold": (
        restored(invariants=(Invariant(name="a", ok=True), Invariant(name="b", ok=False))), Field.INTEGRITY,
        "suites that passed",
    ),
    "no timeline": (restored(timeline=None), Field.INTEGRITY, "timelines"),
    "a clone that nobody asked": (isolated(checks=()), Field.INTEGRITY, "suites that passed"),
    "rows that nobody counted": (isolated(held_rows=None), Field.RPO, "count of rows in the clone"),
    "packets that nobody counted": (
        isolated(passed_out=None), Field.EFFECTS, "count of packets that got out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LACKING)
def test_what_a_restore_or_a_clone_does_not_have_is_missing(name: str) -> None:
    found, field, part = LACKING[name]
    assert missing(found, field) == (part,)


def test_checksums_are_those_of_the_repository_or_what_a_person_states() -> None:
    unread = replace(restored(invariants=(Invariant(name="patients", ok=True),)), notes=())
    assert missing(unread, Field.INTEGRITY) == ("checksums",)
    assert missing(replace(restored(), notes=()), Field.INTEGRITY) == ()


def test_no_fence_is_asked_for_where_the_service_was_to_survive_its_fault() -> None:
    slow = FaultTold(name="slow", kind="slow-link", gap_ms=12.0)
    survived = case(fault=slow, tasks=(VERIFIED,), confirmations=())
    assert [one.asked for one in held(survived) if one.field is Field.FENCE] == [False]


def test_a_pipeline_reads_which_marks_are_withheld_and_why() -> None:
    told = coverage_json(coverage(case(tools={})))
    assert told["NIST"] == {
        "complete": False,
        "covered": [one.name.lower() for one in Field if Standard.NIST in CLAUSES[one] and one is not Field.IDENTITY],
        "missing": {"identity": ["tool versions"]},
    }
