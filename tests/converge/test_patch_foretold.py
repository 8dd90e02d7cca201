"""What a plan of patches says beforehand: how long it takes and who says so, restarts and why. Beside the digest."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.planning.forecast import Forecast, HostForecast
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.packages import Need
from ismgr_automation.ports.patching import Patched
from tests.converge.patched import days, exactly, patch, patched, plan, today
from tests.rehearsal import NOON, Rehearsal

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return patched(tmp_path)


def remember(site: Rehearsal, host: str, *minutes: int) -> None:
    """Past runs on a host."""
    site.patches.keep_patched(
        [
            Patched(run=f"r{number}", host=host, at=NOON - days(number), moves=(), took=one * MINUTE)
            for number, one in enumerate(minutes, start=1)
        ]
    )


def forecasts(found: Plan) -> dict[str, Forecast]:
    return dict(found.beside.forecasts)


def times(found: Plan) -> dict[str, tuple[timedelta, str]]:
    return {key: (one.takes.span, one.takes.source) for key, one in forecasts(found).items()}


def hosts(found: Plan) -> dict[str, HostForecast]:
    return {host.host: host for one in forecasts(found).values() for host in one.hosts}


def test_each_change_says_how_long_it_takes_and_where_that_comes_from(clinic: Rehearsal) -> None:
    remember(clinic, "web1", 1, 2, 3, 4, 5, 6)
    remember(clinic, "db2", 2, 3)
    for name in ("web2", "web3"):
        remember(clinic, name, *[1] * 5)
    assert times(plan(clinic)) == {
        "baseline/all#1": (6 * MINUTE, "p95 of 6 runs"),
        "baseline/all#2": (30 * MINUTE, "2 runs only: the deadline, restarts left out, as on db2"),
        "baseline/all#3": (30 * MINUTE, "no history: the deadline, restarts left out"),
    }


def test_what_is_foretold_is_what_windows_keep_free(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", "rings:", "windows: [nights]\nrings:")
    clinic.files["window.yaml"] = (
        "kind: MaintenanceWindow\nname: nights\ntime_zone: UTC\nstart: 2026-03-01T11:00:00\nduration: 80m\n"
    )
    remember(clinic, "web1", *[25] * 5)
    (said,) = [one.summary for one in plan(clinic).findings if "window/nights" in one.summary]
    assert "closes too soon: the work needs 25m, 20m are left" in said
    assert times(plan(clinic))["baseline/all#1"] == (25 * MINUTE, "p95 of 5 runs")


def test_the_soak_of_the_ring_before_is_told_where_it_is_waited_for(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", 'selector: host.name == "web1"}', 'selector: host.name == "web1", soak: 2h}')
    found = {key: one.soak for key, one in forecasts(plan(clinic)).items()}
    assert found == {"baseline/all#1": 0 * MINUTE, "baseline/all#2": 120 * MINUTE, "baseline/all#3": 0 * MINUTE}


def test_a_plan_has_the_digest_of_its_decision_whatever_is_foretold(clinic: Rehearsal) -> None:
    before = plan(clinic)
    remember(clinic, "web1", *[25] * 5)
    clinic.packages.mapped.update({"init": ("tool",)})
    after = plan(clinic)
    assert forecasts(after) != forecasts(before)
    assert after.digest == before.digest
    assert read(write(after), "plan.json") == after


def test_a_signed_plan_is_applied_although_something_else_is_foretold_by_now(clinic: Rehearsal) -> None:
    planned = today(clinic)
    remember(clinic, "web1", *[25] * 5)
    clinic.packages.mapped.update({"init": ("tool",)})
    assert exactly(clinic, planned).ok


@pytest.mark.parametrize(
    ("policy", "then"),
    [("if-needed", "restarted if that is found then"), ("never", "told only, somebody else restarts it")],
)
def test_each_host_has_its_restart_foretold_with_why_and_what_follows(
    clinic: Rehearsal, policy: str, then: str
) -> None:
    clinic.edit("baseline.yaml", "if-needed", policy)
    clinic.packages.mapped.update({"init": ("tool",), "web.service": ("tool", "libc6"), "other.service": ("libc6",)})
    found = hosts(plan(clinic))
    assert set(found) == {"db1", "db2", "web1", "web2", "web3"}
    assert found["web1"] == HostForecast(
        host="web1", reboot=Need.YES, why=("PID 1 has tool mapped",), services=("web.service",), then=then
    )


def test_what_is_foretold_decides_nothing(clinic: Rehearsal) -> None:
    clinic.packages.mapped.update({"init": ("tool",)})
    found = plan(clinic)
    assert {one.reboot for one in hosts(found).values()} == {Need.YES}
    assert patch(clinic, found).ok
    # the hosts say afterwards that they need none
    assert {one.rebooted for one in clinic.patches.patched()} == {False}


def test_a_host_of_which_nobody_can_tell_is_unknown_and_not_no(clinic: Rehearsal) -> None:
    clinic.packages.unknown_reboot.add("web1")
    found = hosts(plan(clinic))
    assert (found["web1"].reboot, found["web1"].why) == (Need.UNKNOWN, ("nobody can tell",))
    assert found["web2"].reboot is Need.NO


def test_the_way_back_is_foretold_by_the_last_reading(clinic: Rehearsal) -> None:
    clinic.packages.mapped.update({"init": ("tool",)})
    report = patch(clinic)
    found = clinic_rollback(clinic, report.run)
    assert hosts(found)["web1"].why == ("PID 1 has tool mapped",)


def clinic_rollback(site: Rehearsal, run: str) -> Plan:
    from ismgr_automation.converge.patch import plan_rollback

    return plan_rollback(site.scope(), NOON, run)
