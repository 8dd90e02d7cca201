"""`ismgr window` over documents in a Git repository: what is open, what comes, which rule says no."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.cli.main import run
from ismgr_automation.engines.calendars import read
from tests.cli.conftest import Said

PAGE = Path(__file__).parents[2] / "docs/how-to/windows.md"
ESTATE = """\
kind: Estate
name: clinic
owner: platform
environments: {lab: {}}
---
kind: Team
name: platform
---
kind: Site
name: dc1
time_zone: Europe/Berlin
machines:
  - name: db1
    address: 192.0.2.10
    labels: {role: db}
    bmc: {address: "https://bmc.example.org", username: admin, password: {secret: "env:BMC"}}
  - name: web1
    address: 192.0.2.11
    labels: {role: web}
    bmc: {address: "https://bmc2.example.org", username: admin, password: {secret: "env:BMC"}}
---
kind: HostGroup
name: databases
selector: host.labels.role == "db"
playbook: playbooks/db.yml
---
kind: HostGroup
name: clouds
selector: host.labels.role == "cloud"
playbook: playbooks/db.yml
---
kind: MaintenanceWindow
name: nightly
description: When clinics sleep
time_zone: Europe/Berlin
start: 2026-01-04T01:00:00
rule: FREQ=WEEKLY;BYDAY=SU
cutoff: 15m
---
kind: MaintenanceWindow
name: works
time_zone: Europe/Berlin
calendar: calendars/works.ics
---
kind: PatchBaseline
name: databases
selector: '"databases" in host.groups'
rules: [{name: all, when: "true"}]
windows: [nightly, works]
---
kind: Freeze
name: year-end
reason: the books are closed
owner: platform
begins: 2026-12-20T00:00:00+01:00
ends: 2027-01-03T00:00:00+01:00
selector: host.labels.role == "web"
---
kind: Freeze
name: move
reason: the move
owner: platform
begins: 2026-11-01T00:00:00+01:00
ends: 2026-11-02T00:00:00+01:00
work: [patch]
"""

WORKS = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//example//EN
BEGIN:VEVENT
UID:one
DTSTART;TZID=Europe/Berlin:20260310T200000
DTEND;TZID=Europe/Berlin:20260310T230000
SUMMARY:Power works
END:VEVENT
END:VCALENDAR
"""

Type = Callable[..., Said]
CLOSED = ("--at", "2026-03-04T12:00+01:00")
OPEN = ("--at", "2026-03-29T01:30+01:00")
MOVE = ("--at", "2026-11-01T12:00Z")


@pytest.fixture
def estate(tmp_path: Path) -> Path:
    files = {"estate.yaml": ESTATE, "calendars/works.ics": WORKS, "playbooks/db.yml": "[]\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    _git(tmp_path, "init", "-q", "-b", "main")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "begin")
    return tmp_path


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.test", *words], check=True)


@pytest.fixture
def said(estate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Type:
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*arguments: str | Path) -> Said:
        code = run(["-C", str(estate), *map(str, arguments)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return typed


def test_the_list_shows_what_is_open_what_comes_and_what_holds(said: Type) -> None:
    shown = said("window", "list", *OPEN)
    assert shown.code == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.out.splitlines()[1:]}
    assert rows["window/nightly"] == "open until 2026-03-29 05:00+02:00 2026-04-05 01:00+02:00 3h"
    assert rows["window/works"] == "closed"
    assert rows["freeze/year-end"] == "ahead 2026-12-20 00:00+01:00 the books are closed"
    assert "holds until 2026-11-02 00:00+01:00" in said("window", "list", *MOVE).out
    assert "2026-03-10 20:00+01:00" in said("window", "list", *CLOSED).out


def test_the_list_is_json_for_machines(said: Type) -> None:
    result = said("--json", "window", "list", *OPEN).result
    nightly, works = result["windows"]
    assert (nightly["open"], nightly["cutoff_seconds"]) == (True, 900)
    assert nightly["current"] == {
        "begins": "2026-03-29T00:00:00+00:00",
        "ends": "2026-03-29T03:00:00+00:00",
        "seconds": 10800,
    }
    assert (works["open"], works["next"]) == (False, None)
    assert [(one["name"], one["state"]) for one in result["freezes"]] == [("move", "ahead"), ("year-end", "ahead")]


def test_the_next_openings_are_on_the_windows_own_clock(said: Type) -> None:
    shown = said("window", "next", "nightly", "-n", "2", "--at", "2026-10-19T00:00Z")
    assert shown.out.splitlines() == [
        "2026-10-25 01:00+02:00 until 2026-10-25 03:00+01:00  3h",
        "2026-11-01 01:00+01:00 until 2026-11-01 04:00+01:00  3h",
    ]
    assert said("--json", "window", "next", "window/works", *CLOSED).result["openings"] == [
        {"begins": "2026-03-10T19:00:00+00:00", "ends": "2026-03-10T22:00:00+00:00", "seconds": 10800}
    ]
    assert said("window", "next", "works", *OPEN).out == "window/works does not open again.\n"


def test_a_window_that_is_not_there_is_guessed(said: Type) -> None:
    asked = said("window", "next", "nightli")
    assert asked.code == 1
    assert "did you mean 'nightly'?" in asked.err
    assert said("window", "check", "-w", "nightli").code == 1


@pytest.mark.parametrize("target", ["host/db1.dc1", "group/databases"])
def test_work_may_begin_in_a_window_of_the_hosts_baseline(said: Type, target: str) -> None:
    asked = said("--json", "window", "check", "-t", target, *OPEN)
    assert asked.code == 0
    assert asked.result["hosts"] == ["db1.dc1"]
    assert asked.result["ends"] == "2026-03-29T02:45:00+00:00"
    assert "must be over by 2026-03-29 02:45+00:00" in said("window", "check", "-t", target, *OPEN).out


def test_outside_of_its_windows_each_says_no_and_the_first_moment_is_named(said: Type) -> None:
    asked = said("--json", "window", "check", "-t", "host/db1.dc1", *CLOSED)
    assert (asked.code, asked.result["reason"]) == (3, "outside-window")
    assert "window/nightly is closed; it opens next at 2026-03-08 01:00+01:00" in asked.result["summary"]
    assert "window/works is closed; it opens next at 2026-03-10 20:00+01:00" in asked.result["summary"]
    assert "2026-03-08 00:00+00:00" in asked.result["next_step"]


def test_what_needs_longer_than_is_left_is_not_begun(said: Type) -> None:
    asked = said("window", "check", "-t", "host/db1.dc1", "--needs", "2h30m", *OPEN)
    assert asked.code == 1
    asked = said("window", "check", "-t", "host/db1.dc1", "--needs", "150m", *OPEN)
    assert asked.code == 3
    assert "closes too soon: the work needs 2h 30m, 2h 30m are left" in asked.err


def test_windows_hold_up_patches_and_freezes_the_work_that_they_name(said: Type) -> None:
    assert said("window", "check", "-t", "host/db1.dc1", "--work", "apply", *CLOSED).code == 0
    assert said("window", "check", "-t", "host/db1.dc1", "--work", "apply", *MOVE).code == 0
    assert said("window", "check", "-t", "host/web1.dc1", *CLOSED).code == 0
    frozen = said("window", "check", "-t", "host/web1.dc1", "--at", "2026-12-24T12:00Z")
    assert frozen.code == 3
    assert "freeze/year-end holds until 2027-01-03 00:00+01:00: the books are closed" in frozen.err


def test_a_window_may_be_named_instead(said: Type) -> None:
    assert said("window", "check", "-w", "nightly", *OPEN).code == 0
    assert said("window", "check", "-t", "host/web1.dc1", "-w", "nightly", *CLOSED).code == 3


def test_for_hosts_that_no_document_tells_of_only_freezes_for_everybody_count_and_it_says_so(said: Type) -> None:
    for words in (["-t", "group/clouds"], ["-t", "host/unknown"], []):
        asked = said("window", "check", *words, *CLOSED)
        assert asked.code == 0
        assert "only freezes for everybody count" in asked.err
        assert "freeze/move" in said("window", "check", *words, *MOVE).err
    assert said("--json", "window", "check", *CLOSED).result["notes"]


def test_a_target_that_is_not_there_is_guessed(said: Type) -> None:
    asked = said("window", "check", "-t", "group/database")
    assert asked.code == 1
    assert "did you mean 'group/databases'?" in asked.err


@pytest.mark.parametrize("moment", ["tomorrow", "2026-03-04T12:00", "0001-01-01T00:00+14:00"])
def test_a_moment_has_an_offset(said: Type, moment: str) -> None:
    asked = said("window", "list", "--at", moment)
    assert asked.code == 1
    assert "2026-03-29T01:00+01:00" in asked.err


def test_the_export_is_a_calendar_with_windows_and_freezes(said: Type, tmp_path: Path) -> None:
    exported = said("window", "export", "--days", "20", *CLOSED)
    begin = datetime(2026, 3, 4, 11, tzinfo=UTC)
    found = read(exported.out, path="out.ics", zone="UTC", begin=begin, end=begin + timedelta(days=366))
    assert [(f"{one.begins:%m-%d %H:%M}", one.name) for one in found] == [
        ("03-08 00:00", "Maintenance window nightly"),
        ("03-10 19:00", "Maintenance window works: Power works"),
        ("03-15 00:00", "Maintenance window nightly"),
        ("03-22 00:00", "Maintenance window nightly"),
    ]
    file = tmp_path / "out.ics"
    told = said("window", "export", "--out", file, "--at", "2026-10-01T00:00Z")
    assert told.code == 0
    assert "Freeze year-end: the books are closed" in file.read_text()
    assert "Freeze move" in file.read_text()
    assert said("window", "export", "--out", tmp_path / "none" / "out.ics").code == 1


def test_a_calendar_that_cannot_be_read_is_shown_at_its_line(said: Type, estate: Path) -> None:
    (estate / "calendars/works.ics").write_text(WORKS.replace("DTEND;TZID=Europe/Berlin:", "DTEND;TZID=Europe/Berlon:"))
    asked = said("window", "list", "--worktree")
    assert asked.code == 1
    assert "calendars/works.ics:7:1: error: nobody knows the time zone of DTEND" in asked.err


def test_an_estate_without_windows_says_so(said: Type, estate: Path) -> None:
    (estate / "estate.yaml").write_text(ESTATE.partition("---\nkind: Site")[0])
    shown = said("window", "list", "--worktree")
    assert "work may always begin" in shown.out


def test_the_page_about_windows_says_what_works(said: Type, estate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    documents = [text for language, text in blocks if language == "yaml"]
    for text in documents:
        (estate / text.split()[1]).write_text(text)
    (estate / "estate.yaml").write_text(ESTATE.partition("---\nkind: MaintenanceWindow")[0])
    assert said("validate").code == 0, said("validate").err
    _git(estate, "add", ".")
    _git(estate, "commit", "-q", "-m", "windows")
    monkeypatch.chdir(estate)
    (commands,) = [text for language, text in blocks if language == "sh"]
    for line in commands.splitlines():
        asked = said(*shlex.split(line)[1:])
        assert asked.code == 0, asked.err
    assert "year-end" in said("window", "list").out
    assert len(documents) == 4
