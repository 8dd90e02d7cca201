"""Runs that stop: whatever goes wrong, the report says what landed, what did not, and why; nothing goes on behind."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest

from ismgr_automation.converge import looked
from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Kind
from ismgr_automation.core.errors import (
    Cancelled,
    EngineFailed,
    EngineMissing,
    EngineTimedOut,
    ExitCode,
    InputError,
    Unreachable,
)
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.planning.change import Level
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Desired, InlineSequencer
from ismgr_automation.ports.sequencer import Sequencer, Work
from tests.rehearsal import Rehearsal, host_entry, servers

STACKS = ("stack/dc1-servers", "stack/dc2-servers")
SERVER_ENTRIES = [host_entry(name) for name in ("db1.dc1", "edge1.dc1", "web1.dc1")]
FAILED = EngineFailed("The engine fell over.", engine="pulumi", detail="boom", next_step="Look at it.")


def fates(report: Report) -> dict[str, Fate]:
    return {one.key: one.fate for one in report.outcomes}


def test_a_host_that_dies_in_a_play_stops_later_waves(site: Rehearsal) -> None:
    site.world.dies["db1.dc1", "tune"] = Reach.TIMEOUT
    report = site.apply()
    assert fates(report) == {
        "stack/dc1-servers": Fate.LANDED,
        "stack/dc2-servers": Fate.LANDED,
        "group/databases#1": Fate.FAILED,
        "group/databases#2": Fate.NOT_STARTED,
        "group/webs#1": Fate.NOT_STARTED,
        "group/edges#1": Fate.NOT_STARTED,
        "stack/names": Fate.NOT_STARTED,
    }
    assert report.stopped == "group/databases#1 failed: db1.dc1 unreachable (timeout)"
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert site.world.effects()[-1] == "run databases"


def test_a_failed_task_is_named_with_its_message(site: Rehearsal) -> None:
    site.world.breaks["web1.dc2", "hook"] = "exit code 1"
    report = site.apply()
    assert report.stopped == "group/webs#1 failed: web1.dc2 failed at 'hook': exit code 1"


def test_a_failed_verification_stops_the_run(site: Rehearsal) -> None:
    site.world.unhealthy.add("db1.dc1")
    report = site.apply()
    assert report.stopped == "group/databases#1 failed: 1 of 1 checks did not pass, first is_healthy on db1.dc1"
    assert site.world.effects().count("run databases") == 1
    assert fates(report)["stack/names"] is Fate.NOT_STARTED


def test_a_verifier_that_falls_over_after_a_play_does_not_hide_that_hosts_were_changed(running: Rehearsal) -> None:
    running.world.values["web1.dc1"]["install"] = "0"
    running.world.faults["verify web1.dc1"] = FAILED
    report = running.apply()
    (outcome,) = report.outcomes
    assert (outcome.fate, outcome.changed, outcome.touched) == (Fate.FAILED, 1, True)
    assert "boom" in outcome.summary
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_a_state_that_moved_since_the_plan_fails_before_any_effect(running: Rehearsal) -> None:
    running.world.actual["dc1-servers"]["db1.dc1"] = {"power": "off"}
    plan = running.plan()
    running.world.state["dc1-servers"] = {}
    running.world.calls.clear()
    report = running.apply(plan)
    assert report.outcomes[0].summary == "somebody wrote to its state since it was planned"
    assert running.world.effects() == []
    assert report.exit_code is ExitCode.REFUSED


def test_what_was_looked_at_too_long_ago_is_looked_at_again(
    running: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.world.values["db1.dc1"]["tune"] = "slow"
    plan = running.plan()
    running.world.values["db1.dc1"]["install"] = "16"
    monkeypatch.setattr(looked, "FRESH_NS", 0)
    assert running.apply(plan).reason == "unplanned-change"
    assert running.world.effects() == []


def test_a_state_that_moves_between_waves_stops_before_the_next_change(running: Rehearsal) -> None:
    running.edit("stacks.yaml", "needs: [group/edges]", "needs: [group/edges, dc1-servers]")
    running.world.actual["dc1-servers"]["db1.dc1"] = {"power": "on", "tag": "x"}
    running.world.actual["names"]["www"] = {"to": "elsewhere"}
    plan = running.plan()
    assert plan.waves == (("stack/dc1-servers",), ("stack/names",))

    def meddle(call: str) -> None:
        if call == "up dc1-servers":
            running.world.state["names"] = {}

    running.world.watch.append(meddle)
    report = running.apply(plan)
    assert list(fates(report).values()) == [Fate.LANDED, Fate.FAILED]
    assert running.world.effects() == ["up dc1-servers"]
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def one_at_a_time(site: Rehearsal) -> Scope:
    """Where the second change of a wave begins when the first has ended."""

    def sequencing(work: Work) -> AbstractContextManager[Sequencer]:
        return nullcontext(InlineSequencer(work, workers=1))

    scope = site.scope()
    return replace(scope, engines=replace(scope.engines, sequencing=sequencing))


@pytest.mark.parametrize("verb", ["destroy", "up"])
def test_a_state_that_moves_while_others_of_its_wave_are_worked_on_stops_before_the_change(
    running: Rehearsal, verb: str
) -> None:
    for name, machine in (("dc1-servers", "db1.dc1"), ("dc2-servers", "db1.dc2")):
        running.world.actual[name][machine] = {"power": "off"}
    plan = running.plan(targets=tuple(STACKS)) if verb == "up" else running.plan_destroy()
    assert plan.waves[-1] == STACKS

    def meddle(call: str) -> None:
        if call == f"{verb} dc1-servers":
            running.world.state["dc2-servers"]["theirs"] = {"power": "on"}

    running.world.watch.append(meddle)
    report = running.apply(plan, scope=one_at_a_time(running))
    (late,) = report.of(Fate.FAILED)
    assert (late.key, late.summary) == ("stack/dc2-servers", "somebody wrote to its state since it was planned")
    assert f"{verb} dc2-servers" not in running.world.effects()


def test_a_program_that_asks_for_more_than_was_signed_is_stopped_by_its_update_plan(site: Rehearsal) -> None:
    plan = site.plan()
    site.world.programs["dc2-servers"] = lambda _config, _made: servers("db1.dc2", "web1.dc2", "web2.dc2")
    report = site.apply(plan)
    assert report.stopped == "stack/dc2-servers failed: web2.dc2: create is not in the plan"
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    (late,) = report.of(Fate.FAILED)
    assert late.unplanned == ("web2.dc2: create is not in the plan",)
    rest = read(report.rest, "rest")
    assert [one.key for one in rest.changes if one.address.name == "dc2-servers"] == ["stack/dc2-servers"]


def test_a_fifth_machine_is_outside_the_envelope(site: Rehearsal) -> None:
    plan = site.plan()
    made = servers("db1.dc2", "web1.dc2")
    hosts = [host_entry(name) for name in ("db1.dc2", "web1.dc2", "web2.dc2")]
    site.world.programs["dc2-servers"] = lambda _config, _made: replace(made, outputs={**made.outputs, "hosts": hosts})
    report = site.apply(plan)
    assert report.stopped == "outside the envelope: group/webs has 3 targets; planned were 2 at most"
    assert sorted(site.world.effects()) == ["up dc1-servers", "up dc2-servers"]
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert len(report.waiting) == 4
    rest = read(report.rest, "rest")
    (webs,) = [one for one in rest.changes if one.address.name == "webs"]
    assert {one.name for one in webs.targets} >= {"web1.dc1", "web1.dc2"}


def test_a_deferred_stack_stops_at_the_number_of_resources_that_was_signed(site: Rehearsal) -> None:
    plan = site.plan()
    (waiting,) = [one for one in plan.deferred if one.address.name == "names"]
    assert waiting.envelope.at_most == 4
    assert not [one for one in plan.findings if one.subject == waiting.address]
    five = {f"www{number}": {"to": "192.0.2.20"} for number in range(5)}
    site.world.programs["names"] = lambda _config, _made: Desired(resources=five)
    report = site.apply(plan)
    assert report.stopped == "outside the envelope: stack/names has 5 targets; planned were 4 at most"
    assert "up names" not in site.world.effects()
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert "stack/names" in [one.key for one in read(report.rest, "rest").changes]


def test_an_envelope_without_a_bound_is_a_warning(site: Rehearsal) -> None:
    site.edit("stacks.yaml", "at_most: 4\n", "")
    (open_ended,) = site.plan().findings
    assert open_ended.subject.name == "names"
    assert open_ended.level is Level.WARN
    assert "`at_most`" in open_ended.next_step


def test_content_that_was_edited_during_the_run_is_outside_the_envelope(site: Rehearsal) -> None:
    plan = site.plan()
    site.versions["playbooks/edge.yml"] = "edited"
    assert site.apply(plan).stopped == "outside the envelope: the content of group/edges is not what was planned"


def test_a_deferred_stack_may_not_delete_what_nobody_saw(site: Rehearsal) -> None:
    site.settle()
    site.world.actual["dc1-servers"].clear()
    site.world.state["dc1-servers"].clear()
    site.world.outputs["dc1-servers"].clear()
    plan = site.plan()
    site.world.programs["names"] = lambda _config, _made: Desired(resources={})
    assert site.apply(plan).stopped.startswith("outside the envelope: stack/names wants to delete; planned was")


@pytest.mark.parametrize(
    ("call", "landed"),
    [("up dc1-servers", 0), ("run databases", 2), ("verify db1.dc1", 2), ("up names", 6)],
)
def test_an_engine_that_fails_ends_the_run_with_a_report(site: Rehearsal, call: str, landed: int) -> None:
    site.world.faults[call] = FAILED
    plan = site.plan()
    report = site.apply(plan)
    assert "The engine fell over. boom Look at it." in report.stopped
    assert len(report.of(Fate.LANDED)) == landed + (1 if call == "up dc1-servers" else 0)
    assert site.world.effects() == site.world.effects()[: landed + 2]


def test_a_stack_engine_that_fails_before_any_effect_says_so(running: Rehearsal) -> None:
    running.world.actual["names"].clear()
    running.world.faults["up names"] = FAILED
    report = running.apply()
    assert not report.outcomes[0].touched
    assert report.exit_code is ExitCode.ENGINE


def test_a_stack_engine_that_fails_after_it_wrote_state_is_partly_applied(running: Rehearsal) -> None:
    running.world.actual["names"].clear()

    def half(call: str) -> None:
        if call == "up names":
            running.world.state["names"] = {"www": {"to": "half"}}
            raise FAILED

    plan = running.plan()
    running.world.watch.append(half)
    assert running.apply(plan).exit_code is ExitCode.PARTLY_APPLIED


@pytest.mark.parametrize("fault", [EngineTimedOut("Too long.", engine="pulumi"), Cancelled("Stopped.")])
def test_what_was_killed_in_the_middle_is_unknown(site: Rehearsal, fault: Exception) -> None:
    site.world.faults["up dc2-servers"] = fault
    report = site.apply()
    assert fates(report)["stack/dc2-servers"] is Fate.UNKNOWN
    assert report.exit_code is ExitCode.PARTLY_APPLIED


@pytest.mark.parametrize(
    "fault",
    [
        InputError("There is no secret env:APP.", next_step="Set it."),
        OSError(28, "No space left on device"),
        KeyError("a bug"),
    ],
)
@pytest.mark.parametrize("call", ["run webs", "state names", "verify web1.dc1,web1.dc2", "record webs"])
def test_no_failure_of_any_kind_loses_what_landed(site: Rehearsal, call: str, fault: Exception) -> None:
    plan = site.plan()

    def late(now: str) -> None:
        if now == call and "run databases" in site.world.calls:
            raise fault

    site.world.watch.append(late)
    report = site.apply(plan)
    assert report.stopped
    assert len(report.of(Fate.LANDED)) >= 3
    assert report.exit_code is ExitCode.PARTLY_APPLIED


@pytest.mark.parametrize("fault", [FAILED, Cancelled("Stopped."), OSError(28, "No space left"), ValueError("a bug")])
def test_a_failure_between_rounds_loses_nothing(site: Rehearsal, fault: Exception) -> None:
    plan = site.plan()

    def late(call: str) -> None:
        if call.startswith("probe") and "up dc1-servers" in site.world.calls:
            raise fault

    site.world.watch.append(late)
    report = site.apply(plan)
    assert len(report.of(Fate.LANDED)) == 2
    assert len(report.waiting) == 4
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_a_bug_is_called_a_bug_and_its_trace_is_told(site: Rehearsal) -> None:
    site.world.faults["run edges"] = RuntimeError("impossible")
    report = site.apply()
    assert "a bug in ismgr, please report it: RuntimeError('impossible')" in report.stopped
    assert [one for one in site.events if isinstance(one, OutputSeen) and "Traceback" in one.text]
    assert fates(report)["group/edges#1"] is Fate.UNKNOWN


def test_cancelling_between_waves_starts_nothing_new(site: Rehearsal) -> None:
    scope = site.scope()
    plan = site.plan()
    site.world.watch.append(lambda call: scope.context.cancelled.set() if call == "verify db1.dc1" else None)
    site.world.watch.append(lambda call: scope.context.cancelled.clear() if call == "never" else None)
    report = site.apply(plan, scope=scope)
    assert report.cancelled
    assert report.exit_code is ExitCode.CANCELLED
    assert site.world.effects()[-1] == "run databases"
    assert fates(report)["group/webs#1"] is Fate.NOT_STARTED


def test_cancelling_while_hosts_boot_ends_the_wait(site: Rehearsal) -> None:
    site.edit("estate.yaml", "boot_timeout: 2s", "boot_timeout: 10h")
    site.world.reach["db1.dc1"] = Reach.REFUSED
    scope = site.scope()
    plan = site.plan()

    def cancel(call: str) -> None:
        if call.startswith("probe") and "up dc1-servers" in site.world.calls:
            scope.context.cancelled.set()

    site.world.watch.append(cancel)
    report = site.apply(plan, scope=scope)
    assert (report.cancelled, len(report.of(Fate.LANDED)), len(report.waiting)) == (True, 2, 4)


def test_cancelling_when_all_is_done_comes_too_late(site: Rehearsal) -> None:
    scope = site.scope()
    site.world.watch.append(lambda call: scope.context.cancelled.set() if call == "record names" else None)
    report = site.apply(scope=scope)
    assert report.ok
    assert report.exit_code is ExitCode.DONE


def test_nothing_is_started_when_it_was_cancelled_before(site: Rehearsal) -> None:
    scope = site.scope()
    plan = site.plan()
    scope.context.cancelled.set()
    report = site.apply(plan, scope=scope)
    assert site.world.effects() == []
    assert report.exit_code is ExitCode.CANCELLED


def test_only_what_landed_as_a_whole_is_remembered(site: Rehearsal) -> None:
    site.world.breaks["db1.dc2", "tune"] = "no"
    site.apply()
    assert {str(one) for one in site.ledgers["lab"].rows} == {"stack/dc1-servers", "stack/dc2-servers"}


def test_what_landed_in_an_earlier_wave_is_remembered_when_a_later_one_fails(site: Rehearsal) -> None:
    site.world.breaks["edge1.dc1", "install"] = "no"
    site.apply()
    groups = {one.name for one in site.ledgers["lab"].rows if one.kind is Kind.GROUP}
    assert groups == {"databases", "webs"}


def test_a_run_goes_on_where_it_stopped(site: Rehearsal) -> None:
    site.world.breaks["edge1.dc1", "install"] = "no"
    site.apply()
    site.world.breaks.clear()
    site.world.calls.clear()
    plan = site.plan()
    assert site.apply(plan).ok
    assert site.world.effects() == ["run edges", "up names"]
    assert site.plan().empty


def test_a_host_that_left_its_group_since_the_plan_is_not_touched(running: Rehearsal) -> None:
    running.world.values["web1.dc2"]["install"] = "0"
    plan = running.plan()
    output = running.world.outputs["dc2-servers"]["hosts"]
    running.world.outputs["dc2-servers"]["hosts"] = type(output)(value=[])
    report = running.apply(plan)
    assert report.outcomes[0].summary == "web1.dc2 no longer belongs to group/webs"
    assert running.world.effects() == []
    assert report.exit_code is ExitCode.REFUSED


def test_hosts_that_reboot_with_their_stack_are_waited_for(running: Rehearsal) -> None:
    running.edit("estate.yaml", "boot_timeout: 2s", "boot_timeout: 5m")
    running.world.programs["dc1-servers"] = lambda _config, _made: _tagged()
    running.world.values["web1.dc1"]["install"] = "0"
    plan = running.plan()
    assert plan.waves == (("stack/dc1-servers",), ("group/webs#1",))

    def reboot(call: str) -> None:
        if call == "up dc1-servers":
            running.world.booting["web1.dc1"] = 2

    running.world.watch.append(reboot)
    assert running.apply(plan).ok
    assert running.world.booting["web1.dc1"] == 0


def _tagged() -> Desired:
    plain = servers("db1.dc1", "edge1.dc1", "web1.dc1")
    return Desired(
        resources={name: {**body, "tag": "new"} for name, body in plain.resources.items()}, outputs=plain.outputs
    )


def test_a_ledger_that_is_locked_ends_the_run_and_hides_nothing(site: Rehearsal) -> None:
    site.world.faults["record dc1-servers"] = EngineFailed("database is locked", engine="sqlite", next_step="Wait.")
    report = site.apply()
    assert report.stopped.startswith("what landed could not be recorded: database is locked")
    assert len(report.of(Fate.LANDED)) == 2


@pytest.mark.parametrize(
    "fault",
    [
        EngineMissing(engine="pulumi", needed="3.230", found=[], ways=["ismgr engine install"]),
        Unreachable("No answer.", engine="pulumi", subject="state", cause="timeout", next_step="Wait."),
    ],
)
def test_an_engine_that_never_began_is_no_effect(running: Rehearsal, fault: Exception) -> None:
    running.world.actual["names"].clear()
    running.world.faults["up names"] = fault
    assert running.apply().exit_code is ExitCode.ENGINE


def test_a_deferred_stack_whose_preview_fails_stops_the_run(site: Rehearsal) -> None:
    site.world.faults["preview names"] = FAILED
    report = site.apply()
    assert report.stopped == "The engine fell over.: boom"
    assert len(report.of(Fate.LANDED)) == 2
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_what_never_becomes_known_ends_the_run_instead_of_waiting_for_ever(site: Rehearsal) -> None:
    plan = site.plan()
    site.world.programs["dc1-servers"] = lambda _config, _made: Desired(
        resources=servers("db1.dc1", "edge1.dc1", "web1.dc1").resources,
        outputs={"hosts": servers("db1.dc1", "edge1.dc1", "web1.dc1").outputs["hosts"]},
    )
    report = site.apply(plan)
    assert "stack/names needs the output dc1-servers.edge, which stack/dc1-servers does not have" in report.stopped
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_a_group_whose_hosts_did_not_come_ends_the_run(site: Rehearsal) -> None:
    plan = site.plan()
    site.world.programs["dc1-servers"] = lambda _config, _made: servers("db1.dc1", "web1.dc1")
    report = site.apply(plan)
    assert report.stopped == "group/edges cannot be worked on: it has no hosts"


def test_a_host_that_is_still_not_known_ends_the_run(site: Rehearsal) -> None:
    plan = site.plan()
    site.world.programs["dc1-servers"] = lambda _config, _made: Desired(
        resources=servers("db1.dc1", "edge1.dc1", "web1.dc1").resources,
        outputs={
            "hosts": [{**one, "host_keys": "<unknown>"} for one in SERVER_ENTRIES],
            "edge": "192.0.2.20",
        },
    )
    report = site.apply(plan)
    assert "db1.dc1: host_keys not known yet" in report.stopped
