"""Drills with a fault whose process dies, at every write of the journal and every call: whoever resumes looks whether
the fault stands, goes on or lifts it; and where nobody comes the hosts lift it themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.memory import Boundary, Death, Killed, MemoryWorldProbe
from ismgr_automation.ports.recovery import Outcome
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.result import Verdict
from tests.converge.test_drill_resume import Mortal
from tests.drills import HOME, acts, arrive, faulty_drills, fence_by_network, is_home, result

LEFT_ALONE_TICKS = 200_000
"""More than every fault lasts that nobody renews."""


def mortal(folder: Path, *, network: bool = False) -> Mortal:
    known = faulty_drills(folder)
    site = Mortal(folder=folder, world=known.world, files=known.files, pair=known.pair)
    site.client = MemoryWorldProbe(world=site.pair, every=50)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.pair.watch.append(lambda call: site.death.at(f"call {call}"))
    site.edit("service.yaml", "rto: 200ms", "rto: 30s")
    if network:
        fence_by_network(site)
    return site


def died(site: Mortal, fault: str, nth: int) -> str:
    """Where it died; empty where it did not."""
    planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault=fault)
    site.death = Death(nth=nth)
    try:
        site.apply(planned)
    except Killed:
        return str(site.death.passed[min(nth, len(site.death.passed)) - 1])
    return ""


def assert_safe(site: Mortal, where: object, *, stale: bool) -> None:
    """Nobody is told of a write that the old side took after a promotion."""
    told = {one.number for one in site.pair.attempts if one.outcome is Outcome.ACKED}
    assert not told & {one.number for one in site.pair.late}, where
    assert stale or site.pair.several == [], where


CASES = {
    "a site cut off, fenced by network": ("cut", True),
    "a site cut off, fenced by power": ("cut", False),
    "no power": ("dark", False),
    "a frozen server": ("frozen", True),
    "a stale primary": ("stale", False),
    "a slow link": ("slow", False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_drill_with_a_fault_that_dies_anywhere_comes_home_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    fault, network = CASES[case]
    whole = mortal(tmp_path / "whole", network=network)
    assert died(whole, fault, 0) == ""
    assert result(whole).verdict is Verdict.PASSED, result(whole).reasons
    passed = list(map(str, whole.death.passed))
    assert {
        f"call break {fault}",
        f"call break {fault} done",
        "after write fault-undo",
        "before write fault-bitten",
    } <= {*passed}
    for nth in range(1, len(passed) + 1):
        site = mortal(tmp_path / f"died-{nth}", network=network)
        where = (nth, died(site, fault, nth))
        site.death = Death()
        if where[1] == Boundary.BEFORE_BEGIN:
            assert acts(site) == []
            continue
        (run,) = site.runs.runs()
        if run.state is RunState.RUNNING:
            report = site.resume()
            assert report.ok, (where, report.stopped)
        assert is_home(site), where
        assert site.pair.damage.broken == {}, where
        assert_safe(site, where, stale=fault == "stale")
        found = result(site)
        assert (found.verdict, found.reasons) == (Verdict.PASSED, ()), where
        assert found.fault is not None
        for outage in (one for one in found.outages if one.waterfall):
            assert sum(one.took_ms for one in outage.waterfall) == pytest.approx(outage.outage_ms), where


@pytest.mark.parametrize("case", CASES)
def test_a_fault_whose_controller_never_comes_back_is_lifted_by_the_hosts(tmp_path: Path, case: str) -> None:
    fault, network = CASES[case]
    site = mortal(tmp_path, network=network)
    site.pair.watch.append(lambda call: site.death.at("broken") if call == f"break {fault} done" else None)
    planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault=fault)
    site.death = Death(only="broken", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    assert len(site.pair.damage.broken) == 1
    site.pair.each_tick.clear()
    site.pair.tick += LEFT_ALONE_TICKS
    site.pair.advance()
    # nobody but its BMC can give a machine its power
    assert (site.pair.damage.broken == {}) == (fault not in {"dark", "stale"})
    assert site.pair.members[HOME].primary == (fault not in {"dark", "stale"})


def test_a_fault_that_lifted_itself_while_nobody_was_there_proves_nothing(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault="cut")
    site.death = Death(only="before write detected", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    site.pair.tick += LEFT_ALONE_TICKS
    site.pair.advance()
    report = site.resume()
    found = result(site)
    assert "the hosts have lifted it themselves" in report.stopped
    assert dict(found.verdicts) == {
        "fault": Verdict.INVALID,
        "recovery": Verdict.SKIPPED,
        "cleanup": Verdict.PASSED,
    }, found.reasons
    assert site.pair.promoted == []
    assert is_home(site)
