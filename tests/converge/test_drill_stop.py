"""A drill that is asked to stop from elsewhere: word is left in its folder, and whoever carries it out hears of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ismgr_automation.converge.drill_stop import listening
from ismgr_automation.engines.drill_files import FileDrillJournal
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.memory import MemoryDrillJournal
from ismgr_automation.recovery.result import Verdict
from tests.drills import AWAY, Drills, acts, arrive, drill, drills, is_home, is_safe, result


@pytest.fixture
def clinic(tmp_path: Path) -> Drills:
    site = drills(tmp_path)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    return site


def ask_at(site: Drills, moment: str) -> None:
    """Leave word for the drill that runs as soon as something happened to the pair."""

    def look() -> None:
        if moment in site.pair.calls:
            for journal in site.journals.values():
                journal.ask_to_stop("ada@desk")

    site.pair.each_tick.append(look)


def test_a_leg_that_clients_wait_for_is_ended_first_and_nothing_new_begins(clinic: Drills) -> None:
    ask_at(clinic, "fence db1")
    report = drill(clinic, DrillMode.FAILOVER)
    assert report.cancelled
    assert acts(clinic) == ["fence db1", "confirm db1", "promote db2", "backend db2"]
    found = result(clinic)
    assert found.verdict is Verdict.ABORTED
    assert "recovery: stopped on request of ada@desk before reprotect" in found.reasons
    assert clinic.pair.writable() == (AWAY,)
    assert is_safe(clinic)


def test_a_return_brings_home_what_was_stopped(clinic: Drills) -> None:
    ask_at(clinic, "fence db1")
    drill(clinic, DrillMode.FAILOVER)
    clinic.pair.each_tick.pop()
    assert drill(clinic, DrillMode.RETURN).ok
    assert is_home(clinic)


@pytest.mark.parametrize("kind", [FileDrillJournal, MemoryDrillJournal])
def test_who_asked_first_is_kept_and_asking_twice_is_no_mistake(
    tmp_path: Path, kind: type[FileDrillJournal | MemoryDrillJournal]
) -> None:
    journal = kind(tmp_path / "run")
    assert journal.asked_to_stop() == ""
    journal.ask_to_stop("ada@desk")
    journal.ask_to_stop("bob@desk")
    assert journal.asked_to_stop() == "ada@desk"
    assert journal.entries() == ()


def test_who_is_in_the_middle_of_cold_work_hears_of_it(clinic: Drills, tmp_path: Path) -> None:
    scope, journal = clinic.scope(), FileDrillJournal(tmp_path / "run")
    with listening(journal, scope):
        FileDrillJournal(tmp_path / "run").ask_to_stop("ada@desk")
        assert scope.context.cancelled.wait(30)
    assert not [one for one in threading.enumerate() if one.name == "ismgr-drill-stop"]
