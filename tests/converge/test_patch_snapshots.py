"""Hosts that are kept whole while their packages move: when a snapshot is made, put back, kept and removed."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ismgr_automation.converge.patch import plan_rollback
from ismgr_automation.converge.patching import waiting
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.secrets import doors
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Boundary, Death, Killed
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.upkeep import Part
from tests.converge.patched import NEW, OLD, exactly, offer, on_new, order, patch, patched, plan, roll_back, versions
from tests.rehearsal import NOON, Rehearsal

WEBS = ["web1", "web2", "web3"]
COMMAND = 'snapshots: {command: [snap/shot, "--fast"], secrets: {TOKEN: {secret: "env:APP"}}'


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return kept(tmp_path)


@pytest.fixture
def patient(tmp_path: Path) -> Rehearsal:
    """One that goes on after a failure."""
    return kept(tmp_path, budget=1)


def kept(folder: Path, *, budget: int = 0, more: str = "", rollback: str = "on-failure") -> Rehearsal:
    """All hosts but databases are kept whole."""
    site = patched(folder, budget=budget)
    site.files["snap/shot"] = "#!/bin/sh\n"
    site.edit("baseline.yaml", "reboot:", f"rollback: {rollback}\n{COMMAND}{more}}}\nreboot:")
    return site


def asked(site: Rehearsal, host: str = "web1") -> list[str]:
    """What was asked about a host's snapshot, in order."""
    calls = [one.removeprefix("snapshot ").split() for one in site.packages.calls if one.startswith("snapshot ")]
    return [verb for verb, name in calls if name == host]


def summary(report: Report) -> str:
    return report.outcomes[0].summary


def stuck(site: Rehearsal) -> None:
    """web1 cannot be configured, and its former version is nowhere."""
    site.packages.broken.add(("tool", NEW))
    site.packages.machines["web1"].lists.remove(offer(OLD))
    site.packages.watch.append(lambda call: site.packages.broken.clear() if call == "apply db2" else None)


def unplugged(site: Rehearsal, after: str = "apply web1", host: str = "web1") -> None:
    """A host cannot be reached any more once it was asked for something, until its disk is put back."""
    seen: list[str] = []

    def lost(call: str) -> None:
        if seen:
            site.world.reach[host] = Reach.TIMEOUT
        if call == after:
            seen.append(call)
        if call == f"snapshot restore {host}":
            seen.clear()
            del site.world.reach[host]

    site.packages.watch.append(lost)


def test_a_snapshot_is_made_once_the_host_is_out_of_service_and_removed_once_it_is_back(clinic: Rehearsal) -> None:
    with order(clinic) as calls:
        assert patch(clinic).ok
    mine = [one for one in calls if one.split()[0] in {"drain", "snapshot", "apply", "restore"} and "web1" in one]
    assert mine == [
        "drain web/web1",
        "snapshot create web1",
        "apply web1",
        "restore web/web1",
        "snapshot remove web1",
    ]
    assert clinic.snapshots.kept == {}
    (run,) = {one.run for one in clinic.patches.patched()}
    first = clinic.snapshots.requests[0]
    assert (first.host, first.name) == ("web1", f"ismgr-{run}")
    assert (first.command, first.secrets) == (("snap/shot", "--fast"), {"TOKEN": SecretRef("env", "APP")})
    assert (first.root / "snap/shot").is_file()
    told = [one.detail for one in clinic.events if isinstance(one, StepReported) and one.step == "snapshot web1"]
    assert told == [f"ismgr-{run} made"]


def test_the_plan_lists_who_is_kept_whole_and_databases_are_not_unless_they_are_named(tmp_path: Path) -> None:
    def hosts(site: Rehearsal) -> list[str]:
        steps = [step for change in plan(site).changes for step in change.steps]
        return sorted(step.target for step in steps if step.what == "snapshot")

    assert hosts(kept(tmp_path / "1")) == WEBS
    assert hosts(kept(tmp_path / "2", more=", databases: [databases]")) == ["db1", "db2", *WEBS]
    assert hosts(kept(tmp_path / "3", more=', selector: host.name == "web2"')) == ["web2"]
    assert hosts(kept(tmp_path / "4", rollback="never")) == []


def test_without_its_snapshot_a_host_is_not_patched_and_counted(patient: Rehearsal) -> None:
    patient.snapshots.fails.add("create web1")
    report = patch(patient)
    assert "web1 is left as it is, its snapshot" in summary(report)
    assert "could not be made: create ended with 1: no room" in summary(report)
    assert report.outcomes[0].troubled == ("web1",)
    assert on_new(patient) == ["db1", "db2", "web2", "web3"]
    assert "apply web1" not in patient.packages.calls


def test_a_snapshot_of_this_name_that_somebody_else_has_made_is_not_taken_for_ours(patient: Rehearsal) -> None:
    snapshots = patient.snapshots

    def faster(call: str) -> None:
        if call == "snapshot create web1":
            (run,) = patient.runs.runs()
            snapshots.kept["web1", f"ismgr-{run.id}"] = patient.packages.machines["web2"]

    patient.packages.watch.append(faster)
    assert "somebody else has made one of this name" in summary(patch(patient))
    assert versions(patient)["web1"] == OLD


def test_where_packages_can_go_back_no_disk_is_put_back(patient: Rehearsal) -> None:
    patient.world.unhealthy.add("web1")
    patient.packages.watch.append(lambda call: patient.world.unhealthy.clear() if call == "rollback web1" else None)
    report = patch(patient)
    assert summary(report).endswith("web1 is back at the former versions")
    assert asked(patient) == ["create", "remove"]
    (row,) = patient.patches.patched("web1")
    assert (row.rolled_back, row.snapshot) == (report.run, "")


def test_where_packages_cannot_go_back_the_host_is_put_back_and_proven(patient: Rehearsal) -> None:
    stuck(patient)
    report = patch(patient)
    name = f"ismgr-{report.run}"
    assert "web1 could not be rolled back: web1 refused (no-former)" in summary(report)
    assert summary(report).endswith(f"web1 was put back to its snapshot {name} and has the former versions again")
    assert report.outcomes[0].undone == ("web1",)
    assert report.stopped == ""
    there = patient.packages.machines["web1"].installed["tool"]
    assert (there.version, there.status) == (OLD, "ii")
    assert on_new(patient) == ["db1", "db2", "web2", "web3"]
    assert "verify web1" in patient.world.calls
    assert asked(patient) == ["create", "restore", "remove"]
    (row,) = patient.patches.patched("web1")
    assert (row.rolled_back, row.snapshot) == (report.run, name)
    told = [one.detail for one in patient.events if isinstance(one, StepReported) and one.step == "snapshot web1"]
    assert told == [f"{name} made", f"put back to {name}: boot-1 became boot-2"]
    assert roll_back(patient, report.run).ok, "nothing of it is left to be undone on web1"


def test_a_host_that_does_not_come_back_from_its_restart_is_put_back(patient: Rehearsal) -> None:
    patient.edit("baseline.yaml", "policy: if-needed", "policy: always")
    patient.packages.stays_down.add("web1")
    unplugged(patient, "reboot web1")
    report = patch(patient)
    assert "web1 did not come back" in summary(report)
    assert summary(report).endswith("and has the former versions again")
    assert versions(patient)["web1"] == OLD
    assert waiting(patient.scope()) == ()


def test_a_host_that_does_not_answer_after_its_packages_moved_is_put_back(patient: Rehearsal) -> None:
    unplugged(patient)
    report = patch(patient)
    assert "web1 (timeout)" in summary(report)
    assert summary(report).endswith("and has the former versions again")
    assert report.outcomes[0].undone == ("web1",)
    assert (versions(patient)["web1"], asked(patient)) == (OLD, ["create", "restore", "remove"])
    assert waiting(patient.scope()) == ()


def test_a_host_that_is_lost_in_the_middle_of_its_packages_is_put_back_and_recorded(patient: Rehearsal) -> None:
    patient.packages.dies["web1"] = 1
    unplugged(patient)
    report = patch(patient)
    assert summary(report).endswith("and has the former versions again")
    (row,) = patient.patches.patched("web1")
    assert (row.rolled_back, row.snapshot) == (report.run, f"ismgr-{report.run}")
    assert [one.after for one in row.moves] == [NEW]


def test_a_host_that_answers_again_a_moment_later_loses_nothing(patient: Rehearsal) -> None:
    def blink(call: str) -> None:
        if call == "facts web1" and patient.packages.calls[-2:-1] == ["apply web1"]:
            patient.world.reach["web1"] = Reach.TIMEOUT

    patient.packages.watch.append(blink)
    patient.world.watch.append(lambda call: patient.world.reach.clear() if call == "probe web1" else None)
    report = patch(patient)
    assert "web1 is back at the former versions" in summary(report)
    assert asked(patient) == ["create", "remove"]


def test_a_disk_that_cannot_be_put_back_is_told_with_its_name_and_kept(patient: Rehearsal) -> None:
    stuck(patient)
    patient.snapshots.fails.add("restore web1")
    report = patch(patient)
    name = f"ismgr-{report.run}"
    assert f"web1 could not be put back to its snapshot {name}: restore ended with 1: no room" in summary(report)
    assert summary(report).endswith(f"its snapshot {name} is kept")
    assert ("web1", name) in patient.snapshots.kept
    assert [(one.rolled_back, one.snapshot) for one in patient.patches.patched("web1")] in ([], [("", "")])


def test_a_host_that_was_put_back_and_is_still_not_well_keeps_its_snapshot(patient: Rehearsal) -> None:
    stuck(patient)
    patient.world.unhealthy.add("web1")
    report = patch(patient)
    assert "even so, web1: 1 of 1 checks did not pass" in summary(report)
    assert summary(report).endswith(f"its snapshot ismgr-{report.run} is kept")
    assert report.outcomes[0].undone == ()


def test_a_disk_that_is_not_what_it_was_is_not_called_a_way_back(patient: Rehearsal) -> None:
    stuck(patient)

    def spoil(call: str) -> None:
        if call == "snapshot restore web1":
            (copy,) = [one for (host, _), one in patient.snapshots.kept.items() if host == "web1"]
            copy.installed["tool"] = patient.packages.machines["web1"].installed["tool"]

    patient.packages.watch.append(spoil)
    report = patch(patient)
    assert "which has not the former versions: tool is 1.1-1" in summary(report)
    assert report.outcomes[0].undone == ()
    assert ("web1", f"ismgr-{report.run}") in patient.snapshots.kept


def test_a_disk_that_was_put_back_under_a_host_that_lives_on_is_not_believed(patient: Rehearsal) -> None:
    stuck(patient)

    def undead(call: str) -> None:
        if call == "snapshot restore web1":
            patient.packages.stays_down.add("web1")
        if call == "await web1":
            patient.packages.stays_down.clear()
            del patient.packages.machines["web1"].lives[1:]

    patient.packages.watch.append(undead)
    report = patch(patient)
    assert "and did not come back: it still has the life before" in summary(report)
    assert report.outcomes[0].undone == ()


def test_a_snapshot_that_cannot_be_removed_is_told(patient: Rehearsal) -> None:
    patient.snapshots.fails.add("remove web1")
    report = patch(patient)
    assert "of web1 could not be removed: remove ended with 1: no room" in summary(report)
    assert versions(patient)["web1"] == NEW


@pytest.mark.parametrize("fault", ["locked", "full"])
def test_the_snapshot_of_a_host_on_which_nothing_was_begun_is_removed(patient: Rehearsal, fault: str) -> None:
    def late(call: str) -> None:
        if call == "snapshot create web1":
            getattr(patient.packages, fault).add("web1")

    patient.packages.watch.append(late)
    report = patch(patient)
    assert report.outcomes[0].troubled == ("web1",)
    assert asked(patient) == ["create", "remove"]


def test_where_a_way_back_is_required_a_snapshot_is_one(tmp_path: Path) -> None:
    patient = kept(tmp_path, budget=1, more=', selector: host.name != "web2"', rollback="required")
    for name in ("web2", "web3"):
        patient.packages.machines[name].lists.remove(offer(OLD))
    report = patch(patient)
    assert "web2 refused (no-former): tool 1.0-1" in report.outcomes[1].summary
    assert report.outcomes[1].troubled == ("web2",)
    assert on_new(patient) == ["db1", "db2", "web1", "web3"]


def test_the_way_back_of_a_run_needs_no_snapshot(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    clinic.packages.calls.clear()
    assert roll_back(clinic, run).ok
    assert asked(clinic) == []


def test_a_database_that_has_its_role_back_and_does_not_answer_is_left_alone(tmp_path: Path) -> None:
    patient = kept(tmp_path, budget=1, more=", databases: [databases]")
    lost: list[str] = []

    def silent(call: str) -> None:
        if call == "verify db1":
            patient.world.unhealthy.add("db1")
            lost.append(call)

    patient.world.watch.append(silent)
    patient.packages.watch.append(
        lambda call: patient.world.reach.update({"db1": Reach.TIMEOUT}) if lost and call == "rollback db1" else None
    )
    # the standby is gone too: nobody can take the role from it
    patient.service.watch.append(
        lambda call: patient.service.parts.update({"db2": Part.DOWN}) if lost and call.startswith("members") else None
    )
    report = patch(patient)
    told = report.outcomes[-1].summary
    assert "db1 may be the primary and is not put back to its snapshot" in told
    assert "is kept" in told
    assert asked(patient, "db1") == ["create"]


def test_whoever_cancels_is_told_which_snapshots_stay(clinic: Rehearsal) -> None:
    scope, planned = clinic.scope(), plan(clinic)
    clinic.world.watch.append(lambda call: scope.context.cancelled.set() if call == "verify web1" else None)
    report = clinic.apply(planned, scope=scope)
    assert report.cancelled
    (name,) = [name for host, name in clinic.snapshots.kept if host == "web1"]
    told = [one.detail for one in clinic.events if isinstance(one, StepReported) and one.step == "snapshot web1"]
    assert told == [f"{name} made", f"{name} stays: the work was stopped"]


def test_a_command_that_is_another_one_by_now_makes_the_plan_stale(clinic: Rehearsal) -> None:
    planned = plan(clinic, datetime.now(UTC))
    clinic.versions["snap/shot"] = "another"
    with pytest.raises(StalePlan, match="baseline/all"):
        exactly(clinic, planned)
    assert asked(clinic) == []


def test_what_the_command_logs_in_with_is_looked_for_when_secrets_are_checked(clinic: Rehearsal) -> None:
    scope = clinic.scope()
    found = doors(scope.estate, scope.environment, None)
    assert found[SecretRef("env", "APP")] == "TOKEN for snapshots of baseline/all"


CALLS = [f"{verb} {host}" for verb in ("create", "restore", "remove") for host in WEBS]


@settings(max_examples=40, deadline=None)
@given(
    fails=st.sets(st.sampled_from(CALLS)),
    unhealthy=st.sets(st.sampled_from(WEBS)),
    gone=st.sets(st.sampled_from(WEBS)),
    broken=st.booleans(),
    silent=st.sets(st.sampled_from(WEBS), max_size=1),
)
def test_whatever_fails_whoever_is_not_well_still_has_his_snapshot_and_its_name_is_told(
    fails: set[str], unhealthy: set[str], gone: set[str], broken: bool, silent: set[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = kept(Path(folder), budget=9)
        site.snapshots.fails.update(fails)
        site.world.unhealthy.update(unhealthy)
        if broken:
            site.packages.broken.add(("tool", NEW))
        for host in gone:
            site.packages.machines[host].lists.remove(offer(OLD))
        for host in silent:
            unplugged(site, f"apply {host}", host)
        report = patch(site)
    told = "; ".join(one.summary for one in report.outcomes)
    troubled = {name for one in report.outcomes for name in one.troubled}
    for host in WEBS:
        there = site.packages.machines[host].installed["tool"]
        if f"create {host}" in fails:
            assert (there.version, f"apply {host}" in site.packages.calls) == (OLD, False)
        if (host, f"ismgr-{report.run}") in site.snapshots.kept:
            assert host in troubled
            assert f"ismgr-{report.run}" in told
        else:
            assert (there.status, host in unhealthy and there.version == NEW) == ("ii", False)


def end_of(site: Rehearsal) -> dict[str, object]:
    return {
        "versions": versions(site),
        "servers": {key: state for key, state in site.service.servers.items() if state != "ready"},
        "snapshots": dict(site.snapshots.kept),
        "waiting": site.patches.waiting(),
        "patched": {one.host: [move.after for move in one.moves] for one in site.patches.patched()},
    }


def mortal(folder: Path, nth: int = 0, *, bad: bool = False) -> Rehearsal:
    """A clinic whose process dies at the nth boundary; ``bad``: web1 is to be put back."""
    site = kept(folder, budget=1)
    if bad:
        stuck(site)
    site.death = Death(nth=nth)
    site.packages.watch.append(lambda call: site.death.at(f"before {call}"))
    site.service.watch.append(lambda call: site.death.at(f"before {call}"))
    return site


@pytest.mark.parametrize("bad", [False, True], ids=["well", "put-back"])
def test_a_run_that_dies_anywhere_goes_on_to_the_same_end_and_leaves_no_snapshot(tmp_path: Path, bad: bool) -> None:
    whole = mortal(tmp_path / "whole", bad=bad)
    planned = plan(whole)
    whole.death.passed.clear()
    whole.apply(planned)
    passed, expected = list(whole.death.passed), end_of(whole)
    assert expected["snapshots"] == {}
    assert "before snapshot remove web1" in passed
    assert ("before snapshot restore web1" in passed) is bad
    for nth, where in enumerate(passed, start=1):
        site = mortal(tmp_path / f"died-{nth}", bad=bad)
        planned = plan(site)
        site.death = Death(nth=nth)
        with pytest.raises(Killed):
            site.apply(planned)
        if where == Boundary.BEFORE_BEGIN:
            continue
        (run,) = site.runs.runs()
        if run.state is RunState.RUNNING:
            site.resume()
        assert end_of(site) == expected, (nth, where)


def dies_at(site: Rehearsal, call: str) -> None:
    """The process dies once, when this is asked for."""
    dead: list[str] = []

    def die(now: str) -> None:
        if now == call and not dead:
            dead.append(now)
            raise Killed

    site.world.watch.append(die)
    site.packages.watch.append(die)
    with pytest.raises(Killed):
        site.apply(plan(site))


def test_a_host_that_is_gone_when_a_run_is_gone_on_with_is_put_back_if_it_had_been_begun(patient: Rehearsal) -> None:
    dies_at(patient, "verify web1")
    assert versions(patient)["web1"] == NEW
    patient.world.reach["web1"] = Reach.TIMEOUT
    patient.packages.watch.append(lambda call: patient.world.reach.clear() if call == "snapshot restore web1" else None)
    report = patient.resume()
    assert "has the former versions again" in summary(report)
    assert versions(patient)["web1"] == OLD
    assert patient.snapshots.kept == {}
    assert plan_rollback(patient.scope(), NOON, report.run).changes, "the others are patched"


def test_a_host_that_is_gone_before_it_was_begun_waits_for_its_turn(patient: Rehearsal) -> None:
    dies_at(patient, "snapshot create web1")
    patient.packages.calls.clear()
    patient.world.reach["web1"] = Reach.TIMEOUT
    report = patient.resume()
    assert "web1 unreachable" in summary(report)
    assert "snapshot" not in summary(report)
    assert asked(patient) == ["create", "remove"]
    assert [one.host for one in waiting(patient.scope())] == ["web1"]
    assert patient.snapshots.kept == {}
