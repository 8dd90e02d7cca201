"""Firmware on the same rails: read, compared, changed, read again, with the host out of service and verified."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.converge.report import Fate
from ismgr_automation.core.errors import EngineFailed, ExitCode, OutsideWindow
from ismgr_automation.core.events import SoakStarted, StepReported
from ismgr_automation.planning.change import Action
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Death, Killed
from ismgr_automation.ports.packages import Need
from ismgr_automation.ports.runs import RunState
from tests.converge.patched import NEW, OLD, exactly, fates, offer, order, patch, patched, plan, today, versions
from tests.rehearsal import Rehearsal

WANTED = "P2"


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    """db1 and web1 run on machines whose BIOS is old; no package is due."""
    site = patched(tmp_path)
    site.files["site.yaml"] = "kind: Site\nname: dc1\ntime_zone: Europe/Berlin\nmachines:\n" + "".join(
        f"- name: {name}\n  address: 192.0.2.3{number}\n"
        f'  bmc: {{address: "https://bmc-{name}.example", username: admin, password: {{secret: "env:APP"}}}}\n'
        for number, name in enumerate(("db1", "web1"))
    )
    site.edit(
        "baseline.yaml",
        "reboot:",
        f'firmware: [{{component: BIOS, version: {WANTED}, image: "https://mirror.example/bios.bin"}}]\nreboot:',
    )
    site.service.firmware.update({"db1": {"BIOS": "P1", "NIC": "7"}, "web1": {"BIOS": "P1"}})
    site.packages.repository.clear()
    for machine in site.packages.machines.values():
        site.packages.read_lists(machine)
    return site


def bios(site: Rehearsal) -> dict[str, str]:
    return {name: found["BIOS"] for name, found in site.service.firmware.items()}


def test_what_differs_is_a_change_of_its_machine(clinic: Rehearsal) -> None:
    found = plan(clinic)
    assert [one.key for one in found.changes] == ["machine/web1", "machine/db1"]
    assert found.waves == (("machine/web1",), ("machine/db1",))
    (step,) = [one for one in found.changes[0].steps if one.action is Action.UPDATE]
    assert (step.target, step.what, step.before["version"]) == ("web1", "firmware BIOS", "P1")
    assert step.after["version"] == WANTED
    assert plan(clinic).digest == found.digest


def test_firmware_is_brought_there_with_its_host_out_of_service(clinic: Rehearsal) -> None:
    with order(clinic) as calls:
        clinic.world.watch.append(calls.append)
        report = exactly(clinic, today(clinic))
    assert report.ok, report.stopped
    assert bios(clinic) == {"db1": WANTED, "web1": WANTED}
    mine = [one for one in calls if one in {"drain web/web1", "update web1", "verify web1", "restore web/web1"}]
    assert mine == ["drain web/web1", "update web1", "verify web1", "restore web/web1"]
    roles = [one for one in calls if one.startswith("switchover") or one == "update db1"]
    assert roles == ["switchover db2", "update db1", "switchover db1"]
    assert plan(clinic).empty
    assert clinic.ledgers["lab"].rows == {}


def test_packages_of_all_hosts_go_before_firmware(clinic: Rehearsal) -> None:
    clinic.packages.repository.extend([offer(OLD), offer(NEW)])
    for machine in clinic.packages.machines.values():
        clinic.packages.read_lists(machine)
    found = plan(clinic)
    kinds = [found.change(key).address.kind.value for wave in found.waves for key in wave]
    assert kinds == ["baseline"] * 3 + ["machine"] * 2
    assert patch(clinic, found).ok
    assert set(versions(clinic).values()) == {NEW}
    assert bios(clinic) == {"db1": WANTED, "web1": WANTED}


def test_a_task_that_says_that_it_is_complete_and_is_not_is_a_failure(clinic: Rehearsal) -> None:
    clinic.service.keeps.add(("web1", "BIOS"))
    report = patch(clinic)
    assert "web1: BIOS is P1: the BMC still shows 'P1'" in report.stopped
    assert report.outcomes[0].troubled == ("web1",)
    assert clinic.service.servers["lb1", "web/web1"] == "ready"
    assert bios(clinic)["db1"] == "P1"


def test_a_host_that_cannot_be_drained_is_not_flashed(clinic: Rehearsal) -> None:
    clinic.service.faults["drain web/web1"] = EngineFailed("No socket.", engine="haproxy", next_step="Look.")
    assert "No socket." in patch(clinic).stopped
    assert "update web1" not in clinic.service.calls


def test_a_primary_that_is_elsewhere_when_flashing_is_stopped_is_told(clinic: Rehearsal) -> None:
    clinic.service.faults["update db1"] = EngineFailed("No answer.", engine="redfish", next_step="Look.")
    assert "No answer." in patch(clinic).stopped
    assert clinic.service.primaries() == ["db2"]
    told = [one.detail for one in clinic.events if isinstance(one, StepReported) and one.step.startswith("switchover")]
    assert told == ["db1 -> db2", "db1 has not got it back"]


def test_a_host_that_does_not_come_back_with_its_machine_is_a_failure(clinic: Rehearsal) -> None:
    def gone(call: str) -> None:
        if call == "update web1":
            clinic.world.reach["web1"] = Reach.TIMEOUT

    clinic.service.watch.append(gone)
    report = patch(clinic)
    assert "web1 (timeout)" in report.stopped
    assert fates(report) == {"machine/web1": Fate.FAILED, "machine/db1": Fate.NOT_STARTED}
    assert clinic.service.servers["lb1", "web/web1"] == "ready"


def test_firmware_that_is_another_by_now_is_not_touched(clinic: Rehearsal) -> None:
    planned = plan(clinic)
    clinic.service.firmware["web1"]["BIOS"] = "P3"
    report = patch(clinic, planned)
    assert "BIOS is P3, and was P1 when it was planned" in report.stopped
    assert (report.reason, report.exit_code) == ("world-moved", ExitCode.REFUSED)
    assert "update web1" not in clinic.service.calls


def test_a_bmc_that_does_not_answer_is_told_and_its_machine_left_out(clinic: Rehearsal) -> None:
    clinic.service.faults["inventory web1"] = EngineFailed("No BMC.", engine="redfish", next_step="Look.")
    found = plan(clinic)
    assert [one.key for one in found.changes] == ["machine/db1"]
    assert "the firmware of web1 cannot be read: No BMC." in [one.summary for one in found.findings]


def test_a_component_that_nobody_knows_is_told(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", "component: BIOS", "component: BOIS")
    found = plan(clinic)
    assert found.empty
    assert "web1 has no firmware component 'BOIS'; its BMC lists BIOS" in [one.summary for one in found.findings]


def test_a_run_that_dies_anywhere_reads_again_before_it_goes_on(clinic: Rehearsal) -> None:
    def mortal(call: str) -> None:
        clinic.death.at(f"before {call}")

    clinic.service.watch.append(mortal)
    planned = plan(clinic)
    clinic.death = Death()
    assert patch(clinic, planned).ok
    passed = list(clinic.death.passed)
    assert "before update db1" in passed
    for nth in range(2, len(passed) + 1):
        clinic.service.firmware.update({"db1": {"BIOS": "P1", "NIC": "7"}, "web1": {"BIOS": "P1"}})
        clinic.death = Death()
        planned = plan(clinic)
        clinic.death = Death(nth=nth)
        with pytest.raises(Killed):
            patch(clinic, planned)
        clinic.death = Death()
        run = clinic.runs.runs()[0]
        if run.state is RunState.RUNNING:
            report = clinic.resume(run.id)
            assert report.ok, (nth, passed[nth - 1], report.stopped)
        assert bios(clinic) == {"db1": WANTED, "web1": WANTED}, passed[nth - 1]
        assert clinic.service.primaries() == ["db1"], passed[nth - 1]
        assert set(clinic.service.servers.values()) <= {"ready"}, passed[nth - 1]


def ringed(site: Rehearsal, soak: str) -> None:
    """web1 is a ring that soaks, db1 comes after it."""
    site.edit("baseline.yaml", 'selector: host.name == "web1"}', f'selector: host.name == "web1", soak: {soak}}}')


def test_a_ring_soaks_and_is_looked_at_again_before_the_firmware_of_the_next_one(clinic: Rehearsal) -> None:
    ringed(clinic, "1h")
    planned, scope = today(clinic), clinic.scope()
    waited: list[float] = []
    scope.context.cancelled.wait = lambda timeout=None: waited.append(timeout) or False  # type: ignore[method-assign]
    with order(clinic) as calls:
        clinic.world.watch.append(calls.append)
        report = clinic.apply(planned, scope=scope)
    assert report.ok, report.stopped
    (begun,) = [one for one in clinic.events if isinstance(one, SoakStarted)]
    assert str(begun.subject) == "baseline/all"
    assert 0 < begun.seconds <= 3600
    assert waited == [begun.seconds]
    mine = [one for one in calls if one in {"update web1", "verify web1", "update db1"}]
    assert mine == ["update web1", "verify web1", "verify web1", "update db1"]


def test_a_ring_that_does_not_stay_well_on_its_new_firmware_stops_the_run(clinic: Rehearsal) -> None:
    ringed(clinic, "1h")
    planned, scope = today(clinic), clinic.scope()

    def worse(timeout: float | None = None) -> bool:
        clinic.world.unhealthy.add("web1")
        return False

    scope.context.cancelled.wait = worse  # type: ignore[method-assign]
    report = clinic.apply(planned, scope=scope)
    assert report.stopped == "baseline/all did not stay well for 3600 s: is_healthy on web1"
    assert bios(clinic) == {"db1": "P1", "web1": WANTED}


def test_firmware_is_not_begun_on_a_ring_before_the_packages_of_the_one_before_have_soaked(clinic: Rehearsal) -> None:
    ringed(clinic, "1h")
    clinic.edit(
        "baseline.yaml", "- {name: canary", "- {name: first, selector: host.name == 'web2', soak: 1h}\n- {name: canary"
    )
    only_web2(clinic)
    planned, scope = today(clinic), clinic.scope()
    scope.context.cancelled.wait = lambda _timeout=None: False  # type: ignore[method-assign]
    keys = [key for wave in planned.waves for key in wave]
    assert keys == ["baseline/all#1", "machine/web1", "machine/db1"]
    assert clinic.apply(planned, scope=scope).ok
    assert len([one for one in clinic.events if isinstance(one, SoakStarted)]) == 2


def only_web2(site: Rehearsal) -> None:
    """A package is due on web2 alone."""
    site.packages.repository.extend([offer(OLD), offer(NEW)])
    site.packages.read_lists(site.packages.machines["web2"])


def test_firmware_waits_for_the_window_of_its_baseline(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", "rings:", "windows: [nights]\nrings:")
    clinic.files["window.yaml"] = (
        "kind: MaintenanceWindow\nname: nights\ntime_zone: UTC\nstart: 2001-01-01T00:00:00\nduration: 1h\n"
    )
    with pytest.raises(OutsideWindow, match="window/nights is closed"):
        exactly(clinic, today(clinic))
    assert "update web1" not in clinic.service.calls


def test_firmware_after_a_failure_that_spends_the_budget_is_not_begun(clinic: Rehearsal) -> None:
    clinic.world.unhealthy.add("web1")
    report = patch(clinic)
    assert fates(report) == {"machine/web1": Fate.FAILED, "machine/db1": Fate.NOT_STARTED}
    assert bios(clinic)["db1"] == "P1"


def test_firmware_is_foretold_by_its_deadline_because_nobody_measured_it(clinic: Rehearsal) -> None:
    ringed(clinic, "2h")
    clinic.edit("baseline.yaml", "firmware: [", 'firmware: [{component: NIC, version: "8", image: "https://x/n"}, ')
    found = plan(clinic).beside.forecasts
    told = {key: (one.takes.span, one.takes.source, one.soak) for key, one in found.items()}
    kept = "no history of firmware is kept: the deadline"
    assert told == {
        "machine/web1": (timedelta(minutes=30), kept, timedelta()),
        "machine/db1": (timedelta(minutes=60), f"{kept} of each of 2", timedelta(hours=2)),
    }
    (host,) = found["machine/web1"].hosts
    assert (host.reboot, host.why) == (Need.UNKNOWN, ("its BMC tells that when it has the firmware",))
