"""Waves of a run: one bad host costs one host, and a group keeps its promise whatever happened before."""

from __future__ import annotations

from pathlib import Path

import pytest

from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.core.errors import EngineFailed, ExitCode
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Desired
from tests.rehearsal import Rehearsal, host_entry

DATABASES = ("db1.dc1", "db2.dc1", "db3.dc1", "db4.dc1")


@pytest.fixture
def fleet(tmp_path: Path) -> Rehearsal:
    """A settled site with four databases, whose playbook has just been edited."""
    site = Rehearsal(folder=tmp_path)
    site.world.programs["dc1-servers"] = lambda _config, _made: Desired(
        resources={name: {"power": "on"} for name in (*DATABASES, "edge1.dc1", "web1.dc1")},
        outputs={
            "hosts": [host_entry(name) for name in (*DATABASES, "edge1.dc1", "web1.dc1")],
            "edge": "192.0.2.20",
        },
    )
    site.world.programs["dc2-servers"] = lambda _config, _made: Desired(resources={}, outputs={"hosts": []})
    site.settle()
    site.world.values["db1.dc1"]["tune"] = site.world.values["db2.dc1"]["tune"] = "by hand"
    site.world.values["db3.dc1"]["tune"] = site.world.values["db4.dc1"]["tune"] = "by hand"
    return site


def promise(site: Rehearsal, words: str, *, budget: str = "") -> None:
    site.edit(
        "groups.yaml",
        'playbook: playbooks/database.yml\nwaves: [1, "100%"]',
        f"playbook: playbooks/database.yml\n{words}",
    )
    if budget:
        site.edit("estate.yaml", "lab: {", f"lab: {{failure_budget: {budget}, ")


def fates(report: Report) -> dict[str, Fate]:
    return {one.key: one.fate for one in report.outcomes if one.key.startswith("group/databases")}


def worked_on(site: Rehearsal) -> list[tuple[str, ...]]:
    return [limit for verb, name, limit in site.world.limits if (verb, name) == ("run", "databases")]


def test_a_bad_change_costs_one_host(fleet: Rehearsal) -> None:
    fleet.world.breaks["db1.dc1", "tune"] = "no such parameter"
    report = fleet.apply()
    assert fates(report) == {"group/databases#1": Fate.FAILED, "group/databases#2": Fate.NOT_STARTED}
    assert worked_on(fleet) == [("db1.dc1",)]
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_a_host_that_dies_in_the_first_wave_stops_the_run_before_the_second(fleet: Rehearsal) -> None:
    promise(fleet, "waves: [2, 2]")
    fleet.world.dies["db1.dc1", "tune"] = Reach.TIMEOUT
    report = fleet.apply()
    assert fates(report) == {"group/databases#1": Fate.FAILED, "group/databases#2": Fate.NOT_STARTED}
    assert worked_on(fleet) == [("db1.dc1", "db2.dc1")]
    assert "db1.dc1 unreachable (timeout)" in report.stopped


def test_waves_are_as_many_as_a_promise_needs(fleet: Rehearsal) -> None:
    promise(fleet, "waves: ['100%']\nminimum_available: 3")
    assert fleet.apply().ok
    assert worked_on(fleet) == [(name,) for name in DATABASES]


def test_a_failure_that_the_budget_allows_still_counts_as_a_member_that_is_down(fleet: Rehearsal) -> None:
    promise(fleet, "minimum_available: 2", budget="4")
    fleet.world.breaks["db1.dc1", "tune"] = "no such parameter"
    planned = fleet.plan()
    assert [tuple(one.name for one in change.targets) for change in planned.changes] == [
        ("db1.dc1",),
        ("db2.dc1", "db3.dc1"),
        ("db4.dc1",),
    ]
    report = fleet.apply(planned)
    assert worked_on(fleet) == [("db1.dc1",)]
    assert report.stopped == (
        "db2.dc1, db3.dc1 cannot be worked on together: 2 of the 4 members of group/databases must always be up and "
        "db1.dc1 (not verified) is down"
    )


def test_a_budget_lets_a_run_go_on_until_it_is_spent(fleet: Rehearsal) -> None:
    promise(fleet, "waves: [1, 1, 1, 1]", budget="1")
    fleet.world.breaks["db1.dc1", "tune"] = fleet.world.breaks["db3.dc1", "tune"] = "no such parameter"
    report = fleet.apply()
    assert worked_on(fleet) == [("db1.dc1",), ("db2.dc1",), ("db3.dc1",)]
    assert "the failure budget of the run is 1" in report.stopped
    assert "db1.dc1, db3.dc1" in report.stopped


def test_a_stack_that_fails_within_the_budget_stops_only_what_needs_it(running: Rehearsal) -> None:
    running.edit("estate.yaml", "lab: {", "lab: {failure_budget: 1, ")
    running.edit("stacks.yaml", "needs: [group/edges]", "needs: [dc1-servers]")
    running.world.values["web1.dc2"]["install"] = "0"
    for stack, machine in (("dc1-servers", "db1.dc1"), ("dc2-servers", "web1.dc2")):
        running.world.actual[stack][machine] = {"power": "on", "tag": "by hand"}
    running.world.actual["names"]["www"] = {"to": "elsewhere"}
    running.world.faults["up dc2-servers"] = EngineFailed("The engine fell over.", engine="pulumi")
    report = running.apply()
    assert {one.key: (one.fate, one.summary) for one in report.outcomes} == {
        "stack/dc1-servers": (Fate.LANDED, ""),
        "stack/dc2-servers": (Fate.FAILED, "The engine fell over."),
        "stack/names": (Fate.LANDED, ""),
        "group/webs#1": (Fate.NOT_STARTED, "it needs a stack that failed"),
    }
    assert (report.stopped, report.exit_code) == ("", ExitCode.PARTLY_APPLIED)


def test_a_member_that_falls_before_its_wave_is_seen(fleet: Rehearsal) -> None:
    promise(fleet, "quorum: true\nwaves: [1, '100%']")
    planned = fleet.plan()
    fleet.world.reach["db4.dc1"] = Reach.TIMEOUT
    report = fleet.apply(planned)
    assert not worked_on(fleet)
    assert "3 of the 4 members of group/databases must always be up and db4.dc1 (unreachable) is down" in report.stopped
    assert not report.effect


def test_a_member_that_is_left_out_and_down_keeps_the_others_from_being_worked_on(fleet: Rehearsal) -> None:
    promise(fleet, "minimum_available: 3")
    fleet.world.reach["db4.dc1"] = Reach.TIMEOUT
    planned = fleet.plan(excludes=("host/db4.dc1",))
    assert planned.errored
    (finding,) = planned.findings
    assert finding.summary == (
        "db1.dc1 cannot be worked on: 3 of the 4 members of group/databases must always be up and db4.dc1 "
        "(unreachable) is down"
    )
