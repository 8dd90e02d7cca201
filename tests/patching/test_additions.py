"""New packages that updates need: let in as a part of what needs them, or the update waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.maintenance import Severity
from ismgr_automation.patching.additions import Admission, Asked, Gate, best
from ismgr_automation.patching.rules import Ruling, Standing
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.sla import State
from ismgr_automation.patching.steps import move, steps
from ismgr_automation.patching.updates import Decision, Exposure, Update
from ismgr_automation.planning.change import Action, Step
from ismgr_automation.ports.packages import Brought, Move
from tests.patching.cases import DAY, HOST, baseline, offered

NOON = datetime.combine(DAY, time(12), UTC)


def update(package: str = "kernel", **fields) -> Update:
    decision = Decision(
        package=package,
        architecture="amd64",
        source=package,
        installed="1.0",
        target="2.0",
        ruling=Ruling(standing=Standing.APPROVE, rule="everything", why="rule everything approves it"),
    )
    return Update("db1", replace(decision, **fields))


def new(name: str = "kernel-2", *needed_by: str, version: str = "2.0", **fields) -> Brought:
    return Brought(
        name=name,
        architecture="amd64",
        version=version,
        offers=(offered(version, name, **fields),),
        needed_by=needed_by,
    )


def admit(*brings: Brought, updates=(), first_seen=None, earlier: tuple[Step, ...] = (), **rules) -> Admission:
    updates = updates or (update(),)
    asked = Asked(
        host=HOST, steps=(*steps(updates, {"db1": "canary"}), *earlier), updates=tuple(updates), brings=brings
    )
    return Gate(baseline(**rules), first_seen or {}, DAY).admit(asked)


def whats(admission: Admission) -> list[str]:
    return [f"{one.action} {one.what}" for one in admission.steps]


def test_a_new_package_is_a_step_with_nothing_before_that_says_what_needs_it():
    found = admit(new("kernel-2", "kernel"))
    (step,) = [one for one in found.steps if one.action is Action.CREATE]
    assert (step.target, step.what, step.why) == ("db1", "kernel-2:amd64", "needed by kernel")
    assert step.before == {"version": ""}
    assert step.after == {
        "version": "2.0",
        "digest": "sha256:2.0",
        "cves": [],
        "severity": "",
        "due": "",
        "for": ["kernel:amd64"],
        "ring": "canary",
        "rule": "everything",
    }
    assert move(step) == Move(name="kernel-2", architecture="amd64", before="", after="2.0", digest="sha256:2.0")
    assert found.waits == ()


SAID = {
    "the deny list": ({"deny": ["kernel-*=*"]}, "2.0 is on the deny list of baseline all (kernel-*=*)"),
    "a hold": ({"holds": ["kernel-*"]}, "baseline all holds kernel-*"),
    "a pin to another version": ({"pins": {"kernel-2": "1.9"}}, "baseline all pins 1.9"),
    "a pin that is denied": (
        {"pins": {"kernel-2": "2.0"}, "deny": ["kernel-2=2.0"]},
        "2.0 is on the deny list of baseline all (kernel-2=2.0)",
    ),
    "no rule": (
        {"rules": [{"name": "other", "when": 'package.name == "kernel"'}]},
        "no rule of baseline all holds for it",
    ),
    "a rule that denies": (
        {"rules": [{"name": "never", "when": 'package.installed == ""', "then": "deny"}]},
        "rule never denies it",
    ),
    "its age": (
        {"rules": [{"name": "old", "when": "true", "after": "3d"}]},
        "too young: first seen on 2026-11-20, rule old approves it on 2026-11-23",
    ),
}


@pytest.mark.parametrize(("rules", "why"), SAID.values(), ids=SAID)
def test_what_is_not_let_in_makes_the_update_wait_that_needs_it_and_no_other(rules, why):
    found = admit(new("kernel-2", "kernel"), updates=(update(), update("bash")), **rules)
    assert whats(found) == ["update bash:amd64"]
    assert found.waits == (f"kernel stays at 1.0: 2.0 needs kernel-2 2.0, which is not installed there, and {why}",)


def test_its_age_counts_from_when_that_very_file_was_seen_first():
    rules = {"rules": [{"name": "old", "when": "true", "after": "3d"}]}
    brought = new("kernel-2", "kernel")
    key = version_key(brought.offers[0])
    assert admit(brought, first_seen={key: NOON - timedelta(days=3)}, **rules).waits == ()
    assert admit(brought, first_seen={key: NOON - timedelta(days=2)}, **rules).waits != ()
    other = replace(key, digest="sha256:other")
    assert admit(brought, first_seen={other: NOON - timedelta(days=9)}, **rules).waits != ()


def test_a_pin_to_this_very_version_lets_it_in_whatever_rules_say():
    rules = {"pins": {"kernel-2": "2.0"}, "rules": [{"name": "none", "when": "false"}]}
    assert whats(admit(new("kernel-2", "kernel"), **rules)) == ["create kernel-2:amd64", "update kernel:amd64"]


def test_it_is_as_urgent_as_the_update_that_needs_it():
    rules = {"rules": [{"name": "urgent", "when": 'package.security && "CVE-1" in package.cves && package.exploited'}]}
    hole = Exposure(
        cve="CVE-1",
        severity=Severity.HIGH,
        fixed="2.0",
        offered=True,
        mended=True,
        exploited=True,
        epss=0.5,
        due=None,
        state=State.OK,
    )
    urgent = update(exposures=(hole,), security=True, exploited=True, severity=Severity.HIGH)
    assert admit(new("kernel-2", "kernel"), updates=(urgent,), **rules).waits == ()
    assert admit(new("kernel-2", "kernel"), **rules).waits != ()


def test_what_a_new_package_needs_belongs_to_the_update_as_well():
    brings = (new("kernel-2", "kernel"), new("firmware", "kernel-2"))
    assert whats(admit(*brings)) == ["create firmware:amd64", "create kernel-2:amd64", "update kernel:amd64"]
    found = admit(*brings, updates=(update(), update("bash")), deny=["firmware=*"])
    assert whats(found) == ["update bash:amd64"]
    assert [one.after["for"] for one in admit(*brings).steps if one.action is Action.CREATE] == [["kernel:amd64"]] * 2


def test_what_is_needed_by_one_that_goes_comes_even_where_another_one_waits():
    brings = (new("shared", "kernel", "bash"), new("kernel-2", "kernel"))
    found = admit(*brings, updates=(update(), update("bash")), deny=["kernel-2=*"])
    assert whats(found) == ["update bash:amd64", "create shared:amd64"]
    assert found.steps[1].after["for"] == ["bash:amd64"]


def test_where_nobody_can_tell_what_needs_it_all_updates_wait():
    found = admit(new("mystery"), updates=(update(), update("bash")), deny=["mystery=*"])
    assert (whats(found), len(found.waits)) == ([], 2)


def test_what_was_let_in_before_speaks_for_what_it_needs_and_goes_with_its_update():
    (step,) = [one for one in admit(new("kernel-2", "kernel")).steps if one.action is Action.CREATE]
    found = admit(new("firmware", "kernel-2"), updates=(update(), update("bash")), earlier=(step,))
    assert [one.after["for"] for one in found.steps if one.what == "firmware:amd64"] == [["kernel:amd64"]]
    refused = admit(
        new("firmware", "kernel-2"), updates=(update(), update("bash")), earlier=(step,), deny=["firmware=*"]
    )
    assert whats(refused) == ["update bash:amd64"]


def test_what_was_let_in_before_names_only_what_still_goes():
    both = (update(), update("bash"))
    earlier = tuple(one for one in admit(new("shared", "kernel", "bash"), updates=both).steps if one.what[:2] == "sh")
    found = admit(new("firmware", "kernel"), updates=both, earlier=earlier, deny=["firmware=*"])
    assert [(one.what, one.why) for one in found.steps if one.action is Action.CREATE] == [
        ("shared:amd64", "needed by bash")
    ]


def test_of_two_repositories_the_one_for_security_counts():
    plain, security = offered("2.0", digest="sha256:a"), offered("2.0", suite="stable-security", digest="sha256:b")
    assert best((plain, security)) == best((security, plain)) == security


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(st.dictionaries(NAMES, st.sets(NAMES | st.sampled_from(["kernel", "bash"]), max_size=3)), st.sets(NAMES))
def test_nothing_that_is_denied_comes_in_and_nothing_goes_without_what_it_needs(needed_by, denied):
    brings = tuple(new(name, *sorted(who)) for name, who in sorted(needed_by.items()))
    found = admit(*brings, updates=(update(), update("bash")), deny=[f"{name}=*" for name in sorted(denied)])
    going = {one.what.rpartition(":")[0] for one in found.steps}
    assert not going & denied
    for name, who in needed_by.items():
        if going & who & {"kernel", "bash"}:
            assert name in going
    assert (len(found.waits) == 0) or denied & needed_by.keys()
