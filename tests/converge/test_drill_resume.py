"""Drills whose process dies: at every write of the journal, before and after every verb, at every boundary of a unit.
Whoever resumes looks at the world, and ends where a whole drill ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ismgr_automation.converge.scope import Recovery
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.json import Json
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import Boundary, Death, Killed, MemoryDrillJournal, MemoryFences, MemoryWorldProbe
from ismgr_automation.ports.recovery import FenceRequest, Witness
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.result import Verdict
from ismgr_automation.recovery.telling import AWAY as NOBODY_THERE
from tests.drills import AWAY, BY_NETWORK, HOME, Drills, acts, arrive, drills, is_home, is_safe, plan, result

SWITCHOVER, FAILOVER, RETURN = DrillMode.SWITCHOVER, DrillMode.FAILOVER, DrillMode.RETURN
FAILED = EngineFailed("The engine fell over.", engine="postgresql", next_step="Look at it.")


@dataclass(frozen=True, slots=True)
class MortalNotes(MemoryDrillJournal):
    """A journal around whose writes the process may die."""

    site: Mortal | None = None

    def write(self, entry: Mapping[str, Json]) -> None:
        """Keep it, if the process lives that long."""
        assert self.site is not None
        self.site.death.at(f"before write {entry['what']}")
        MemoryDrillJournal.write(self, dict(entry))
        self.site.death.at(f"after write {entry['what']}")


@dataclass(slots=True, kw_only=True)
class Mortal(Drills):
    """An estate whose process dies at the nth boundary; calls to the world and writes of the journal are among them."""

    fences: MemoryFences | None = None
    """Others than those of its world."""

    def recovery(self) -> Recovery:
        """With a mortal journal."""

        def journal(run: str) -> MemoryDrillJournal:
            return self.journals.setdefault(run, MortalNotes(self.folder, site=self))

        known = Drills.recovery(self)
        return replace(known, journal=journal, fences=self.fences or known.fences)


def mortal(folder: Path, edit: tuple[str, str] | None = None) -> Mortal:
    known = drills(folder)
    site = Mortal(folder=folder, world=known.world, files=known.files, pair=known.pair)
    site.client = MemoryWorldProbe(world=site.pair, every=50)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.pair.watch.append(lambda call: site.death.at(f"call {call}"))
    if edit is not None:
        site.edit("recovery.yaml", *edit)
    return site


def died(site: Mortal, mode: DrillMode, nth: int) -> str:
    """Where it died; empty where it did not."""
    planned = plan(site, mode)
    site.death = Death(nth=nth)
    try:
        site.apply(planned)
    except Killed:
        return site.death.passed[-1] if nth > len(site.death.passed) else str(site.death.passed[nth - 1])
    return ""


CASES = {
    "switchover": (SWITCHOVER, None),
    "failover by power": (FAILOVER, None),
    "failover by network": (FAILOVER, BY_NETWORK),
}


@pytest.mark.parametrize("case", CASES)
def test_a_drill_that_dies_anywhere_is_resumed_to_the_same_end(tmp_path: Path, case: str) -> None:
    mode, edit = CASES[case]
    whole = mortal(tmp_path / "whole", edit)
    assert died(whole, mode, 0) == ""
    passed = list(map(str, whole.death.passed))
    assert {"call promote db2", "call promote db2 done", "after write task-began", "before write leg-ended"} <= {
        *passed
    }
    for nth in range(1, len(passed) + 1):
        site = mortal(tmp_path / f"died-{nth}", edit)
        where = died(site, mode, nth)
        site.death = Death()
        if where == Boundary.BEFORE_BEGIN:
            assert acts(site) == []
            continue
        (run,) = site.runs.runs()
        if run.state is RunState.RUNNING:
            report = site.resume()
            assert report.ok, (nth, where, report.stopped)
        assert is_home(site), (nth, where)
        assert is_safe(site), (nth, where)
        found = result(site)
        assert (found.verdict, found.reasons) == (Verdict.PASSED, ()), (nth, where)
        assert found.resumed == len([one for one in site.journals[run.id].lines if one["what"] == "resumed"])
        for outage in found.outages:
            assert sum(one.took_ms for one in outage.waterfall) == pytest.approx(outage.outage_ms), (nth, where)
            assert outage.unaccounted_ms <= outage.outage_ms / 20, (nth, where)


def test_a_resumed_drill_says_so_and_what_clients_waited_for_it(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    site.pair.watch.append(lambda call: site.death.at("fenced") if call == "fence db1 done" else None)
    planned = plan(site)
    site.death = Death(only="fenced", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    site.pair.advance(700)
    assert site.resume().ok
    found = result(site)
    assert found.resumed == 1
    (away,) = [one for one in found.outages[0].waterfall if one.name == NOBODY_THERE]
    assert away.took_ms >= 700
    assert found.outages[0].outage_ms > 700
    assert found.reasons[0].startswith("recovery: clients waited 7")
    assert found.without_redundancy_s is not None
    assert found.without_redundancy_s > 1.5
    fenced = [one for one in found.tasks if one.name == "fence"]
    assert [(one.ok, one.found) for one in fenced] == [(True, True)]


def test_who_dies_while_giving_a_service_back_does_not_try_the_way_there_again(tmp_path: Path) -> None:
    for nth in range(1, 40):
        site = mortal(tmp_path / str(nth))
        site.pair.faults["promote db2"] = FAILED
        planned = plan(site)

        def back(call: str, site: Mortal = site) -> None:
            if any(one["what"] == "giving-back" for known in site.journals.values() for one in known.lines):
                site.death.at(f"giving back {call}")

        site.pair.watch[:] = [back]
        site.death = Death(nth=nth, only="giving back")
        try:
            site.apply(planned)
        except Killed:
            pass
        else:
            if nth > 1:
                break
        site.pair.faults.clear()
        if site.runs.runs()[0].state is RunState.RUNNING:
            report = site.resume()
            assert "promote: The engine fell over." in report.stopped
        assert site.pair.promoted == []
        assert site.pair.writable() == (HOME,)


def test_a_window_that_has_closed_does_not_leave_clients_waiting(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    planned = plan(site)
    site.death = Death(only="call promote db2", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    site.files["freeze.yaml"] = (
        "kind: Freeze\nname: audit\nreason: auditors are here\nowner: platform\n"
        "begins: 2000-01-01T00:00:00+00:00\nends: 2100-01-01T00:00:00+00:00\nwork: [drill]\n"
    )
    assert site.resume().ok
    assert is_home(site)


def test_whoever_resumes_behind_a_fence_is_told_who_could_connect_before_and_in_what_time(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    told: list[dict[str, float]] = []

    @dataclass(frozen=True, slots=True)
    class Asked(MemoryFences):
        def witness(self, request: FenceRequest, context: Context) -> Witness:
            told.append(dict(request.proven))
            return MemoryFences.witness(self, request, context)

    site.fences = Asked(site.pair)
    planned = plan(site)
    site.death = Death(only="call fence db1 done", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    assert site.resume().ok
    assert told[:2] == [{}, {AWAY: 1.0}]


def test_hosts_that_a_drill_has_fenced_do_not_hold_its_own_end_up(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    planned = plan(site)
    site.death = Death(only="call promote db2 done", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    assert not site.pair.members[HOME].powered
    assert site.pair.writable() == (AWAY,)
    assert site.resume().ok
    assert is_home(site)


def test_a_journal_that_cannot_be_written_does_not_keep_a_service_from_its_clients(tmp_path: Path) -> None:
    site = drills(tmp_path)

    @dataclass(frozen=True, slots=True)
    class Full(MemoryDrillJournal):
        def write(self, entry: Mapping[str, Json]) -> None:
            if any(one["what"] == "confirmed" for one in self.lines):
                raise EngineFailed("The disk is full.", engine="drill journal", next_step="Make room.")
            MemoryDrillJournal.write(self, dict(entry))

    scope = site.scope()
    full = Full(site.folder)
    recovery = replace(scope.engines.recovery, journal=lambda _run: full)
    report = site.apply(plan(site), scope=replace(scope, engines=replace(scope.engines, recovery=recovery)))
    assert "The disk is full." in report.stopped
    assert "promote db2" not in acts(site)
    assert site.pair.writable() == (HOME,)
