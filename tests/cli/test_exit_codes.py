"""Exit codes, one by one: what a pipeline may rely on. No error is ever a traceback, except that of a bug."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ismgr_automation.cli.main import switches_first
from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing
from ismgr_automation.ports.hosts import Reach
from tests.cli.conftest import Say
from tests.rehearsal import Rehearsal

FAILED = EngineFailed("The engine fell over.", engine="pulumi", detail="boom", next_step="Look at it.")

WRONG: list[tuple[str, ...]] = [
    (),
    ("nosuch",),
    ("plan", "--nosuch"),
    ("plan", "extra"),
    ("apply", "a.json", "b.json"),
    ("--nosuch", "plan"),
    ("plan", "--ref"),
    ("plan", "-t"),
    ("lab", "nosuch"),
    ("plan", "-e"),
]
BAD_INPUT: list[tuple[str, ...]] = [
    ("plan", "-t", "stack/nosuch"),
    ("plan", "-x", "host/nosuch"),
    ("plan", "-t", "host/"),
    ("-e", "nosuch", "plan"),
    ("apply", "no-such-plan.json"),
    ("apply", "no-such-plan.json", "--worktree"),
    ("apply", "no-such-plan.json", "--ref", "main"),
    ("apply", "no-such-plan.json", "-t", "stack/names"),
    ("destroy", "-t", "host/db1.dc1"),
    ("-C", "no-such-folder", "plan"),
    ("plan", "--out", "no-such-folder/plan.json"),
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_arguments_are_1_and_never_2(say: Say, arguments: tuple[str, ...]) -> None:
    said = say(*arguments, at=False)
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "error:" in said.err or "Usage:" in said.out + said.err


def test_switches_may_stand_after_the_command_and_never_behind_a_double_dash(say: Say, running: Rehearsal) -> None:
    assert say("plan", "--json").result["type"] == "plan"
    assert switches_first(["lab", "ssh", "m", "--", "ls", "--json"]) == ["lab", "ssh", "m", "--", "ls", "--json"]


@pytest.mark.parametrize("arguments", BAD_INPUT, ids=" ".join)
def test_bad_input_is_1_with_what_to_do_next(say: Say, running: Rehearsal, arguments: tuple[str, ...]) -> None:
    said = say(*arguments)
    assert said.code == 1
    assert "error:" in said.err
    assert "Traceback" not in said.err
    assert running.world.effects() == []


@pytest.mark.parametrize("arguments", [*WRONG[1:], *BAD_INPUT], ids=" ".join)
def test_in_json_every_error_is_one_object_on_stdout(say: Say, running: Rehearsal, arguments: tuple[str, ...]) -> None:
    said = say("--json", *arguments, at=False) if arguments in WRONG else say("--json", *arguments)
    assert said.code == 1
    assert said.err == ""
    body = said.result
    assert (body["format"], body["type"], body["exit_code"]) == ("ismgr.result/1", "error", 1)
    assert body["summary"]


def test_a_mistake_in_the_documents_is_1_with_its_place(say: Say, site: Rehearsal) -> None:
    site.edit("groups.yaml", "playbook: playbooks/web.yml", "playbok: playbooks/web.yml")
    said = say("plan")
    assert said.code == 1
    assert "groups.yaml:11:1" in said.err
    body = say("--json", "plan").result
    assert (body["reason"], body["diagnostics"][0]["path"]) == ("estate-error", "groups.yaml")


def test_nothing_to_do_is_0(say: Say, running: Rehearsal) -> None:
    for command in ("plan", "apply", "drift", "verify"):
        assert say(command).code == 0
    assert running.world.effects() == []


def test_help_and_version_are_0(say: Say) -> None:
    assert say("--help", at=False).code == 0
    assert say("--version", at=False).out.startswith("ismgr 0.")


def test_changes_and_drift_are_2(say: Say, running: Rehearsal) -> None:
    running.world.values["edge1.dc1"]["install"] = "0"
    assert say("plan").code == 2
    assert say("drift").code == 2
    assert say("destroy", "--out", running.folder / "gone.json").code == 2


def test_a_plan_file_that_does_nothing_is_0_and_begins_no_run(say: Say, running: Rehearsal, tmp_path: Path) -> None:
    begun, recorded = running.runs.runs(), list(running.evidence.read())
    assert say("plan", "--out", tmp_path / "plan.json").code == 0
    said = say("apply", tmp_path / "plan.json")
    assert said.code == 0
    assert "Nothing was to be done." in said.out
    body = say("--json", "apply", tmp_path / "plan.json").result
    assert (body["run"], body["reason"], body["outcomes"]) == ("", "done", [])
    assert running.runs.runs() == begun
    assert list(running.evidence.read()) == recorded


def test_a_fresh_site_is_a_change_and_no_drift(say: Say, site: Rehearsal) -> None:
    assert say("plan").code == 2
    assert say("drift").code == 0


def test_a_stale_plan_is_3_and_says_what_moved(say: Say, running: Rehearsal, tmp_path: Path) -> None:
    running.world.values["edge1.dc1"]["install"] = "0"
    assert say("plan", "--out", tmp_path / "plan.json").code == 2
    running.world.values["db1.dc1"]["tune"] = "slow"
    said = say("apply", "--yes", tmp_path / "plan.json")
    assert said.code == 3
    assert "group/databases#1 would change now" in said.err
    assert "Nothing was touched." in said.err
    body = say("--json", "apply", "--yes", tmp_path / "plan.json").result
    assert (body["reason"], body["moved"]) == ("stale-plan", ["group/databases#1 would change now"])
    assert running.world.effects() == []


@pytest.mark.parametrize("command", ["plan", "drift", "apply"])
def test_a_host_that_does_not_answer_is_4(say: Say, running: Rehearsal, command: str) -> None:
    running.world.reach["db1.dc1"] = Reach.TIMEOUT
    said = say(command)
    assert said.code == 4
    assert "db1.dc1 cannot be worked on (timeout)" in said.out
    assert running.world.effects() == []


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("preview names", FAILED),
        ("state names", EngineMissing(engine="pulumi", needed="3", found=["PATH"], ways=["ismgr engine install"])),
        ("state names", OSError(28, "No space left on device")),
        ("check webs", FAILED),
    ],
)
def test_an_observation_that_cannot_be_made_is_4(say: Say, running: Rehearsal, call: str, fault: Exception) -> None:
    running.world.faults[call] = fault
    said = say("plan")
    assert said.code == 4
    assert "Traceback" not in said.err


def test_an_engine_that_fails_before_any_effect_is_4(say: Say, running: Rehearsal) -> None:
    running.world.actual["names"].clear()
    running.world.faults["up names"] = FAILED
    said = say("apply", "--yes")
    assert said.code == 4
    assert "boom" in said.out


def test_a_run_that_stopped_with_part_of_it_applied_is_5(say: Say, site: Rehearsal) -> None:
    site.world.breaks["db1.dc1", "tune"] = "no such parameter"
    said = say("apply", "--yes")
    assert said.code == 5
    assert "no such parameter" in said.out
    assert "What landed stays." in said.out


def test_a_check_that_does_not_pass_is_6(say: Say, running: Rehearsal) -> None:
    running.world.unhealthy.add("web1.dc1")
    said = say("verify")
    assert said.code == 6
    assert "3 of 4 checks passed" in said.out


def test_a_bug_is_70_and_asks_to_be_reported(say: Say, running: Rehearsal) -> None:
    running.world.faults["preview names"] = ZeroDivisionError("impossible")
    said = say("plan")
    assert said.code == 70
    assert "This is a bug in ismgr" in said.err
    assert "Please report it" in said.err
    assert "Traceback" in said.err
    body = say("--json", "plan").result
    assert (body["exit_code"], body["reason"]) == (70, "internal-error")


def ask_to_stop(world: object, number: int, *, at: str, times: int = 1) -> Callable[[str], None]:
    """Sends this process a signal when an engine is called."""

    def watch(call: str) -> None:
        if call == at:
            for _ in range(times):
                os.kill(os.getpid(), number)

    return watch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "at", ["state names", "preview dc1-servers", "up dc1-servers", "run databases", "verify db1.dc1"]
)
def test_being_asked_to_stop_is_130_at_every_stage(say: Say, site: Rehearsal, number: int, at: str) -> None:
    before = signal.getsignal(number)
    site.world.watch.append(ask_to_stop(site.world, number, at=at))
    said = say("apply", "--yes")
    assert said.code == 130
    assert "Traceback" not in said.err
    after = site.world.effects()[1 + site.world.effects().index(at) :] if at in site.world.effects() else []
    # its neighbour in the wave may have been asked at the same moment
    assert set(after) <= {"up dc2-servers"}
    assert "up names" not in site.world.effects()
    assert signal.getsignal(number) is before


def test_a_second_interrupt_leaves_at_once(say: Say, site: Rehearsal) -> None:
    site.world.watch.append(ask_to_stop(site.world, signal.SIGINT, at="up dc1-servers", times=2))
    site.world.faults["up dc1-servers"] = Cancelled("Stopped.", next_step="Plan again.")
    said = say("apply", "--yes")
    assert said.code == 130


def test_a_plan_that_was_stopped_is_130(say: Say, running: Rehearsal) -> None:
    running.world.faults["preview names"] = Cancelled("Stopped.", next_step="Plan again.")
    assert say("plan").code == 130


def test_without_a_terminal_nothing_is_done_unless_it_is_said(say: Say, site: Rehearsal) -> None:
    for command in ("apply",):
        said = say(command)
        assert said.code == 1
        assert "Say --yes" in said.err
    assert site.world.effects() == []


def test_destroying_asks_as_well(say: Say, running: Rehearsal) -> None:
    assert say("destroy").code == 1
    assert running.world.effects() == []
    assert say("destroy", "--yes").code == 0
    assert running.world.state == {}
    assert say("destroy").code == 0
