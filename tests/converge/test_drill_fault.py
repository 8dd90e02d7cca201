"""Drills that break something first: who must notice, in which order all is done and mended, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.converge.report import Report
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.recovery import Outcome
from ismgr_automation.recovery.result import Verdict
from tests.drills import AWAY, Drills, acts, arrive, faulty_drills, fence_by_network, is_home
from tests.drills import result as measured

PASSED = {"fault": Verdict.PASSED, "recovery": Verdict.PASSED, "cleanup": Verdict.PASSED}
BACK = ["demote db2", "promote db1", "backend db1", "rejoin db2"]
THERE = ["fence db1", "confirm db1", "promote db2", "backend db2"]


@pytest.fixture
def clinic(tmp_path: Path) -> Drills:
    return ready(faulty_drills(tmp_path))


def ready(site: Drills) -> Drills:
    """No write is lost, and a detection may take its time."""
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.edit("service.yaml", "rto: 200ms", "rto: 3s")
    return site


def plan(site: Drills, fault: str, mode: DrillMode = DrillMode.FAILOVER) -> Plan:
    return plan_drill(site.scope(), datetime.now(UTC), "records", mode, fault=fault)


def drill(site: Drills, fault: str) -> Report:
    return site.apply(plan(site, fault))


def assert_safe(site: Drills) -> None:
    """A server that goes on may write down what had arrived before its fence: nobody is told that it did."""
    assert site.pair.several == []
    told = {one.number for one in site.pair.attempts if one.outcome is Outcome.ACKED}
    assert not told & {one.number for one in site.pair.late}


def said(site: Drills) -> list[str]:
    """Everything that was broken, mended and moved, in order."""
    begun = ("arm", "break", "lift", "come")
    moved = acts(site)
    order = [one for one in site.pair.calls if not one.endswith(" done") and (one.split()[0] in begun or one in moved)]
    return [one for one in order if not one.startswith("arm")]


LOST = ("dark", "frozen", "cut", "cut-out", "rolling", "full", "readonly")


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("network", [False, True])
def test_a_site_that_is_lost_is_noticed_left_and_come_home_to(clinic: Drills, fault: str, network: bool) -> None:
    if network:
        if fault == "dark":
            pytest.skip("a machine without power cannot be fenced by its packet filter")
        fence_by_network(clinic)
    if fault == "rolling":
        clinic.edit("service.yaml", "rpo: 0s", "rpo: 5s")
    report = drill(clinic, fault)
    found = measured(clinic)
    assert (found.verdict, dict(found.verdicts), found.reasons, found.left) == (Verdict.PASSED, PASSED, (), ())
    assert report.ok, report.stopped
    assert is_home(clinic)
    assert_safe(clinic)
    told = found.fault
    assert told is not None
    assert (told.name, told.misses) == (fault, 3)
    assert told.began_ms == 0
    assert None not in {told.bitten_ms, told.detected_ms, told.lifted_ms}
    assert 0 < told.bitten_ms < told.detected_ms < told.lifted_ms
    # three looks, 300 ms apart
    assert 890 <= told.detected_ms - told.bitten_ms <= 1000
    names = [one.name for one in found.outages[0].waterfall]
    assert names[0] in {"fault", "bite", "detect"}
    assert "detect" in names
    assert sum(one.took_ms for one in found.outages[0].waterfall) == pytest.approx(found.outages[0].outage_ms)
    assert found.outages[0].outage_ms > 900
    order = said(clinic)
    retire = ["retire db1"] if network else []
    out = [*retire, "unfence db1", "rejoin db1"]
    lift = [f"lift {fault}"]
    # nobody works on a machine without power
    late = not network and fault in {"dark", "frozen", "full", "readonly"}
    expected = [f"break {fault}", *THERE, *([*out, *lift] if late else [*lift, *out]), *BACK]
    assert order == expected


def test_writes_that_a_rolling_disaster_loses_are_counted(clinic: Drills) -> None:
    clinic.pair.each_tick.pop()
    drill(clinic, "rolling")
    found = measured(clinic)
    assert found.writes is not None
    # what was acknowledged from the first cut to the second never arrives
    assert found.writes.lost > 900
    assert found.verdict is Verdict.FAILED
    assert found.verdicts["fault"] is Verdict.PASSED
    before = next(one for one in found.readings if one.at == "failover")
    assert {one.host: one.lag_bytes for one in before.standings}[AWAY] <= 2


def test_a_plan_says_what_it_breaks_and_is_another_one_by_it(clinic: Drills) -> None:
    planned = plan(clinic, "cut")
    assert [f"{one.what} @ {one.target}" for one in planned.changes[0].steps][:7] == [
        "fault: cut @ gw1", "fault: detect @ service/records", "failover: fence @ db1", "failover: promote @ db2",
        "failover: balancers @ group/edges", "lift: cut @ gw1", "reprotect: out @ db1",
    ]  # fmt: skip
    assert len({planned.digest, plan(clinic, "").digest, plan(clinic, "frozen").digest}) == 3
    assert plan(clinic, "cut").digest == planned.digest
    assert {one.split()[0] for one in clinic.pair.calls} == {"look"}


def test_a_faults_steps_are_among_what_was_applied(clinic: Drills) -> None:
    planned = plan(clinic, "cut")
    report = clinic.apply(planned)
    assert report.outcomes[0].applied == planned.changes[0].steps


REFUSED = {
    "a name that there is not": ("cuts", DrillMode.FAILOVER, "has no fault 'cuts'. Did you mean 'cut'?"),
    "a planned move": ("cut", DrillMode.SWITCHOVER, "A fault is for a failover, and this is a switchover drill."),
    "a way home": ("cut", DrillMode.RETURN, "A fault is for a failover, and this is a return drill."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_fault_of_the_plan_is_refused(clinic: Drills, case: str) -> None:
    fault, mode, words = REFUSED[case]
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        plan(clinic, fault, mode)


@pytest.mark.parametrize("fault", ["dark", "stale"])
def test_a_fault_of_power_wants_a_machine_whose_power_can_be_cut(clinic: Drills, fault: str) -> None:
    clinic.edit("sites.yaml", "- name: db1\n", "- name: other\n")
    with pytest.raises(InputError, match="its fence cannot be raised then"):
        plan(clinic, fault)


def test_a_site_that_is_cut_off_wants_a_witness_inside(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", ", witnesses: [edges]", "")
    with pytest.raises(InputError, match="Nobody at site dc1 could confirm a fence there while the site is cut off"):
        plan(clinic, "cut")
    assert plan(clinic, "frozen").changes


def test_nobody_is_promoted_on_the_silence_of_a_site_whose_witness_was_lost(clinic: Drills) -> None:
    clinic.pair.liars.add("db1")
    clinic.pair.watch.append(lambda call: clinic.pair.unmanaged.add("lb1") if call == "fence db1" else None)
    drill(clinic, "cut")
    assert "promote db2" not in acts(clinic)
    assert_safe(clinic)


def test_a_gateway_at_no_side_that_is_lost_is_refused(clinic: Drills) -> None:
    known = clinic.world.inventories["hosts"]
    clinic.world.inventories["hosts"] = tuple(replace(one, site="dc2") if one.name == "gw1" else one for one in known)
    with pytest.raises(InputError, match="has no member at site dc1"):
        plan(clinic, "cut")


def test_what_a_service_survives_is_watched_and_moves_nobody(clinic: Drills) -> None:
    planned = plan(clinic, "slow")
    assert [one.what for one in planned.changes[0].steps] == ["fault: slow", "fault: watch", "lift: slow"]
    assert clinic.apply(planned).ok
    found = measured(clinic)
    assert (found.verdict, found.reasons) == (Verdict.PASSED, ())
    assert clinic.pair.promoted == []
    assert found.fault is not None
    assert (found.fault.looks, found.fault.misses, found.fault.detected_ms) == (30, 0, None)
    assert found.fault.gap_ms is not None
    assert found.fault.gap_ms < 50
    assert [one.leg for one in found.outages] == ["fault"]
    assert said(clinic) == ["break slow", "lift slow"]


def test_a_stale_primary_that_comes_back_takes_no_write(clinic: Drills) -> None:
    report = drill(clinic, "stale")
    found = measured(clinic)
    assert (found.verdict, found.reasons) == (Verdict.PASSED, ()), report.stopped
    assert found.fault is not None
    assert found.fault.taken == 0
    back = ["come back stale", "fence db1", "confirm db1", "unfence db1", "rejoin db1"]
    assert said(clinic) == ["break stale", *THERE, *back, "lift stale", *BACK]
    assert clinic.pair.late == []
    assert is_home(clinic)
