"""Drills in whose middle something is raised: whatever has been broken is mended, whoever may be a second primary is
fenced, and there is a result that says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.scope import Recovery
from ismgr_automation.core.errors import Cancelled, EngineFailed, Unreachable
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import MemoryDrillJournal, MemoryWorldProbe
from ismgr_automation.ports.recovery import ProbeRequest, Seen
from ismgr_automation.recovery.result import Verdict
from tests.drills import HOME, Drills, acts, arrive, drill, faulty_drills, is_home, result

SILENT = Unreachable("The secret store does not answer.", engine="vault", subject="env:APP", cause="timeout")
FULL = EngineFailed("The disk is full.", engine="drill journal", next_step="Make room.")
BUG = KeyError("nobody has thought of this")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind(MemoryWorldProbe):
    """A detector that cannot look from a call on; from the first look where none is named."""

    since: str
    problem: Exception

    def sees(self, request: ProbeRequest, context: Context) -> Seen:
        """What others see, as long as it can."""
        if not self.since or self.since in self.world.calls:
            raise self.problem
        return MemoryWorldProbe.sees(self, request, context)


@dataclass(frozen=True, slots=True)
class Full(MemoryDrillJournal):
    """A journal that takes no entry of one kind."""

    what: str = ""
    lines: list[JsonObject] = field(default_factory=list)

    def write(self, entry: JsonObject) -> None:
        """Keep it, if it is another one."""
        if entry["what"] == self.what:
            raise FULL
        MemoryDrillJournal.write(self, entry)


@pytest.fixture
def clinic(tmp_path: Path) -> Drills:
    site = faulty_drills(tmp_path)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.edit("service.yaml", "rto: 200ms", "rto: 3s")
    return site


Plant = Callable[[Drills], Recovery]


def blind(since: str, problem: Exception) -> Plant:
    return lambda site: replace(site.recovery(), probe=Blind(world=site.pair, since=since, problem=problem))


def full(what: str) -> Plant:
    def planted(site: Drills) -> Recovery:
        journal = Full(site.folder, what=what)
        return replace(site.recovery(), journal=lambda _run: journal)

    return planted


def drilled(site: Drills, fault: str, plant: Plant) -> Report:
    planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault=fault)
    scope = site.scope()
    engines = replace(scope.engines, recovery=plant(site))
    return site.apply(planned, scope=replace(scope, engines=engines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """In a drill with which fault, what is raised where, and what must be said of it."""

    fault: str
    plant: Plant
    said: str


SURVIVED: Mapping[str, Raised] = {
    "the secret store lies behind the slowed link": Raised(
        fault="slow", plant=blind("break slow done", SILENT), said="it broke off: The secret store does not answer."
    ),
    "a bug of ours": Raised(
        fault="slow", plant=blind("break slow done", BUG), said="it broke off: a bug in ismgr, please report it: Key"
    ),
    "the secret store lies behind the cut": Raised(
        fault="cut", plant=blind("break cut done", SILENT), said="failover: The secret store does not answer."
    ),
}


@pytest.mark.parametrize("case", SURVIVED)
def test_what_is_raised_behind_a_fault_is_told_and_the_fault_is_lifted(clinic: Drills, case: str) -> None:
    raised = SURVIVED[case]
    report = drilled(clinic, raised.fault, raised.plant)
    found = result(clinic)
    assert raised.said in report.stopped
    assert any(raised.said in one for one in found.reasons), found.reasons
    assert found.verdict is not Verdict.PASSED
    assert found.left == ()
    assert clinic.pair.damage.broken == {}
    assert is_home(clinic)


STALE: Mapping[str, Raised] = {
    "nobody can look on": Raised(
        fault="stale",
        plant=blind("come back stale done", SILENT),
        said="the return of the stale primary proves nothing: it is there, and nobody could look on: The secret store",
    ),
    "the journal's disk is full": Raised(fault="stale", plant=full("came-back"), said="The disk is full."),
}


@pytest.mark.parametrize("case", STALE)
def test_a_stale_primary_is_fenced_anew_whatever_is_raised_after_its_return(clinic: Drills, case: str) -> None:
    raised = STALE[case]
    report = drilled(clinic, raised.fault, raised.plant)
    assert raised.said in report.stopped
    assert any(raised.said in one for one in result(clinic).reasons), result(clinic).reasons
    order = acts(clinic)
    assert order[-2:] == ["fence db1", "confirm db1"]
    assert not clinic.pair.members[HOME].primary
    assert drill(clinic, DrillMode.RETURN).ok
    assert is_home(clinic)


BEFORE: Mapping[str, Exception] = {
    "the secret store does not answer": SILENT,
    "somebody cancels": Cancelled("The look was stopped."),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_is_raised_before_anything_was_broken_leaves_all_as_it_was(clinic: Drills, case: str) -> None:
    report = drilled(clinic, "slow", blind("", BEFORE[case]))
    assert not report.ok
    assert clinic.results.kept == {}
    assert acts(clinic) == []
    assert clinic.pair.damage.broken == {}
