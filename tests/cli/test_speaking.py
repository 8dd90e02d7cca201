"""How commands speak: JSON lines for machines, text for people, to pipes that close and to terminals."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pexpect
import pytest
import typer
from pexpect.fdpexpect import fdspawn

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.main import build
from ismgr_automation.core.errors import EngineFailed, IsmgrError, NotApproved, NotSigned, StalePlan
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.planning.planfile import read
from tests.cli.conftest import Say
from tests.rehearsal import Rehearsal

ROOT = Path(__file__).parents[2]


def test_json_is_lines_that_carry_their_format_and_end_with_the_result(say: Say, site: Rehearsal) -> None:
    said = say("--json", "apply", "--yes")
    assert (said.code, said.err) == (0, "")
    assert {line["format"] for line in said.lines} == {"ismgr.event/1", "ismgr.result/1"}
    events = [line for line in said.lines if line["format"] == "ismgr.event/1"]
    assert all(datetime.fromisoformat(line["at"]).tzinfo for line in events)
    results = [line["type"] for line in said.lines if line["format"] == "ismgr.result/1"]
    assert results == ["plan", "report"]
    assert said.result["ok"]
    assert {one["fate"] for one in said.result["outcomes"]} == {"landed"}
    assert len(said.result["checks"]) == 4


@pytest.mark.parametrize("command", ["plan", "drift", "verify", "inventory"])
def test_every_result_says_its_type_and_format(say: Say, running: Rehearsal, command: str) -> None:
    arguments = ("inventory", "--table") if command == "inventory" else (command,)
    body = say("--json", *arguments).result
    assert (body["format"], body["type"]) == ("ismgr.result/1", command)


def test_the_plan_in_json_is_the_plan_of_the_file(say: Say, site: Rehearsal, tmp_path: Path) -> None:
    body = say("--json", "plan", "--out", tmp_path / "plan.json").result
    plan = read((tmp_path / "plan.json").read_text(), "plan.json")
    assert body["plan"]["digest"] == plan.digest
    assert body["exit_code"] == 2


def test_a_plan_file_is_applied_in_the_environment_that_it_was_made_for(
    say: Say, site: Rehearsal, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    assert say("-e", "other", "plan", "--out", path).code == 2
    assert say("-e", "lab", "apply", "--yes", path).code == 1
    assert say("apply", "--yes", path).code == 0
    assert list(site.ledgers["other"].rows)
    assert "lab" not in site.ledgers


def test_an_altered_plan_file_is_refused(say: Say, site: Rehearsal, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    say("plan", "--out", path)
    path.write_text(path.read_text().replace('"at_most": 2', '"at_most": 9'))
    said = say("apply", "--yes", path)
    assert said.code == 1
    assert "altered" in said.err
    assert site.world.effects() == []


def test_a_destruction_can_be_planned_and_applied_later(say: Say, running: Rehearsal, tmp_path: Path) -> None:
    path = tmp_path / "gone.json"
    assert say("destroy", "-t", "stack/names", "--out", path).code == 2
    assert say("apply", "--yes", path).code == 0
    assert running.world.effects() == ["destroy names"]


def test_people_are_told_what_changes_why_and_in_which_wave(say: Say, site: Rehearsal) -> None:
    said = say("plan")
    for words in ("wave 1", "stack/dc1-servers create: 3 resources - new", "deferred", "at most 2", "5 to create"):
        assert words in said.out
    assert "preview" in said.err


def test_quiet_is_quiet_about_progress_only(say: Say, site: Rehearsal) -> None:
    said = say("-q", "plan")
    assert said.err == ""
    assert "wave 1" in said.out


def test_text_that_looks_like_markup_or_emoji_is_shown_as_it_is(say: Say, running: Rehearsal) -> None:
    odd = "[/red] :key: [bold]x [/] \x1b"
    running.world.faults["preview names"] = EngineFailed(odd, engine="pulumi", detail=odd, next_step=odd)
    said = say("plan")
    assert said.code == 4
    assert "[/red] :key: [bold]x [/]" in said.out
    running.world.faults["state names"] = running.world.faults["preview names"]
    running.world.faults["preview names"] = OSError(odd)
    assert "[/red] :key: [bold]x [/]" in say("plan").err + say("plan").out


def test_an_error_that_looks_like_markup_does_not_break_its_own_telling(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Face().error(EngineFailed("bad [/foo] [red]", engine="x", detail="[/]", next_step="[/bar]"))
    assert "bad [/foo] [red]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "field", "said"),
    [
        (NotApproved("No.", missing=["1 approver"]), "missing", ["1 approver"]),
        (NotSigned("No.", commits=["c1: it is not signed"]), "commits", ["c1: it is not signed"]),
        (StalePlan(moved=["the inventory changed"]), "moved", ["the inventory changed"]),
    ],
)
def test_a_refusal_in_json_lists_its_reasons(
    problem: IsmgrError, field: str, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Face(json=True).error(problem)
    body = json.loads(capsys.readouterr().out)
    assert {name: body[name] for name in ("missing", "commits", "moved")} == {
        "missing": [],
        "commits": [],
        "moved": [],
        field: said,
    }


def test_a_plan_says_until_when_it_can_be_applied_in_which_batch_and_what_nobody_can_predict(
    say: Say, running: Rehearsal
) -> None:
    running.world.values["db1.dc1"]["install"] = "0"
    running.world.values["web1.dc1"]["install"] = "0"
    said = say("plan")
    for words in ("can be applied until", "(batch 1)", "of them unpredictable"):
        assert words in said.out


def test_junit_is_written_where_it_was_asked_for(say: Say, running: Rehearsal, tmp_path: Path) -> None:
    assert say("verify", "--junit", tmp_path / "verify.xml").code == 0
    assert "<testsuite" in (tmp_path / "verify.xml").read_text()
    assert say("verify", "--junit", tmp_path / "none" / "verify.xml").code == 1


def commands(group: typer.core.TyperGroup, trail: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command line that does something."""
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        inner = commands(command, (*trail, name)) if hasattr(command, "commands") else [(*trail, name)]
        found += inner
    return found


@pytest.mark.parametrize("trail", commands(typer.main.get_command(build())), ids=" ".join)  # type: ignore[arg-type]
def test_the_help_of_every_command_says_what_it_does_and_has_examples(say: Say, trail: tuple[str, ...]) -> None:
    said = say(*trail, "--help", at=False)
    assert said.code == 0
    assert "Examples:" in said.out or "Example:" in said.out
    assert f"ismgr {trail[0]}" in said.out


SCRIPT = """
import sys
from pathlib import Path
from ismgr_automation.cli import main
from tests.rehearsal import Rehearsal
site = Rehearsal(folder=Path(sys.argv[1]))
site.world.settings["boot_probes"] = 0
main.sys.exit(main.run(sys.argv[2:], wiring=site))
"""


def command_line(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT, str(folder), "-C", str(folder), *arguments]


@contextmanager
def at_a_terminal(*command: str) -> Iterator[tuple[fdspawn, subprocess.Popen[bytes]]]:
    """A command that a person sits before: its terminal, and the process. (``pexpect.spawn`` forks this process, and a
    fork of one that has spoken gRPC may die in gRPC's own handlers before it becomes the command.)"""
    ours, theirs = pty.openpty()
    seat = ["setsid", "--ctty", *command]
    with subprocess.Popen(seat, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as child:
        os.close(theirs)
        terminal = fdspawn(ours, timeout=60)
        try:
            yield terminal, child
        finally:
            child.kill()
            terminal.close()


@pytest.mark.parametrize("arguments", [("plan",), ("--json", "plan"), ("plan", "--help"), ("--json", "apply", "--yes")])
def test_a_reader_that_goes_away_is_no_reason_to_complain(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    child = subprocess.Popen(
        command_line(tmp_path, "-q", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    said = child.stderr.read()
    child.stderr.close()
    code = child.wait(timeout=60)
    assert said == ""
    assert code in {0, 2} or "--help" in arguments


def test_a_person_is_asked_and_a_yes_goes_on(tmp_path: Path) -> None:
    with at_a_terminal(*command_line(tmp_path, "apply")) as (terminal, child):
        terminal.expect_exact("Apply this plan?")
        terminal.sendline("y")
        terminal.expect_exact("7 of 7 changes landed")
        terminal.expect(pexpect.EOF)
        assert child.wait(timeout=60) == 0


@pytest.mark.parametrize("answer", ["n\n", "\x03", "\x04", "\n"])
def test_a_no_an_interrupt_and_an_end_are_all_a_no(tmp_path: Path, answer: str) -> None:
    with at_a_terminal(*command_line(tmp_path, "apply")) as (terminal, child):
        terminal.expect_exact("Apply this plan?")
        terminal.send(answer)
        terminal.expect_exact("Nothing was touched.")
        terminal.expect(pexpect.EOF)
        assert child.wait(timeout=60) == 130


def test_events_of_several_threads_are_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    face = Face(json=True)
    face.emit(OutputSeen(subject=None, text="two\nlines"))
    assert len(capsys.readouterr().out.splitlines()) == 1
