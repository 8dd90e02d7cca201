"""Updates that need packages which are not installed: planned, let in by the baseline, installed, and kept on the way
back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.patch import plan_rollback
from ismgr_automation.converge.patching import history, standing
from ismgr_automation.converge.trial import ROUNDS
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.status import rows
from ismgr_automation.planning.change import Action, Level, Step
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.packages import Installed
from tests.converge.patched import (
    NEW,
    OLD,
    days,
    effects,
    exactly,
    offer,
    on_new,
    package,
    patch,
    patched,
    plan,
    planned_moves,
    today,
    versions,
)
from tests.rehearsal import NOON, Rehearsal

EVERYBODY = ["db1", "db2", "web1", "web2", "web3"]


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    """The new version of ``tool`` needs ``libtool2``, which nobody has."""
    site = patched(tmp_path, budget=5)
    offered(site, "libtool2")
    site.packages.needs["tool", NEW] = ("libtool2",)
    return site


def offered(site: Rehearsal, name: str, version: str = "2.0-1") -> None:
    site.packages.repository.append(offer(version, name))
    for machine in site.packages.machines.values():
        site.packages.read_lists(machine)


def new_steps(planned: Plan, name: str = "libtool2") -> dict[str, Step]:
    return {
        step.target: step
        for change in planned.changes
        for step in change.steps
        if step.action is Action.CREATE and step.what == f"{name}:amd64"
    }


def there(site: Rehearsal, host: str, name: str = "libtool2") -> Installed | None:
    return site.packages.machines[host].installed.get(name)


def said(planned: Plan, host: str) -> list[str]:
    return [one.summary for one in planned.findings if one.subject.name == host]


def test_the_new_package_is_planned_beside_the_update_that_needs_it(clinic: Rehearsal) -> None:
    found = plan(clinic)
    assert sorted(new_steps(found)) == EVERYBODY
    step = new_steps(found)["web1"]
    assert (step.before, step.why) == ({"version": ""}, "needed by tool")
    assert (step.after["version"], step.after["digest"]) == ("2.0-1", "sha256:2.0-1")
    assert (step.after["for"], step.after["ring"]) == (["tool:amd64"], "canary")
    assert planned_moves(found)["web1 tool:amd64"] == (OLD, NEW)
    assert found.findings == ()
    assert effects(clinic) == []


def test_the_same_plan_twice_has_one_digest_and_a_file_keeps_what_is_new(clinic: Rehearsal) -> None:
    first = plan(clinic)
    assert plan(clinic, NOON + days(0.4)).digest == first.digest
    assert new_steps(read(write(first), "plan")) == new_steps(first)


def test_it_is_installed_exactly_and_the_next_plan_is_empty(clinic: Rehearsal) -> None:
    report = exactly(clinic, today(clinic))
    assert report.ok, report.stopped
    assert on_new(clinic) == EVERYBODY
    assert {there(clinic, name).version for name in EVERYBODY} == {"2.0-1"}
    (done,) = history(clinic.scope(), "web1")
    assert sorted((one.name, one.before) for one in done.moves) == [("libtool2", ""), ("tool", OLD)]
    assert plan(clinic).empty


def test_it_is_no_missing_update(clinic: Rehearsal) -> None:
    assert {one.package for one in rows(standing(clinic.scope(), NOON).status)} <= {"tool"}


def test_what_a_new_package_needs_comes_with_it(clinic: Rehearsal) -> None:
    offered(clinic, "libdeep")
    clinic.packages.needs["libtool2", "2.0-1"] = ("libdeep",)
    found = plan(clinic)
    assert new_steps(found, "libdeep")["db1"].after["for"] == ["tool:amd64"]
    assert exactly(clinic, today(clinic)).ok
    assert there(clinic, "db1", "libdeep").version == "2.0-1"


REFUSED = {
    "denied": ("reboot:", 'deny: ["libtool2=*"]\nreboot:', "2.0-1 is on the deny list of baseline all (libtool2=*)"),
    "held": ("reboot:", 'holds: ["libtool*"]\nreboot:', "baseline all holds libtool*"),
    "too young": (
        'when: "true"}',
        'when: "true", after: 3d}',
        f"too young: first seen on {NOON.date()}, rule everything approves it on {NOON.date() + days(3)}",
    ),
}


@pytest.mark.parametrize(("old", "new", "why"), REFUSED.values(), ids=REFUSED)
def test_where_the_baseline_does_not_let_it_in_the_update_waits_and_others_go(
    clinic: Rehearsal, old: str, new: str, why: str
) -> None:
    clinic.edit("baseline.yaml", old, new)
    clinic.packages.machines["web2"].installed["zlib"] = package("2.0-1", "zlib")
    for one in (offer(NEW), offer("2.1-1", "zlib")):
        clinic.first_seen.entries[version_key(one)] = NOON - days(9)
    offered(clinic, "zlib", "2.1-1")
    found = plan(clinic)
    assert planned_moves(found) == {"web2 zlib:amd64": ("2.0-1", "2.1-1")}
    words = f"tool stays at {OLD}: {NEW} needs libtool2 2.0-1, which is not installed there, and {why}"
    assert said(found, "web1") == [f"web1: {words}"]
    assert {one.level for one in found.findings} == {Level.WARN}
    assert patch(clinic, found).ok
    assert there(clinic, "web2") is None
    assert set(versions(clinic).values()) == {OLD}


def test_its_age_counts_from_the_first_reading_of_a_host_that_would_get_it(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", 'when: "true"}', 'when: "true", after: 3d}')
    clinic.first_seen.entries[version_key(offer(NEW))] = NOON - days(9)
    standing(clinic.scope(), NOON)
    assert plan(clinic, NOON + days(2)).empty
    assert sorted(new_steps(plan(clinic, NOON + days(3)))) == EVERYBODY


def test_what_needs_more_rounds_than_anybody_would_ask_is_left_out_and_said(clinic: Rehearsal) -> None:
    rounds = 0

    def another(call: str) -> None:
        nonlocal rounds
        if call == "check web1":
            rounds += 1
            offered(clinic, f"lib{rounds}")
            clinic.packages.needs["tool", NEW] = (*clinic.packages.needs["tool", NEW], f"lib{rounds}")

    clinic.packages.watch.append(another)
    found = plan(clinic, targets=("host/web1",))
    assert (found.empty, rounds) == (True, ROUNDS)
    assert said(found, "web1") == [f"web1 would not be patched as its baseline asks (wider): lib{ROUNDS}=2.0-1"]


def test_one_that_is_there_by_now_makes_the_plan_stale(clinic: Rehearsal) -> None:
    planned = today(clinic)
    clinic.packages.machines["web2"].installed["libtool2"] = package("2.0-1", "libtool2")
    words = r"libtool2:amd64 on web2: new at 2.0-1 \(sha256:2.0-1\) was signed, and now nothing"
    with pytest.raises(StalePlan, match=words):
        exactly(clinic, planned)
    assert effects(clinic) == []


def test_one_that_somebody_else_brings_in_another_version_is_not_replaced(clinic: Rehearsal) -> None:
    planned = today(clinic)

    def meddle(call: str) -> None:
        if call == "apply web1":
            clinic.packages.machines["web1"].installed["libtool2"] = package("1.9-1", "libtool2")

    clinic.packages.watch.append(meddle)
    report = exactly(clinic, planned)
    assert "web1 refused (moved): libtool2 is 1.9-1" in report.stopped
    assert there(clinic, "web1").version == "1.9-1"
    assert on_new(clinic) == []


def test_the_way_back_of_a_run_leaves_it_there_and_says_so(clinic: Rehearsal) -> None:
    report = exactly(clinic, today(clinic))
    back = plan_rollback(clinic.scope(), datetime.now(UTC), report.run)
    assert new_steps(back) == {}
    stays = f"libtool2 2.0-1 stays on web1: it was not there before {report.run}, and what came with it may need it"
    assert said(back, "web1") == [stays]
    assert {one.level for one in back.findings} == {Level.ADVISE}
    assert exactly(clinic, back).ok
    assert set(versions(clinic).values()) == {OLD}
    assert there(clinic, "web1").version == "2.0-1"


def test_a_host_that_is_not_well_goes_back_and_keeps_what_is_new(clinic: Rehearsal) -> None:
    clinic.world.unhealthy.add("web1")
    clinic.packages.watch.append(lambda call: clinic.world.unhealthy.clear() if call == "rollback web1" else None)
    report = exactly(clinic, today(clinic))
    told = "web1 is back at the former versions; what was not there before stays: libtool2 2.0-1"
    assert told in report.outcomes[0].summary
    assert (versions(clinic)["web1"], there(clinic, "web1").version) == (OLD, "2.0-1")


def test_one_that_never_got_well_does_not_stay(clinic: Rehearsal) -> None:
    clinic.packages.broken.add(("libtool2", "2.0-1"))
    report = exactly(clinic, today(clinic))
    assert "web1 is back at the former versions" in report.outcomes[0].summary
    assert "stays" not in report.outcomes[0].summary
    assert there(clinic, "web1") is None
    assert versions(clinic)["web1"] == OLD


def test_former_versions_are_not_asked_of_what_was_not_there(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", "reboot:", "rollback: required\nreboot:")
    assert exactly(clinic, today(clinic)).ok
    assert on_new(clinic) == EVERYBODY


def test_a_connection_that_is_lost_in_between_installs_it_once(clinic: Rehearsal) -> None:
    clinic.packages.dies["web1"] = 1
    assert exactly(clinic, today(clinic)).ok
    (done,) = history(clinic.scope(), "web1")
    assert sorted(one.name for one in done.moves) == ["libtool2", "tool"]
