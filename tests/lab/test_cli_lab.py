"""`ismgr lab` as somebody types it."""

from __future__ import annotations

import io
import json

import pytest
import typer
from rich.console import Console

from ismgr_automation.cli import lab as command
from ismgr_automation.cli.face import Face
from ismgr_automation.core.errors import IsmgrError, Refused, SettingsError, Unreachable
from ismgr_automation.lab import Lab
from tests.fixtures_lab import switch_off, switch_on, until


def run(*words: str, as_json: bool = False) -> tuple[str, str, int | None]:
    """What a command line prints on stdout and stderr, and its exit code if it names one; its errors come through."""
    out, errors = io.StringIO(), io.StringIO()
    face = Face(json=as_json, console=Console(file=out, width=120), errors=Console(file=errors, width=120))
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    code = typer.main.get_command(app).main(["lab", *words], standalone_mode=False, obj=face)
    return out.getvalue(), errors.getvalue(), code


@pytest.mark.parametrize("verb", ["up", "status", "ssh", "patches", "down"])
def test_every_command_has_help_with_examples(verb, capsys):
    run(verb, "--help")
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"ismgr lab {verb}" in shown or f"ismgr --json lab {verb}" in shown


@pytest.mark.parametrize("verb", ["create", "restore", "list", "remove"])
def test_every_command_about_snapshots_has_help_with_an_example(verb, capsys):
    run("snapshot", verb, "--help")
    assert f"ismgr lab snapshot {verb} db1.dc1" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("status",), ("ssh", "ns"), ("patches",), ("snapshot", "list", "ns"), ("down",)])
def test_a_bad_name_is_an_input_error(words):
    with pytest.raises(SettingsError, match="cannot be the name of a lab"):
        run(*words, "--name", "No Such")


def test_an_ordinary_user_is_told_to_use_sudo(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for words in (("status",), ("down",)):
        with pytest.raises(IsmgrError, match="sudo"):
            run(*words, "--name", "nowhere")


@pytest.mark.lab
def test_status_shows_every_machine_and_its_json_says_the_same(lab: Lab, capsys):
    shown, *_ = run("status", "--name", lab.record.name)
    run("status", "--name", lab.record.name, as_json=True)
    body = json.loads(capsys.readouterr().out)
    assert body["type"] == "lab"
    assert body["problems"] == []
    window = lab.topology.window
    assert body["window"]["address"] == str(window.address)
    for route in window.routes:
        assert {"to": route.to, "via": str(route.via)} in body["window"]["routes"]
        assert f"{route.to} via {route.via}" in shown
    assert [row["name"] for row in body["machines"]] == [one.name for one in lab.topology.machines]
    for row in body["machines"]:
        assert row["name"] in shown
        assert row["addresses"]["management"] in shown


@pytest.mark.lab
def test_up_writes_an_estates_sites_and_its_json_lists_them(lab: Lab, capsys, tmp_path):
    run("up", "--name", lab.record.name, "--write", str(tmp_path), as_json=True)
    *events, result = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["type"] for event in events} == {"step-reported"}
    assert "sites/dc1.yaml" in result["written"]
    assert all((tmp_path / path).is_file() for path in result["written"])


@pytest.mark.lab
def test_progress_goes_to_stderr_and_the_result_to_stdout(lab: Lab):
    shown, progress, _ = run("up", "--name", lab.record.name)
    assert "already up" in progress
    assert "already up" not in shown
    assert f"ismgr lab status --name {lab.record.name}" in shown


@pytest.mark.lab
def test_ssh_gives_back_the_exit_code_of_the_command(lab: Lab):
    assert run("ssh", "--name", lab.record.name, "ns", "--", "exit", "7")[2] == 7


@pytest.mark.lab
def test_ssh_to_a_machine_that_is_off_says_what_switches_it_on(lab: Lab):
    switch_off(lab, "edge1.dc2")
    until("it is off", lambda: not next(one.on for one in lab.status().machines if one.machine.name == "edge1.dc2"))
    with pytest.raises(Unreachable, match=r"edge1\.dc2 is off.*BMC"):
        run("ssh", "--name", lab.record.name, "edge1.dc2")
    with pytest.raises(SettingsError, match="no machine"):
        run("ssh", "--name", lab.record.name, "db9")


@pytest.mark.lab
def test_snapshots_are_kept_listed_and_removed(lab: Lab, capsys):
    options = ("--name", lab.record.name)
    shown, *_ = run("snapshot", "create", "edge1.dc2", "typed", *options)
    assert shown.startswith("kept: edge1.dc2 typed, taken ")
    with pytest.raises(Refused, match="stays as it is"):
        run("snapshot", "create", "edge1.dc2", "typed", *options)
    run("snapshot", "list", "edge1.dc2", *options, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)["snapshots"]
    assert (row["machine"], row["name"]) == ("edge1.dc2", "typed")
    assert "removed" in run("snapshot", "remove", "edge1.dc2", "typed", *options)[0]
    assert "There is no snapshot" in run("snapshot", "list", "edge1.dc2", *options)[0]


@pytest.mark.lab
def test_patches_says_what_is_offered_and_what_became_of_each_machine(lab: Lab, capsys):
    switch_on(lab, "gw1.dc1")
    run("patches", "--name", lab.record.name, as_json=True)
    body = json.loads(capsys.readouterr().out)
    fates = {row["machine"]: row["fate"] for row in body["machines"]}
    assert set(fates) == {machine.name for machine in lab.topology.servers}
    assert fates["gw1.dc1"] in {"prepared", "kept"}
    shown, *_ = run("patches", "--name", lab.record.name)
    assert body["fingerprint"] in shown
    for row in body["offered"]:
        assert row["package"] in shown
        assert row["version"] in shown
