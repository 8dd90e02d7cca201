"""One host on its way: restarts and their proof, misfortunes that cost itself only, the way back, the queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.converge.patch import plan_rollback
from ismgr_automation.converge.patching import history, standing, waiting
from ismgr_automation.converge.report import Queued
from ismgr_automation.core.errors import EngineFailed, EstateError, ExitCode, InputError
from ismgr_automation.core.events import StepReported
from ismgr_automation.planning.plan import Purpose
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.patching import Patched, Waiting
from tests.converge.patched import (
    NEW,
    OLD,
    days,
    exactly,
    offer,
    on_new,
    package,
    patch,
    patched,
    plan,
    planned_moves,
    roll_back,
    today,
    versions,
)
from tests.rehearsal import NOON, Rehearsal

ALL = ["db1", "db2", "web1", "web2", "web3"]
MAPPED = "PID 1 has mapped what was replaced"


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return patched(tmp_path)


@pytest.fixture
def patient(tmp_path: Path) -> Rehearsal:
    """One that goes on after a failure."""
    return patched(tmp_path, budget=1)


def lives(site: Rehearsal) -> dict[str, int]:
    return {name: len(one.lives) for name, one in site.packages.machines.items() if name != "lb1"}


def machines(site: Rehearsal) -> None:
    """web1 runs on a machine of a Site."""
    site.files["site.yaml"] = """\
kind: Site
name: dc1
time_zone: Europe/Berlin
machines:
- name: web1
  address: 192.0.2.30
  bmc: {address: "https://192.0.2.40", username: admin, password: {secret: "env:APP"}}
"""


@pytest.mark.parametrize(
    ("policy", "need", "restarted"),
    [
        ("if-needed", "yes", True),
        ("if-needed", "no", False),
        ("if-needed", "unknown", True),
        ("never", "yes", False),
        ("never", "unknown", False),
        ("always", "no", True),
    ],
)
def test_hosts_are_restarted_by_policy(clinic: Rehearsal, policy: str, need: str, restarted: bool) -> None:
    clinic.edit("baseline.yaml", "if-needed", policy)
    if need == "yes":
        clinic.packages.reboots["tool"] = MAPPED
    if need == "unknown":
        clinic.packages.unknown_reboot.update(ALL)
    assert patch(clinic).ok
    assert lives(clinic) == dict.fromkeys(ALL, 2 if restarted else 1)
    assert {one.rebooted for one in clinic.patches.patched()} == {restarted}


def test_where_no_restart_is_needed_services_on_old_files_are_restarted(clinic: Rehearsal) -> None:
    clinic.packages.restarts["tool"] = "tool.service"
    assert patch(clinic).ok
    assert not clinic.packages.machines["web1"].services
    assert set(lives(clinic).values()) == {1}


def test_a_service_that_does_not_come_up_again_is_a_failure_of_its_host(patient: Rehearsal) -> None:
    patient.packages.restarts["tool"] = "tool.service"
    patient.packages.stubborn.add("tool.service")
    report = patch(patient)
    assert "not active: tool.service" in report.outcomes[0].summary
    assert report.outcomes[0].troubled == ("web1",)


def test_a_host_that_does_not_come_back_is_switched_off_and_on_where_that_is_allowed(clinic: Rehearsal) -> None:
    machines(clinic)
    clinic.edit("baseline.yaml", "policy: if-needed", "policy: always, power_cycle: true")
    clinic.packages.stays_down.add("web1")

    def cycle(call: str) -> None:
        if call == "power_cycle web1":
            clinic.packages.stays_down.clear()
            clinic.scope().engines.upkeep.restarter.begin_life("web1")

    clinic.service.watch.append(cycle)
    report = patch(clinic)
    assert report.ok, report.stopped
    assert clinic.service.cycled == ["web1"]
    assert "await web1" in clinic.packages.calls


@pytest.mark.parametrize(("allowed", "on_a_machine"), [(False, True), (True, False)])
def test_otherwise_it_is_a_failure_that_is_counted(patient: Rehearsal, allowed: bool, on_a_machine: bool) -> None:
    if on_a_machine:
        machines(patient)
    patient.edit("baseline.yaml", "policy: if-needed", f"policy: always, power_cycle: {str(allowed).lower()}")
    patient.packages.stays_down.add("web1")
    report = patch(patient)
    assert "web1 did not come back: it did not come back in time" in report.outcomes[0].summary
    assert patient.service.cycled == []
    assert report.outcomes[0].troubled == ("web1",)
    assert set(on_new(patient)) >= {"db1", "db2", "web2", "web3"}


def through_redfish(site: Rehearsal) -> None:
    """web1, the only host that is patched, is always restarted through its BMC."""
    machines(site)
    site.edit("baseline.yaml", 'host.labels.role != "lb"', 'host.name == "web1"')
    site.edit("baseline.yaml", "policy: if-needed", "policy: always, through: redfish, power_cycle: true")


def restarts(site: Rehearsal) -> None:
    """Its BMC does what it is told."""

    def ordered(call: str) -> None:
        if call == "restart web1":
            site.scope().engines.upkeep.restarter.begin_life("web1")

    site.service.watch.append(ordered)


def told_restarts(site: Rehearsal) -> list[str]:
    return [one.detail for one in site.events if isinstance(one, StepReported) and one.step == "restart web1"]


def test_a_host_is_restarted_through_the_bmc_of_its_machine_and_its_boot_proves_it(clinic: Rehearsal) -> None:
    through_redfish(clinic)
    restarts(clinic)
    report = patch(clinic)
    assert report.ok, report.stopped
    assert clinic.service.restarted == ["web1"]
    assert lives(clinic)["web1"] == 2
    assert not [one for one in clinic.packages.calls if one.startswith("reboot")]
    assert told_restarts(clinic) == ["boot-1 became boot-2; GracefulRestart through the BMC of web1"]
    assert clinic.patches.patched("web1")[0].rebooted


def test_a_bmc_that_says_that_it_did_and_did_not_is_found_out_by_the_boot(clinic: Rehearsal) -> None:
    through_redfish(clinic)
    clinic.edit("baseline.yaml", ", power_cycle: true}", "}\nrollback: never")
    report = patch(clinic)
    assert "web1 did not come back: it still has the life before" in report.outcomes[0].summary
    assert clinic.service.restarted == ["web1"]


def test_a_bmc_that_offers_no_graceful_restart_costs_its_host_and_the_plug_is_not_pulled(clinic: Rehearsal) -> None:
    through_redfish(clinic)
    clinic.service.faults["restart web1"] = EngineFailed(
        "It offers ForceOff, On.", engine="redfish", untouched="Nothing was changed.", next_step="Use systemd."
    )
    report = patch(clinic)
    assert "web1 was not restarted: It offers ForceOff, On." in report.outcomes[0].summary
    assert clinic.service.cycled == []
    assert "await web1" not in clinic.packages.calls


def test_an_order_whose_answer_was_lost_is_looked_for_on_the_host(clinic: Rehearsal) -> None:
    through_redfish(clinic)
    restarts(clinic)
    clinic.service.faults["restart web1"] = EngineFailed("No answer.", engine="redfish", next_step="Look.")
    report = patch(clinic)
    assert report.ok, report.stopped
    assert lives(clinic)["web1"] == 2
    assert told_restarts(clinic) == ["boot-1 became boot-2; what its BMC did is not known: No answer."]


def test_a_host_that_has_another_life_already_is_not_restarted_again(clinic: Rehearsal) -> None:
    through_redfish(clinic)
    installed: list[str] = []

    def somebody_else(call: str) -> None:
        if installed and call == "facts web1":
            installed.clear()
            clinic.scope().engines.upkeep.restarter.begin_life("web1")
        elif call == "apply web1":
            installed.append(call)

    clinic.packages.watch.append(somebody_else)
    report = patch(clinic)
    assert report.ok, report.stopped
    assert clinic.service.restarted == []
    assert told_restarts(clinic) == ["boot-1 became boot-2"]


@pytest.mark.parametrize("through", ["systemd", "redfish"])
@pytest.mark.parametrize("policy", ["if-needed", "always"])
@pytest.mark.parametrize("dies", [True, False], ids=["dies in the middle of apt", "is restarted by somebody before it"])
def test_a_host_whose_present_life_runs_old_files_is_restarted_whatever_it_was_before(
    clinic: Rehearsal, dies: bool, policy: str, through: str
) -> None:
    through_redfish(clinic)
    clinic.edit("baseline.yaml", "policy: always, through: redfish", f"policy: {policy}, through: {through}")
    restarts(clinic)
    clinic.packages.reboots["tool"] = MAPPED
    if dies:
        clinic.packages.dies["web1"] = 0
    left = ["apply web1"] * (2 if dies else 1)

    def starts_again(call: str) -> None:
        if call in left:
            left.remove(call)
            if not left:
                clinic.scope().engines.upkeep.restarter.begin_life("web1")

    clinic.packages.watch.append(starts_again)
    assert patch(clinic).ok
    assert [one.partition(";")[0] for one in told_restarts(clinic)] == ["boot-2 became boot-3"]
    assert clinic.packages.machines["web1"].reboot_why == []


def test_one_machine_that_cannot_be_restarted_leaves_the_others_to_be(patient: Rehearsal) -> None:
    machines(patient)
    patient.files["site.yaml"] += """\
- name: web2
  address: 192.0.2.31
  bmc: {address: "https://192.0.2.41", username: admin, password: {secret: "env:APP"}}
"""
    patient.edit("baseline.yaml", 'host.labels.role != "lb"', 'host.name in ["web1", "web2"]')
    patient.edit("baseline.yaml", 'selector: host.name == "web1"}', 'selector: "true", waves: ["100%"]}')
    patient.edit("baseline.yaml", "policy: if-needed", "policy: always, through: redfish")
    patient.service.faults["restart web2"] = EngineFailed(
        "It offers On.", engine="redfish", untouched="Nothing was changed.", next_step="Use systemd."
    )
    restarts(patient)
    report = patch(patient)
    assert report.outcomes[0].troubled == ("web2",)
    assert (lives(patient)["web1"], lives(patient)["web2"]) == (2, 1)
    assert told_restarts(patient) == ["boot-1 became boot-2; GracefulRestart through the BMC of web1"]


def test_a_host_that_nobody_can_restart_as_its_baseline_says_is_refused_by_its_line(clinic: Rehearsal) -> None:
    machines(clinic)
    clinic.edit("baseline.yaml", "policy: if-needed", "policy: if-needed, through: redfish")
    with pytest.raises(EstateError) as refused:
        plan(clinic)
    summaries = [one.summary for one in refused.value.diagnostics]
    assert summaries == [
        f"PatchBaseline 'all' restarts host {name} through its BMC, and it has none"
        for name in ("db1", "db2", "web2", "web3")
    ]
    line = next(
        number for number, text in enumerate(clinic.files["baseline.yaml"].splitlines(), 1) if "through" in text
    )
    assert {(one.position.path, one.position.line) for one in refused.value.diagnostics} == {("baseline.yaml", line)}


def test_how_long_to_wait_for_a_host_is_learned_from_its_past(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", "policy: if-needed", "policy: always, back_within: 10m")
    seen: dict[str, timedelta] = {}
    scope = clinic.scope()
    restarter = scope.engines.upkeep.restarter

    class Watched(type(restarter)):  # type: ignore[misc]
        def reboot(self, request, context):
            seen.update(dict.fromkeys(request.fleet.names, request.within))
            return super().reboot(request, context)

    object.__setattr__(scope.engines.upkeep, "restarter", Watched(clinic.packages))
    restart = timedelta(seconds=90)
    clinic.patches.keep_patched(
        [Patched(run="r1", host="web1", at=NOON, moves=(), took=restart, rebooted=True, restart=restart)]
    )
    assert clinic.apply(plan(clinic), scope=scope).ok
    assert seen["web1"] == timedelta(seconds=270)
    assert seen["web2"] == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("locked", "web1 refused (locked): Could not get lock"), ("full", "web1 refused (no-room): 0 KiB are free")],
)
def test_a_lock_or_a_full_disk_costs_its_host_and_nobody_else(patient: Rehearsal, fault: str, words: str) -> None:
    getattr(patient.packages, fault).add("web1")
    report = patch(patient)
    assert words in report.outcomes[0].summary
    assert report.stopped == ""
    assert versions(patient)["web1"] == OLD
    assert on_new(patient) == ["db1", "db2", "web2", "web3"]


def test_a_broken_postinst_is_healed_by_going_back(patient: Rehearsal) -> None:
    patient.packages.broken.add(("tool", NEW))

    def mended(call: str) -> None:
        if call == "apply db2":
            patient.packages.broken.clear()

    patient.packages.watch.append(mended)
    report = patch(patient)
    script = "installed tool package post-installation script subprocess returned error"
    assert f"web1 failed (broken): {script}; web1 is back" in report.outcomes[0].summary
    assert report.outcomes[0].detail.splitlines() == [
        f"web1: {script}",
        "web1: E: Sub-process dpkg returned an error code (1)",
    ]
    assert "web1 is back at the former versions" in report.outcomes[0].summary
    installed = patient.packages.machines["web1"].installed["tool"]
    assert (installed.version, installed.status) == (OLD, "ii")
    assert on_new(patient) == ["db1", "db2", "web2", "web3"]


def test_of_several_packages_all_that_were_begun_go_back_and_nothing_else(patient: Rehearsal) -> None:
    for machine in patient.packages.machines.values():
        machine.installed["zlib"] = package("2.0-1", "zlib")
    patient.packages.repository.extend([offer("2.0-1", "zlib"), offer("2.1-1", "zlib")])
    for machine in patient.packages.machines.values():
        patient.packages.read_lists(machine)
    planned = plan(patient)
    # somebody was faster with one of them, on one host
    patient.packages.machines["web1"].installed["tool"] = package(NEW)
    patient.packages.broken.add(("zlib", "2.1-1"))
    report = patch(patient, planned)
    assert "web1 is back at the former versions" in report.outcomes[0].summary
    there = patient.packages.machines["web1"].installed
    assert (there["zlib"].version, there["tool"].version) == ("2.0-1", NEW)


def test_a_connection_that_is_lost_in_the_middle_is_taken_up_again(clinic: Rehearsal) -> None:
    clinic.packages.dies["web1"] = 1
    report = patch(clinic)
    assert report.ok, report.stopped
    assert clinic.packages.calls.count("apply web1") == 2
    assert [one.moves[0].after for one in clinic.patches.patched("web1")] == [NEW]


def test_failed_checks_bring_the_former_versions_back(patient: Rehearsal) -> None:
    patient.world.unhealthy.add("web1")
    report = patch(patient)
    summary = report.outcomes[0].summary
    assert "web1 is back at the former versions; even so, web1: 1 of 1 checks did not pass" in summary
    assert versions(patient)["web1"] == OLD
    (row,) = patient.patches.patched("web1")
    assert row.rolled_back == row.run == report.run


def test_where_the_way_back_mends_it_nothing_more_is_said(patient: Rehearsal) -> None:
    patient.world.unhealthy.add("web1")
    patient.packages.watch.append(lambda call: patient.world.unhealthy.clear() if call == "rollback web1" else None)
    report = patch(patient)
    assert report.outcomes[0].summary.endswith("web1 is back at the former versions")


def test_a_baseline_without_rollback_leaves_what_failed(patient: Rehearsal) -> None:
    patient.edit("baseline.yaml", "reboot:", "rollback: never\nreboot:")
    patient.world.unhealthy.add("web1")
    patch(patient)
    assert versions(patient)["web1"] == NEW
    assert not [one for one in patient.packages.calls if one.startswith("rollback")]
    assert not patient.packages.machines["web1"].kept


def test_a_way_back_that_fails_is_told(patient: Rehearsal) -> None:
    patient.world.unhealthy.add("web1")
    patient.packages.machines["web1"].lists.remove(offer(OLD))
    report = patch(patient)
    assert "web1 could not be rolled back: web1 refused (no-former): tool 1.0-1" in report.outcomes[0].summary
    assert [one.rolled_back for one in patient.patches.patched("web1")] == [""]


def test_what_was_left_half_made_is_left_to_be_undone(patient: Rehearsal) -> None:
    patient.packages.broken.add(("tool", NEW))
    web1 = patient.packages.machines["web1"]
    web1.lists.remove(offer(OLD))
    patient.packages.watch.append(lambda call: patient.packages.broken.clear() if call == "apply db2" else None)
    report = patch(patient)
    assert "web1 could not be rolled back" in report.outcomes[0].summary
    assert web1.installed["tool"].status == "iF"
    (row,) = patient.patches.patched("web1")
    assert ([(one.before, one.after) for one in row.moves], row.rolled_back) == ([(OLD, NEW)], "")
    patient.packages.read_lists(web1)
    back = roll_back(patient, report.run)
    assert back.ok, back.stopped
    assert (web1.installed["tool"].version, web1.installed["tool"].status) == (OLD, "ii")
    assert {one.rolled_back for one in patient.patches.patched(run=report.run)} == {back.run}


def test_a_run_that_somebody_else_took_back_is_undone_once_a_rollback_has_seen_that(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    for machine in clinic.packages.machines.values():
        machine.installed["tool"] = package(OLD)
    report = roll_back(clinic, run)
    assert report.ok, report.stopped
    assert {one.rolled_back for one in clinic.patches.patched(run=run)} == {report.run}
    with pytest.raises(InputError, match=f"was rolled back already, by {report.run}"):
        plan_rollback(clinic.scope(), NOON, run)


def test_where_a_way_back_is_required_no_host_without_one_is_patched(patient: Rehearsal) -> None:
    patient.edit("baseline.yaml", "reboot:", "rollback: required\nreboot:")
    patient.packages.machines["web1"].lists.remove(offer(OLD))
    report = patch(patient)
    assert "web1 refused (no-former): tool 1.0-1" in report.outcomes[0].summary
    assert versions(patient)["web1"] == OLD
    assert on_new(patient) == ["db1", "db2", "web2", "web3"]


def test_a_run_is_undone_and_not_undone_twice(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    back = plan_rollback(clinic.scope(), NOON, run)
    assert (back.purpose, back.undoes) == (Purpose.ROLLBACK, run)
    assert planned_moves(back) == {f"{name} tool:amd64": (NEW, OLD) for name in ALL}
    report = patch(clinic, back)
    assert report.ok, report.stopped
    assert set(versions(clinic).values()) == {OLD}
    assert {one.rolled_back for one in clinic.patches.patched(run=run)} == {report.run}
    with pytest.raises(InputError, match=f"was rolled back already, by {report.run}"):
        plan_rollback(clinic.scope(), NOON, run)
    with pytest.raises(InputError, match="Run nothing installed no packages here"):
        plan_rollback(clinic.scope(), NOON, "nothing")


def test_a_way_back_is_applied_exactly_and_in_the_same_care(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    clinic.service.calls.clear()
    # the repository has the former version no longer, the hosts do
    clinic.packages.repository.remove(offer(OLD))
    report = exactly(clinic, plan_rollback(clinic.scope(), datetime.now(UTC), run))
    assert report.ok, report.stopped
    calls = [one for one in clinic.service.calls if one.partition(" ")[0] in {"drain", "switchover", "restore"}]
    assert calls[:2] == ["drain web/web1", "restore web/web1"]
    assert calls[-2:] == ["switchover db2", "switchover db1"]


def test_what_went_wrong_on_the_way_back_is_left_to_be_undone(patient: Rehearsal) -> None:
    run = patch(patient).run
    patient.packages.locked.add("web1")
    assert roll_back(patient, run).exit_code is ExitCode.PARTLY_APPLIED
    patient.packages.locked.clear()
    left = plan_rollback(patient.scope(), NOON, run)
    assert planned_moves(left) == {"web1 tool:amd64": (NEW, OLD)}
    assert patch(patient, left).ok


def test_a_way_back_from_what_somebody_changed_since_touches_nothing(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    clinic.packages.machines["web1"].installed["tool"] = package("3.0-1")
    report = roll_back(clinic, run)
    assert "web1 refused (moved): tool is 3.0-1" in report.stopped
    assert set(on_new(clinic)) == {"db1", "db2", "web2", "web3"}


def test_who_is_away_when_it_is_planned_is_left_out_queued_and_counted(clinic: Rehearsal) -> None:
    clinic.world.reach["web2"] = Reach.TIMEOUT
    planned = today(clinic)
    assert planned.absent == ("web2",)
    assert "web2 tool:amd64" not in planned_moves(planned)
    assert waiting(clinic.scope()) == ()
    report = exactly(clinic, planned)
    assert report.ok
    (one,) = waiting(clinic.scope())
    assert report.queued == (Queued(host="web2", until=one.expires_at),)
    assert (one.host, one.baseline, one.run) == ("web2", "all", "")
    assert one.expires_at - one.since == days(7)
    status = standing(clinic.scope(), NOON).status
    assert "web2" in status.unread
    assert status.total.breaches >= 1


def test_who_comes_back_is_patched_and_leaves_the_queue(clinic: Rehearsal) -> None:
    clinic.world.reach["web2"] = Reach.TIMEOUT
    assert exactly(clinic, today(clinic)).ok
    clinic.world.reach.clear()
    assert exactly(clinic, today(clinic)).ok
    assert versions(clinic)["web2"] == NEW
    assert waiting(clinic.scope()) == ()


def test_who_is_lost_during_the_run_costs_the_budget_and_waits(patient: Rehearsal) -> None:
    planned = plan(patient)
    patient.world.reach["web2"] = Reach.REFUSED
    report = patch(patient, planned)
    assert report.stopped == ""
    assert report.outcomes[1].troubled == ("web2",)
    (one,) = waiting(patient.scope())
    assert (one.host, one.run) == ("web2", report.run)
    assert on_new(patient) == ["db1", "db2", "web1", "web3"]


def test_who_was_lost_after_the_plan_was_signed_does_not_make_it_stale(patient: Rehearsal) -> None:
    planned = today(patient)
    patient.world.reach["web2"] = Reach.TIMEOUT
    report = exactly(patient, planned)
    assert on_new(patient) == ["db1", "db2", "web1", "web3"]
    assert [one.host for one in waiting(patient.scope())] == ["web2"]
    assert report.outcomes[1].troubled == ("web2",)


def test_a_place_in_the_queue_is_kept(clinic: Rehearsal) -> None:
    first = Waiting(host="web2", baseline="all", since=NOON, expires_at=NOON + days(1))
    clinic.patches.enqueue([first])
    clinic.world.reach["web2"] = Reach.TIMEOUT
    assert exactly(clinic, today(clinic)).queued == (Queued(host="web2", until=first.expires_at),)
    assert waiting(clinic.scope()) == (first,)


def test_history_tells_what_was_installed_where(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    assert {(one.run, one.host) for one in history(clinic.scope())} == {(run, name) for name in ALL}
    assert [one.host for one in history(clinic.scope(), "web1")] == ["web1"]
    facts = clinic.patches.facts()
    assert {one.version for name in ALL for one in facts[name].installed} == {NEW}
