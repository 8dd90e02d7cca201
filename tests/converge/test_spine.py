"""What a run stands on may give way at any moment: the ledger, the lease, the evidence. What landed is told, and
nothing new begins."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.converge.run import Granted, Tenure, perform, take_up
from ismgr_automation.core.errors import Cancelled, EngineFailed, ExitCode, InputError, LeaseLost, Unreachable
from ismgr_automation.core.events import RunClosed
from ismgr_automation.core.json import JsonObject
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.memory import (
    Boundary,
    Death,
    InlineSequencer,
    Killed,
    MemorySignatures,
    MemoryStepJournal,
)
from ismgr_automation.ports.runs import Round, RunState, StepRecord, Unit
from ismgr_automation.ports.sequencer import Sequencer, Work
from tests.rehearsal import Rehearsal

AWAY = Unreachable("No answer.", engine="database", subject="ledger", cause="timeout", next_step="Wait for it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyJournal(MemoryStepJournal):
    """A journal that is away from a moment on."""

    away: threading.Event = field(default_factory=threading.Event)

    def _ask(self) -> None:
        if self.away.is_set():
            raise AWAY

    def open_round(self, run: str, round_: Round) -> None:
        self._ask()
        MemoryStepJournal.open_round(self, run, round_)

    def rounds(self, run: str) -> tuple[Round, ...]:
        self._ask()
        return MemoryStepJournal.rounds(self, run)

    def started(self, unit: Unit, executor: str, token: int) -> None:
        self._ask()
        MemoryStepJournal.started(self, unit, executor, token)

    def finished(self, unit: Unit, token: int, outcome: JsonObject, post_state: str = "") -> None:
        self._ask()
        MemoryStepJournal.finished(self, unit, token, outcome, post_state)

    def steps(self, run: str) -> tuple[StepRecord, ...]:
        self._ask()
        return MemoryStepJournal.steps(self, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingJournal(MemoryStepJournal):
    """A journal that remembers how often somebody read all rounds of a run."""

    reads: list[str] = field(default_factory=list)

    def rounds(self, run: str) -> tuple[Round, ...]:
        self.reads.append(run)
        return MemoryStepJournal.rounds(self, run)


def flaky(site: Rehearsal, when: str) -> FlakyJournal:
    """A journal that goes away at the first such call of an engine."""
    journal = FlakyJournal(ledger=site.runs)
    site._journal = journal
    site.world.watch.append(lambda call: journal.away.set() if call == when else None)
    return journal


def kinds(site: Rehearsal) -> list[str]:
    """What the evidence tells of, in order."""
    return [str(json.loads(line)["kind"]) for _, line in site.evidence.lines]


def losing(site: Rehearsal, when: str) -> Callable[[], str]:
    """A lease that is lost at the first such call of an engine, and nobody has noticed yet."""
    gone = threading.Event()
    site.world.watch.append(lambda call: gone.set() if call == when else None)
    return lambda: "the lease was lost: its time was over" if gone.is_set() else ""


def under(site: Rehearsal, lost: Callable[[], str]) -> Report:
    """Apply a plan of everything under a lease that may be lost."""
    plan, scope = site.plan(), site.scope()
    with site.tenure(scope) as tenure:
        return perform(plan, scope, Tenure(lease=tenure.lease, lost=lost), Granted())


@pytest.mark.parametrize("call", ["up dc1-servers", "run databases", "verify db1.dc1", "record databases", "up names"])
def test_a_journal_that_goes_away_in_the_middle_hides_nothing_that_landed(site: Rehearsal, call: str) -> None:
    plan = site.plan()
    flaky(site, call)
    report = site.apply(plan)
    begun = {one.split()[1] for one in site.world.effects()}
    told = {one.address.name for one in report.outcomes if one.fate is not Fate.NOT_STARTED}
    assert begun <= told
    assert "No answer." in report.stopped
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_what_a_round_does_is_read_once_however_many_units_it_has(site: Rehearsal) -> None:
    journal = CountingJournal(ledger=site.runs)
    site._journal = journal
    report = site.apply(site.plan())
    assert report.ok
    assert len(report.outcomes) > report.rounds
    # once by whoever carries the run on, to see what was opened before
    assert len(journal.reads) == 1 + report.rounds


@pytest.mark.parametrize("call", ["up dc1-servers", "run databases", "up names"])
def test_a_run_whose_journal_was_away_for_a_while_goes_on_to_its_end(site: Rehearsal, call: str) -> None:
    plan = site.plan()
    journal = flaky(site, call)
    first = site.apply(plan)
    journal.away.clear()
    site.world.watch.clear()
    if site.runs.run(first.run).state is RunState.RUNNING:
        assert site.resume().ok
    else:
        assert site.apply(site.plan()).ok
    assert site.plan().empty


@pytest.mark.parametrize(
    ("call", "effects"),
    [
        ("record dc2-servers", ["up dc1-servers", "up dc2-servers"]),
        ("record databases", ["up dc1-servers", "up dc2-servers", "run databases", "run databases"]),
    ],
)
def test_nothing_begins_after_the_lease_is_over_though_nobody_has_told_us(
    site: Rehearsal, call: str, effects: list[str]
) -> None:
    report = under(site, losing(site, call))
    assert report.reason == "lease-lost"
    assert sorted(site.world.effects()) == sorted(effects)
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert site.runs.runs()[0].state is RunState.RUNNING
    assert kinds(site)[-1] != "run-closed"


def test_a_lease_that_is_lost_before_the_run_begins_refuses_it(site: Rehearsal) -> None:
    with pytest.raises(LeaseLost, match="the lease was lost"):
        under(site, lambda: "the lease was lost: its time was over")
    assert site.runs.runs() == ()
    assert site.world.effects() == []
    assert kinds(site) == []


def test_a_lease_that_is_lost_before_a_run_is_taken_up_leaves_the_run_alone(site: Rehearsal) -> None:
    left = died_at(site, Boundary.BEFORE_FINISHED)
    scope = site.scope()
    known = site.runs.run(left)
    before = site.world.effects()
    with site.tenure(scope) as tenure, pytest.raises(LeaseLost):
        take_up(read(known.plan, "run"), known, scope, Tenure(lease=tenure.lease, lost=lambda: "lost"))
    assert site.runs.run(left).token == known.token
    assert site.world.effects() == before


def test_a_lease_that_is_lost_before_any_effect_of_a_run_is_a_refusal(site: Rehearsal) -> None:
    asked = iter([""])
    report = under(site, lambda: next(asked, "the lease was lost: its time was over"))
    assert site.world.effects() == []
    assert (report.reason, report.exit_code) == ("lease-lost", ExitCode.REFUSED)


def died_at(site: Rehearsal, boundary: Boundary, nth: int = 1) -> str:
    """The run of a process that died there."""
    plan = site.plan()
    site.death = Death(nth=nth, only=boundary)
    with pytest.raises(Killed):
        site.apply(plan)
    return site.let_go().id


def test_who_cancels_while_the_world_is_looked_at_uses_no_approval_up(site: Rehearsal) -> None:
    with site.open() as estate:
        plan = estate.plan()
        site.world.watch.append(lambda _call: estate.cancelled.set())
        with pytest.raises(Cancelled):
            estate.apply(plan)
    assert site.runs.runs() == ()
    assert site.world.effects() == []


def test_a_run_of_another_environment_is_not_resumed_here(site: Rehearsal) -> None:
    left = died_at(site, Boundary.BEFORE_FINISHED)
    before = site.world.effects()
    with site.open() as estate:
        estate._environment = "other"
        with pytest.raises(InputError, match="environment lab, not other"):
            estate.resume(left)
    assert site.world.effects() == before
    assert site.runs.run(left).state is RunState.RUNNING


def test_a_sequencer_that_falls_over_at_its_end_hides_nothing_that_landed(site: Rehearsal) -> None:
    @contextmanager
    def sequencing(work: Work) -> Iterator[Sequencer]:
        yield InlineSequencer(work)
        raise EngineFailed("It would not end.", engine="steps")

    plan, scope = site.plan(), site.scope()
    scope = replace(scope, engines=replace(scope.engines, sequencing=sequencing))
    report = site.apply(plan, scope=scope)
    assert len(report.of(Fate.LANDED)) == 7
    assert any("It would not end." in one for one in report.warnings)


def test_a_sequencer_that_does_not_begin_lets_others_write_evidence(site: Rehearsal) -> None:
    @contextmanager
    def sequencing(_work: Work) -> Iterator[Sequencer]:
        raise EngineFailed("It would not begin.", engine="steps")
        yield

    plan, scope = site.plan(), site.scope()
    with pytest.raises(EngineFailed, match="would not begin"):
        site.apply(plan, scope=replace(scope, engines=replace(scope.engines, sequencing=sequencing)))
    assert site.world.effects() == []
    site.let_go()
    assert site.resume().ok


def test_a_destroy_that_dies_twice_behind_one_effect_goes_on(running: Rehearsal) -> None:
    plan = running.plan_destroy()
    running.death = Death(nth=1, only=Boundary.BEFORE_FINISHED)
    with pytest.raises(Killed):
        running.destroy(plan)
    running.let_go()
    with pytest.raises(Killed):
        running.resume(death=Death(nth=1, only=Boundary.AFTER_FINISHED))
    left = running.let_go()
    with running.open() as estate:
        assert estate.resume(left.id).ok
    assert not any(running.world.actual.values())


def test_what_a_failed_stack_left_of_its_state_does_not_stand_in_the_way_of_a_resume(site: Rehearsal) -> None:
    site.edit("estate.yaml", "lab: {passphrase", 'lab: {failure_budget: "50%", passphrase')

    def half(call: str) -> None:
        if call == "up dc2-servers":
            site.world.state["dc2-servers"] = {"db1.dc2": {"power": "half"}}
            raise EngineFailed("The engine fell over.", engine="pulumi")

    plan = site.plan()
    site.world.watch.append(half)
    site.death = Death(nth=2, only=Boundary.AFTER_FINISHED)
    with pytest.raises(Killed):
        site.apply(plan)
    left = site.let_go()
    site.world.watch.clear()
    with site.open() as estate:
        report = estate.resume(left.id)
    assert {one.key: one.fate for one in report.outcomes}["stack/dc2-servers"] is Fate.FAILED


def test_evidence_that_cannot_be_written_begins_nothing_and_lets_others_write(site: Rehearsal) -> None:
    plan = site.plan()
    site.evidence.full = True
    with pytest.raises(EngineFailed, match="there is no room"):
        site.apply(plan)
    assert site.world.effects() == []
    assert site.evidence.closes == 1
    assert site.runs.runs()[0].state is RunState.STOPPED


def test_evidence_that_cannot_be_written_at_a_resume_begins_nothing_and_lets_others_write(site: Rehearsal) -> None:
    left = died_at(site, Boundary.BEFORE_FINISHED)
    before, closes = site.world.effects(), site.evidence.closes
    site.evidence.full = True
    with pytest.raises(EngineFailed, match="there is no room"):
        site.resume()
    assert site.world.effects() == before
    assert site.evidence.closes == closes + 1
    assert site.runs.run(left).state is RunState.RUNNING


@pytest.mark.parametrize("call", ["up dc1-servers", "run databases", "verify db1.dc1", "record databases"])
def test_evidence_that_runs_out_of_room_in_the_middle_stops_before_the_next_effect(site: Rehearsal, call: str) -> None:
    def fill(now: str) -> None:
        site.evidence.full = site.evidence.full or now == call

    site.world.watch.append(fill)
    report = site.apply(site.plan())
    assert "there is no room" in report.stopped
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    intended = {json.loads(line)["body"]["key"] for _, line in site.evidence.lines if b'"intent"' in line}
    assert {one.key for one in report.outcomes if one.fate is not Fate.NOT_STARTED} <= intended


def _no_ledger() -> None:
    raise AWAY


@pytest.mark.parametrize(("full", "words"), [(True, "there is no room"), (False, "No answer.")])
def test_a_run_whose_end_cannot_be_written_is_open_and_says_how_to_close_it(
    site: Rehearsal, words: str, *, full: bool
) -> None:
    def fill(call: str) -> None:
        site.evidence.full = full and (site.evidence.full or call == "record names")

    site.world.watch.append(fill)
    site.death = Death(nth=0 if full else 1, only=Boundary.BEFORE_CLOSE, act=_no_ledger)
    report = site.apply()
    assert [one.fate for one in report.outcomes] == [Fate.LANDED] * 7
    assert f"the run is still open, `ismgr resume {report.run}` closes it" in report.stopped
    assert words in report.stopped
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert not [one for one in site.events if isinstance(one, RunClosed)]
    assert site.runs.run(report.run).state is RunState.RUNNING
    site.world.watch.clear()
    site.evidence.full = False
    before = site.world.effects()
    assert site.resume().ok
    assert site.world.effects() == before
    assert site.runs.run(report.run).state is RunState.DONE


@pytest.mark.parametrize("boundary", [Boundary.BEFORE_CLOSE, Boundary.AFTER_CLOSE])
@pytest.mark.parametrize("broken", [True, False])
def test_who_dies_between_the_ends_of_evidence_and_of_run_leaves_evidence_whole(
    site: Rehearsal, boundary: Boundary, *, broken: bool
) -> None:
    if broken:
        site.world.breaks["db1.dc1", "tune"] = "no"
    died_at(site, boundary)
    site.world.breaks.clear()
    before = site.world.effects()
    if site.runs.runs()[0].state is RunState.RUNNING:
        site.resume()
    ended = site.runs.runs()[0]
    assert ended.state is (RunState.STOPPED if broken else RunState.DONE)
    assert ended.report is not None
    assert site.world.effects() == before
    found = verify([line for _, line in site.evidence.lines], Claims(environment="lab"), MemorySignatures())
    assert found.problems == ()


def test_who_is_stopped_because_the_lease_was_lost_is_not_told_that_somebody_cancelled(site: Rehearsal) -> None:
    with site.open() as estate, estate.hold() as held:

        def lose(_call: str) -> None:
            held._kept.why = "somebody broke it"
            held._kept.lost.set()
            estate.cancelled.set()
            raise Cancelled("Stopped.")

        site.world.watch.append(lose)
        with pytest.raises(LeaseLost, match="somebody broke it") as lost:
            held.plan()
    assert lost.value.exit_code is ExitCode.REFUSED
    assert site.world.effects() == []


def test_what_dead_processes_spent_of_the_budget_stays_spent(site: Rehearsal) -> None:
    site.edit("estate.yaml", "lab: {passphrase", "lab: {failure_budget: 1, passphrase")
    site.edit("groups.yaml", 'waves: [1, "100%"]', "waves: [1]")
    site.settle()
    for name in ("db1.dc1", "db1.dc2"):
        site.world.values[name]["install"] = "0"
        site.world.breaks[name, "install"] = "no"
    left = died_at(site, Boundary.AFTER_FINISHED)
    report = site.resume()
    assert report.run == left
    assert [one.fate for one in report.outcomes] == [Fate.FAILED, Fate.FAILED]
    assert "db1.dc2" in report.stopped
    assert site.runs.run(left).state is RunState.STOPPED


def test_a_run_that_stopped_says_where_the_plan_of_what_is_left_is(site: Rehearsal) -> None:
    site.world.breaks["edge1.dc1", "install"] = "no"
    report = site.apply()
    site.let_go()
    with site.open() as estate, pytest.raises(InputError, match="has ended: it is stopped") as ended:
        estate.resume(report.run)
    assert f"ismgr runs show {report.run} --rest" in ended.value.next_step


def test_a_run_that_was_cancelled_is_closed_as_such_and_not_resumed(site: Rehearsal) -> None:
    plan, scope = site.plan(), site.scope()
    site.world.watch.append(lambda call: scope.context.cancelled.set() if call == "run databases" else None)
    report = site.apply(plan, scope=scope)
    assert (report.exit_code, site.runs.run(report.run).state) == (ExitCode.CANCELLED, RunState.CANCELLED)
    assert kinds(site)[-2:] == ["cancelled", "run-closed"]
    assert site.world.effects().count("run databases") == 1
    site.let_go()
    with site.open() as estate, pytest.raises(InputError, match="has ended: it is cancelled"):
        estate.resume(report.run)
