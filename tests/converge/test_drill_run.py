"""Drills from their plan to their result: what is done in which order, what is measured, what is refused, and what
becomes of a service when something goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.core.errors import EngineFailed, ExitCode, IsmgrError, NotApproved, OutsideWindow, StalePlan
from ismgr_automation.core.events import DrillMeasured, StepReported
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.memory import MemoryWorldProbe
from ismgr_automation.recovery.result import Verdict
from tests.drills import (
    AWAY,
    BY_NETWORK,
    HOME,
    Drills,
    acts,
    arrive,
    drill,
    drills,
    entries,
    exactly,
    is_home,
    is_safe,
    plan,
)
from tests.drills import result as measured

SWITCHOVER, FAILOVER, RETURN = DrillMode.SWITCHOVER, DrillMode.FAILOVER, DrillMode.RETURN
FAILED = EngineFailed("The engine fell over.", engine="postgresql", next_step="Look at it.")
BACK = ["demote db2", "promote db1", "backend db1", "rejoin db2"]
PASSED = {"fault": Verdict.PASSED, "recovery": Verdict.PASSED, "cleanup": Verdict.PASSED}


@pytest.fixture
def clinic(tmp_path: Path) -> Drills:
    """No write is lost: each is on both sides before it is acknowledged."""
    site = drills(tmp_path)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    return site


THERE = {
    SWITCHOVER: ["demote db1", "promote db2", "backend db2", "rejoin db1"],
    FAILOVER: ["fence db1", "confirm db1", "promote db2", "backend db2", "unfence db1", "rejoin db1"],
}


@pytest.mark.parametrize("mode", [SWITCHOVER, FAILOVER])
def test_a_drill_goes_there_and_back_in_its_order_and_passes(clinic: Drills, mode: DrillMode) -> None:
    report = drill(clinic, mode)
    assert (report.ok, report.exit_code) == (True, ExitCode.DONE), report.stopped
    assert acts(clinic) == [*THERE[mode], *BACK]
    assert is_home(clinic)
    assert is_safe(clinic)
    found = measured(clinic)
    assert (found.verdict, dict(found.verdicts), found.reasons, found.left) == (Verdict.PASSED, PASSED, (), ())
    assert report.outcomes[0].changed == len(plan(clinic, mode).changes[0].steps)
    assert report.outcomes[0].applied == plan(clinic, mode).changes[0].steps


@pytest.mark.parametrize("mode", [SWITCHOVER, FAILOVER])
def test_what_a_client_waited_for_is_cut_by_the_steps_and_adds_up(clinic: Drills, mode: DrillMode) -> None:
    drill(clinic, mode)
    there, back = measured(clinic).outages
    took = {one.name: one.took_ms for one in there.waterfall}
    expected = {"demote": 25, "promote": 20} if mode is SWITCHOVER else {"fence": 30, "confirm": 5, "promote": 20}
    assert {name: took[name] for name in expected} == expected
    for one in (there, back):
        assert sum(span.took_ms for span in one.waterfall) == pytest.approx(one.outage_ms)
        assert (one.unaccounted_ms, one.interruptions, one.resolution_ms) == (0, 1, 5)
    assert measured(clinic).without_redundancy_s == pytest.approx(0.9, abs=0.02)


def test_writes_that_had_not_arrived_are_counted_exactly(clinic: Drills) -> None:
    clinic.pair.each_tick.pop()
    clinic.pair.lag = 40
    planned = plan(clinic)
    assert clinic.apply(planned).ok
    found = measured(clinic)
    assert found.writes is not None
    # what a member took and no other has: found in the world, not by the drill
    lost = {one.number for one in clinic.pair.entries} - {one.number for one in clinic.pair.members[HOME].log}
    assert found.writes.lost == len(lost) > 1
    assert found.verdict is Verdict.FAILED
    assert found.reasons[0].startswith(f"recovery: {len(lost)} acknowledged writes")
    before = next(one for one in found.readings if one.at == "failover")
    assert {one.host: one.lag_bytes for one in before.standings}[AWAY] > 1


def test_a_missed_objective_is_no_failed_change(clinic: Drills) -> None:
    clinic.edit("service.yaml", "rto: 200ms", "rto: 40ms")
    assert drill(clinic).ok
    found = measured(clinic)
    assert (found.verdict, dict(found.verdicts)) == (Verdict.FAILED, {**PASSED, "recovery": Verdict.FAILED})
    assert found.reasons == (
        "recovery: clients waited 56 ms ± 5 ms in failover, and 0.04 s is the RTO",
        "recovery: clients waited 46 ms ± 5 ms in failback, and 0.04 s is the RTO",
    )


def test_a_drill_is_told_kept_and_reported(clinic: Drills) -> None:
    report = drill(clinic)
    (told,) = [one for one in clinic.events if isinstance(one, DrillMeasured)]
    assert (told.run, told.verdict, told.outage_ms, told.lost) == (report.run, "passed", 56.0, 0)
    assert clinic.results.result(report.run)["format"] == "ismgr.drill/1"
    steps = [one.step for one in clinic.events if isinstance(one, StepReported)]
    assert steps[:2] == ["steady", "failover: fence"]
    assert measured(clinic).digest == plan(clinic).changes[0].inputs


def test_a_plan_says_every_step_and_how_long_clients_may_wait(clinic: Drills) -> None:
    planned = plan(clinic)
    assert [f"{one.what} @ {one.target}" for one in planned.changes[0].steps][:5] == [
        "failover: fence @ db1", "failover: promote @ db2", "failover: balancers @ group/edges",
        "reprotect: out @ db1", "reprotect: join @ db1",
    ]  # fmt: skip
    words = "failover: clients wait 8 s at most (fence → promote → balancers)"
    assert words in [one.summary for one in planned.findings]
    assert planned.digest == plan(clinic).digest
    assert planned.digest != plan(clinic, SWITCHOVER).digest


def test_nothing_is_done_by_planning(clinic: Drills) -> None:
    plan(clinic)
    assert {one.split()[0] for one in clinic.pair.calls} == {"look"}


def test_a_plan_whose_document_has_changed_is_stale(clinic: Drills) -> None:
    planned = plan(clinic)
    clinic.edit("recovery.yaml", "deadline: 2s", "deadline: 3s")
    with pytest.raises(StalePlan):
        exactly(clinic, planned)
    assert acts(clinic) == []
    assert exactly(clinic, plan(clinic)).ok


REFUSED: dict[str, tuple[Callable[[Drills], object], str]] = {
    "away has the role": (
        lambda site: [site.pair.kill(HOME), site.pair.promote(AWAY)], "db2 has the primary role, and not db1 alone"
    ),
    "nobody has it": (lambda site: site.pair.kill(HOME), "nobody has the primary role, and not db1 alone"),
    "the standby is down": (lambda site: site.pair.kill(AWAY), "db2 does not stream from db1: down"),
    "it does not stream": (
        lambda site: site.pair.part([HOME], [AWAY]), "db2 does not stream from db1: standby"
    ),
    "it is far behind": (
        lambda site: [site.pair.each_tick.pop(), setattr(site.pair, "lag", 200), site.pair.advance(100)],
        "db2 is 101 bytes behind, and 50 are allowed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_stands_against_a_drill_is_said_before_anything(clinic: Drills, case: str) -> None:
    spoil, words = REFUSED[case]
    planned = plan(clinic)
    spoil(clinic)
    found = plan(clinic)
    assert found.errored
    assert found.findings[0].summary == words
    with pytest.raises(IsmgrError) as refused:
        exactly(clinic, planned)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert acts(clinic) == []


WINDOW = """\
kind: MaintenanceWindow
name: sundays
time_zone: UTC
start: 2026-01-04T01:00:00
rule: FREQ=WEEKLY;BYDAY=SU
duration: 4h
"""
FREEZE = """\
kind: Freeze
name: audit
reason: auditors are here
owner: platform
begins: 2000-01-01T00:00:00+00:00
ends: 2100-01-01T00:00:00+00:00
work: [WORK]
"""
SUNDAY, MONDAY = datetime(2026, 3, 1, 2, tzinfo=UTC), datetime(2026, 3, 2, 2, tzinfo=UTC)


def test_a_window_that_is_not_open_holds_a_drill_up(clinic: Drills) -> None:
    clinic.files["window.yaml"] = WINDOW
    clinic.files["recovery.yaml"] += "windows: [sundays]\n"

    def held_up(now: datetime) -> bool:
        return any("window/sundays" in f"{one.summary} {one.next_step}" for one in plan(clinic, now=now).findings)

    assert (held_up(MONDAY), held_up(SUNDAY)) == (True, False)


@pytest.mark.parametrize("work", ["drill", "patch"])
def test_a_freeze_of_drills_holds_one_up_and_an_urgent_one_passes(clinic: Drills, work: str) -> None:
    clinic.files["freeze.yaml"] = FREEZE.replace("WORK", work)
    if work == "patch":
        assert exactly(clinic, plan(clinic)).ok
        return
    with pytest.raises(OutsideWindow):
        exactly(clinic, plan(clinic))
    assert acts(clinic) == []
    with pytest.raises(NotApproved, match="does not say who may allow"):
        exactly(clinic, plan(clinic, urgent="the auditors want to see it"))


def test_suites_that_fail_before_keep_a_drill_from_beginning(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", "ready: {lag: 50}", "ready: {lag: 50, verify: [webs]}")
    clinic.world.unhealthy.add("web1")
    report = drill(clinic)
    assert "nothing was begun: 1 checks of group/webs did not pass before" in report.stopped
    check_nothing_was_begun(clinic, report)


def test_a_service_that_is_not_steady_proves_nothing_and_is_not_touched(clinic: Drills) -> None:
    turn = iter(range(10**9))
    clinic.pair.each_tick.insert(0, lambda: setattr(clinic.pair.members[HOME], "readonly", next(turn) % 100 == 99))
    report = drill(clinic)
    assert "nothing was begun: write " in report.stopped
    check_nothing_was_begun(clinic, report)


def check_nothing_was_begun(site: Drills, report: Report) -> None:
    assert acts(site) == []
    found = measured(site)
    assert dict(found.verdicts) == {"fault": Verdict.INVALID, "recovery": Verdict.SKIPPED, "cleanup": Verdict.PASSED}
    assert found.verdict is Verdict.INVALID
    assert (report.effect, report.ok) == (False, False)


def test_a_client_that_gets_no_write_through_keeps_a_drill_from_beginning(clinic: Drills) -> None:
    planned = plan(clinic)
    clinic.pair.part(["lb1", "lb2"], [HOME])
    report = clinic.apply(planned)
    assert report.exit_code is ExitCode.ENGINE
    assert "No write of the probe was acknowledged." in report.stopped
    assert acts(clinic) == []


def at(site: Drills, call: str, then: Callable[[], object]) -> None:
    """Do something when a call is made."""
    site.pair.watch.append(lambda now: then() if now == call else None)


def test_a_leg_that_nobody_began_is_made_ready_again_where_somebody_did_not_answer(clinic: Drills) -> None:
    clinic.pair.dead_bmcs.add(HOME)
    asked: list[str] = []

    def answers_the_second_time(call: str) -> None:
        if call == "stage fence db1":
            asked.append(call)
            if len(asked) == 2:
                clinic.pair.dead_bmcs.clear()

    clinic.pair.watch.append(answers_the_second_time)
    report = drill(clinic)
    assert report.ok, report.stopped
    assert len(asked) >= 2


GIVEN_BACK = "db1 has the primary role"
BROKEN: dict[str, tuple[Callable[[Drills], object], str, dict[str, Verdict]]] = {
    "a dead BMC": (
        lambda site: site.pair.dead_bmcs.add(HOME),
        "failover was not begun: fence: the BMC of db1 does not answer",
        {"recovery": Verdict.FAILED},
    ),
    "a BMC that dies": (
        lambda site: at(site, "fence db1", lambda: site.pair.dead_bmcs.add(HOME)),
        f"failover: fence: the BMC of db1 does not answer; {GIVEN_BACK}",
        {"recovery": Verdict.FAILED},
    ),
    "a witness that is gone": (
        lambda site: at(site, "fence db1", lambda: site.pair.unmanaged.add(AWAY)),
        "nobody-followed: db2 is unknown, and may have been promoted",
        {"fault": Verdict.INVALID, "recovery": Verdict.INVALID, "cleanup": Verdict.FAILED},
    ),
    "a standby that was cut off meanwhile": (
        lambda site: at(site, "stage promote db2", lambda: site.pair.part([HOME], [AWAY])),
        "the rule caught-up says no: db2 did not stream from db1 when this began; " + GIVEN_BACK,
        {"recovery": Verdict.FAILED, "cleanup": Verdict.FAILED},
    ),
    "a promotion that fails": (
        lambda site: site.pair.faults.update({"promote db2": FAILED}),
        f"failover: promote: The engine fell over.; {GIVEN_BACK}",
        {"recovery": Verdict.FAILED},
    ),
    "a promotion with a bug": (
        lambda site: site.pair.faults.update({"promote db2": KeyError("a bug")}),
        f"failover: promote: a bug in ismgr, please report it: KeyError('a bug'); {GIVEN_BACK}",
        {"recovery": Verdict.FAILED},
    ),
    "balancers that are gone": (
        lambda site: at(site, "promote db2", lambda: site.pair.unmanaged.update({"lb1", "lb2"})),
        "was not given back to db1, by the rule nobody-followed: db2 is primary, and may have been promoted",
        {"recovery": Verdict.FAILED, "cleanup": Verdict.FAILED},
    ),
    "checks that fail afterwards": (
        lambda site: at(site, "rejoin db1", lambda: site.world.unhealthy.add("web1")),
        "after: suites: 1 of 2 checks did not pass, first ",
        {"recovery": Verdict.FAILED, "cleanup": Verdict.FAILED},
    ),
    "a rejoin that fails": (
        lambda site: site.pair.faults.update({"rejoin db1": FAILED}),
        "reprotect: join: The engine fell over.",
        {"recovery": Verdict.FAILED, "cleanup": Verdict.FAILED},
    ),
    "a rejoin at home that fails": (
        lambda site: site.pair.faults.update({"rejoin db2": FAILED}),
        "reprotect-home: join: The engine fell over.",
        {"recovery": Verdict.FAILED, "cleanup": Verdict.FAILED},
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_drill_that_breaks_says_where_and_leaves_one_primary_at_most(clinic: Drills, case: str) -> None:
    spoil, words, verdicts = BROKEN[case]
    planned = plan(clinic)
    spoil(clinic)
    report = clinic.apply(planned)
    assert words in report.stopped
    assert is_safe(clinic)
    found = measured(clinic)
    assert {name: one for name, one in found.verdicts.items() if one is not Verdict.PASSED} == verdicts, found.reasons
    assert found.verdict in {Verdict.FAILED, Verdict.INVALID}
    if GIVEN_BACK in words:
        assert clinic.pair.writable() == (HOME,)
        assert clinic.pair.write().number in clinic.pair.held()
        # a standby that was seen to stream at the end tells for how long nobody was sure of one
        alone = found.without_redundancy_s
        assert (alone is None) is ("cleanup" in verdicts)
        assert alone is None or alone > 0


@pytest.mark.parametrize("mode", [SWITCHOVER, FAILOVER])
def test_a_promotion_that_lands_late_makes_no_second_primary(clinic: Drills, mode: DrillMode) -> None:
    clinic.pair.members[AWAY].sluggish = 30
    report = drill(clinic, mode)
    assert "promote: db2 does not answer in time" in report.stopped
    assert GIVEN_BACK in report.stopped
    assert acts(clinic)[-2:] == ["unfence db1" if mode is FAILOVER else "hold db2", "reinstate db1"]
    assert "hold db2" in acts(clinic)
    clinic.pair.advance(100)
    assert clinic.pair.promoted == []
    assert clinic.pair.writable() == (HOME,)
    assert is_safe(clinic)


def test_a_promotion_that_was_faster_than_its_bar_keeps_the_old_side_down(clinic: Drills) -> None:
    clinic.pair.members[AWAY].sluggish = 3
    at(clinic, "stage hold db2", lambda: clinic.pair.advance(5))
    report = drill(clinic)
    assert "by the rule nobody-followed: db2 is primary, and may have been promoted" in report.stopped
    assert clinic.pair.writable() == (AWAY,)
    assert is_safe(clinic)


def test_a_standby_that_cannot_be_held_keeps_the_old_side_down(clinic: Drills) -> None:
    clinic.pair.members[AWAY].sluggish = 100_000
    clinic.pair.faults["hold db2"] = FAILED
    report = drill(clinic)
    assert "The engine fell over." in report.stopped
    assert clinic.pair.writable() == ()
    clinic.pair.faults.clear()
    back = plan(clinic, RETURN)
    assert back.changes[0].steps[0].what == "give-back: db1"
    clinic.pair.calls.clear()
    clinic.apply(back)
    assert acts(clinic)[:3] == ["hold db2", "unfence db1", "reinstate db1"]
    clinic.pair.advance(100_000)
    assert clinic.pair.writable() == (HOME,)
    assert is_safe(clinic)


@pytest.mark.parametrize("case", [one for one in BROKEN if one != "a dead BMC"])
def test_a_service_is_brought_home_after_a_drill_that_broke(clinic: Drills, case: str) -> None:
    planned = plan(clinic)
    BROKEN[case][0](clinic)
    clinic.apply(planned)
    clinic.pair.heal()
    clinic.pair.watch.clear()
    for one in (clinic.pair.faults, clinic.pair.dead_bmcs, clinic.pair.unmanaged, clinic.world.unhealthy):
        one.clear()
    clinic.pair.advance(5)
    back = plan(clinic, RETURN)
    assert not back.errored, back.findings
    if not back.empty:
        assert exactly(clinic, back).ok
        assert measured(clinic).verdicts["cleanup"] is Verdict.PASSED
    assert is_home(clinic)
    assert is_safe(clinic)


@pytest.mark.parametrize("network", [False, True])
def test_a_fence_that_lies_is_found_out_and_nobody_is_promoted(clinic: Drills, network: bool) -> None:
    if network:
        clinic.edit("recovery.yaml", *BY_NETWORK)
    clinic.pair.liars.add(HOME)
    report = drill(clinic)
    assert "can connect" in report.stopped
    assert clinic.pair.promoted == []
    found = measured(clinic)
    assert (found.verdict, found.verdicts["fault"]) == (Verdict.INVALID, Verdict.INVALID)
    assert found.reasons[0].startswith("fault: the old side was not lost: ")
    assert clinic.pair.writable() == (HOME,)


def test_a_primary_behind_a_network_fence_is_stopped_before_it_is_let_out(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", *BY_NETWORK)
    assert drill(clinic).ok
    away = ["fence db1", "confirm db1", "promote db2", "backend db2"]
    assert acts(clinic) == [*away, "retire db1", "unfence db1", "rejoin db1", *BACK]
    assert measured(clinic).verdict is Verdict.PASSED
    assert is_safe(clinic)


def test_a_network_fence_is_lifted_when_nobody_was_promoted(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", *BY_NETWORK)
    clinic.pair.faults["promote db2"] = FAILED
    report = drill(clinic)
    assert GIVEN_BACK in report.stopped
    assert clinic.pair.writable() == (HOME,)
    assert measured(clinic).left == ()


def test_a_planned_move_that_breaks_after_the_stop_is_taken_back(clinic: Drills) -> None:
    clinic.pair.faults["promote db2"] = FAILED
    report = drill(clinic, SWITCHOVER)
    assert report.stopped.endswith(f"switchover: promote: The engine fell over.; {GIVEN_BACK}")
    assert acts(clinic) == ["demote db1", "promote db2", "hold db2", "reinstate db1"]
    assert is_home(clinic)


def test_one_balancer_that_is_missed_is_no_obstacle_and_is_not_forgotten(clinic: Drills) -> None:
    at(clinic, "fence db1", lambda: clinic.pair.unmanaged.add("lb2"))
    report = drill(clinic)
    assert acts(clinic)[-1] == "rejoin db2"
    found = measured(clinic)
    assert dict(found.verdicts) == {**PASSED, "cleanup": Verdict.FAILED}
    assert found.left == ("balancers does not lead to db1 everywhere: 1 of 2 balancers can be reached",)
    assert "balancers does not lead to db1" in report.stopped


def test_a_power_fence_without_a_machine_is_refused(clinic: Drills) -> None:
    clinic.edit("sites.yaml", "- name: db1\n", "- name: other\n")
    report = drill(clinic)
    assert "The power of db1 cannot be cut: nobody knows on which machine of a Site it runs." in report.stopped
    assert acts(clinic) == []


@pytest.mark.parametrize("leg", ["reprotect", "failback"])
def test_a_drill_stops_between_its_legs_and_a_return_brings_it_home(clinic: Drills, leg: str) -> None:
    scope = clinic.scope()
    last = {"reprotect": "backend db2 done", "failback": "rejoin db1 done"}[leg]
    at(clinic, last, scope.context.cancelled.set)
    report = drill(clinic, scope=scope)
    assert report.cancelled
    assert clinic.pair.writable() == (AWAY,)
    assert measured(clinic).verdict is Verdict.ABORTED
    back = plan(clinic, RETURN)
    assert back.changes[0].steps[0].what == "reprotect: out"
    clinic.pair.calls.clear()
    assert exactly(clinic, back).ok
    assert acts(clinic) == [*(["unfence db1", "rejoin db1"] if leg == "reprotect" else []), *BACK]
    assert is_home(clinic)
    assert measured(clinic).verdict is Verdict.PASSED


def test_who_cancels_while_clients_wait_is_heard_when_they_do_not(clinic: Drills) -> None:
    scope = clinic.scope()
    at(clinic, "fence db1", scope.context.cancelled.set)
    assert drill(clinic, scope=scope).cancelled
    assert acts(clinic) == ["fence db1", "confirm db1", "promote db2", "backend db2"]


def test_cancelling_before_anything_was_begun_touches_nothing(clinic: Drills) -> None:
    scope, planned = clinic.scope(), plan(clinic)
    clinic.client = MemoryWorldProbe(world=clinic.pair, look=timedelta())
    clinic.pair.each_tick.append(lambda: scope.context.cancelled.set() if clinic.pair.tick > 50 else None)
    report = clinic.apply(planned, scope=scope)
    assert (report.cancelled, report.effect) == (True, False)
    assert acts(clinic) == []
    assert measured(clinic).verdict is Verdict.ABORTED


def test_a_return_to_where_all_is_well_is_an_empty_plan(clinic: Drills) -> None:
    assert plan(clinic, RETURN).empty
    assert exactly(clinic, plan(clinic, RETURN)).ok
    assert acts(clinic) == []


def test_what_is_left_of_a_drill_that_broke_is_a_plan_of_its_own(clinic: Drills) -> None:
    clinic.pair.faults["rejoin db1"] = FAILED
    report = drill(clinic)
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert '"return"' in report.rest
    assert report.outcomes[0].fate is Fate.FAILED


def test_both_ends_of_each_step_are_in_the_journal_before_the_next_begins(clinic: Drills) -> None:
    drill(clinic)
    (journal,) = clinic.journals.values()
    order = [f"{one['what']} {one.get('task', one.get('leg', ''))}" for one in journal.entries()]
    steps = ("fence", "promote", "balancers")
    acts = [f"task-{end} {step}" for step in steps for end in ("began", "ended")]
    acts.insert(2, "confirmed fence")
    assert order[:10] == ["began ", "witnesses failover", "leg-began failover", *acts]
    # whoever resumes is told who could connect before the fence stood: then nobody can prove it any more
    assert journal.entries()[1]["milliseconds"] == {"db2": 1.0}
    assert order[-1] == "ended "
    assert [one["ok"] for one in entries(clinic, "leg-ended")] == [True] * 6
