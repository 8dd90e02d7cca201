"""`ismgr lease` and `ismgr runs` over a real database file, beside an estate in a Git repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.cli.main import run
from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Round, RunState, Unit
from ismgr_automation.runs.keeper import this_process
from tests.cli.conftest import Said
from tests.engines.database.conftest import BOB, LONG, SHORT, a_run, until

ESTATE = """\
kind: Estate
name: clinic
owner: platform
environments: {lab: {}, live: {}}
default_environment: lab
---
kind: Team
name: platform
"""

Type = Callable[..., Said]
RUN = "20261122T081500-3f9a"


@pytest.fixture
def estate(tmp_path: Path) -> Path:
    (tmp_path / "estate.yaml").write_text(ESTATE)
    (tmp_path / ".gitignore").write_text(".ismgr/\n")
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "begin"]):
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=t", "-c", "user.email=t@example.test", *words], check=True
        )
    return tmp_path


@pytest.fixture
def database(estate: Path) -> Database:
    return open_database(f"sqlite:///{estate}/.ismgr/ismgr.db")


@pytest.fixture
def said(estate: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    def typed(*arguments: str | Path) -> Said:
        code = run(["-C", str(estate), *map(str, arguments)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return typed


def test_a_lease_that_nobody_holds_is_free_and_looking_makes_no_file(said: Type, estate: Path) -> None:
    shown = said("lease")
    assert shown.code == 0
    assert "clinic/lab" in shown.out
    assert "free" in shown.out
    assert said("lease", "--json").result["leases"] == [{"name": "clinic/lab", "held": False}]
    assert not (estate / ".ismgr").exists()


def test_a_lease_shows_who_where_since_when_and_what_for(said: Type, database: Database) -> None:
    lease = database.leases.acquire("clinic/lab", BOB, LONG)
    database.runs.begin(a_run(RUN, token=1), [])
    shown = said("lease")
    for word in ("bob", "ci, process 12", "resume r", RUN, f"{lease.acquired_at:%Y-%m-%d %H:%M:%S}"):
        assert word in shown.out
    (found,) = said("lease", "--json").result["leases"]
    assert (found["token"], found["held"], found["run"], found["ttl_seconds"]) == (1, True, RUN, 300.0)
    assert found["holder"] == {"user": "bob", "host": "ci", "pid": 12, "purpose": "resume r", "alive": None}


def test_all_environments_are_shown_when_asked_for(said: Type, database: Database) -> None:
    database.leases.acquire("clinic/live", this_process("apply"), LONG)
    lab, live = said("--json", "lease", "--all").result["leases"]
    assert (lab["held"], live["held"], live["holder"]["alive"]) == (False, True, True)
    assert said("-e", "live", "--json", "lease").result["leases"][0]["name"] == "clinic/live"


def test_a_holder_that_is_gone_and_a_lease_that_is_over_are_told(said: Type, database: Database) -> None:
    me = this_process("apply")
    database.leases.acquire("clinic/lab", replace(me, started=me.started - 1000), SHORT)
    until(lambda: "its time is over" in said("lease").out)
    shown = said("lease").out
    assert "no such process any more" in shown
    assert "The next apply takes it" in shown


def test_waiting_ends_when_the_lease_is_free_or_the_time_is_over(said: Type, database: Database) -> None:
    assert said("lease", "wait").code == 0
    lease = database.leases.acquire("clinic/lab", BOB, LONG)
    waited = said("--json", "lease", "wait", "--for", "10ms")
    assert (waited.code, waited.result["reason"]) == (3, "lease-held")
    database.leases.release(lease)
    assert said("--json", "lease", "wait").result == {
        "format": "ismgr.result/1",
        "type": "lease-free",
        "name": "clinic/lab",
    }
    assert said("lease", "wait", "--for", "soon").code == 1


def test_a_lease_is_broken_only_for_the_holder_that_was_seen(said: Type, database: Database) -> None:
    database.leases.release(database.leases.acquire("clinic/lab", BOB, LONG))
    lease = database.leases.acquire("clinic/lab", BOB, LONG)
    refused = said("lease", "break", "--token", "1", "--yes")
    assert refused.code == 3
    assert "bob@ci" in refused.err
    assert "token 2" in refused.err
    assert database.leases.look("clinic/lab") == lease


def test_breaking_shows_the_holder_says_what_it_means_and_wants_a_yes(said: Type, database: Database) -> None:
    database.leases.acquire("clinic/lab", BOB, LONG)
    database.runs.begin(a_run(RUN, token=1), [])
    for words in (["lease", "break", "--token", "1"], ["--json", "lease", "break", "--token", "1"]):
        asked = said(*words)
        assert asked.code == 1
        assert "--yes" in asked.err + asked.out
        assert database.leases.look("clinic/lab") is not None
    broken = said("lease", "break", "--token", "1", "--yes")
    assert broken.code == 0
    assert "bob" in broken.err
    assert "a cloud API cannot" in broken.err
    assert f"ismgr resume {RUN}" in broken.out
    assert database.leases.look("clinic/lab") is None


def test_tokens_are_advanced_after_a_lost_database(said: Type, database: Database) -> None:
    assert said("--json", "lease", "advance", "--token", "41").result["token"] == 41
    assert database.leases.acquire("clinic/lab", BOB, LONG).token == 42
    assert said("lease", "advance", "--token", "50").code == 3


def finished(database: Database) -> None:
    """A run that stopped half-way."""
    database.runs.begin(a_run(RUN), ["n1"])
    changes = ({"key": "stack/a#update"}, {"key": "group/w#configure"})
    waves = (("stack/a#update",), ("group/w#configure",))
    database.journal.open_round(RUN, Round(number=1, changes=changes, waves=waves))
    outcomes = []
    for wave, fate in zip(waves, ("landed", "failed"), strict=True):
        unit = Unit(run=RUN, round=1, key=wave[0])
        outcome = {"key": wave[0], "fate": fate, "summary": f"it {fate}"}
        outcomes.append(outcome)
        database.journal.started(unit, "desk-1", 1)
        database.journal.finished(unit, 1, outcome)
    report = {"outcomes": outcomes, "stopped": "the budget is spent"}
    database.runs.close(
        replace(
            a_run(RUN), state=RunState.STOPPED, finished_at=a_run(RUN).started_at + LONG, report=report, rest="{}\n"
        )
    )


def test_runs_are_listed_with_what_landed_and_unfinished_ones_say_how_to_go_on(said: Type, database: Database) -> None:
    assert "No runs yet" in said("runs").out
    finished(database)
    database.runs.begin(a_run("20261122T091500-aaaa", token=7), [])
    shown = said("runs").out
    assert "1 failed, 1 landed" in shown
    assert "alice@desk" in shown
    assert "ismgr resume 20261122T091500-aaaa" in shown
    newest, oldest = said("runs", "--json").result["runs"]
    assert (newest["unfinished"], newest["state"], newest["fates"]) == (True, "running", {})
    assert (oldest["unfinished"], oldest["fates"]) == (False, {"failed": 1, "landed": 1})
    assert said("runs", "-n", "1", "--json").result["runs"] == [newest]


def test_a_run_that_somebody_works_on_is_not_called_unfinished(said: Type, database: Database) -> None:
    lease = database.leases.acquire("clinic/lab", BOB, LONG)
    database.runs.begin(a_run(RUN, token=lease.token), [])
    assert said("runs", "--json").result["runs"][0]["unfinished"] is False
    assert "resume" not in said("runs").out
    database.leases.break_("clinic/lab", lease.token)
    assert "ismgr resume" in said("runs").out


def test_a_run_is_shown_round_by_round_with_the_plan_that_it_left(
    said: Type, database: Database, tmp_path: Path
) -> None:
    finished(database)
    shown = said("runs", "show", RUN, "--rest", tmp_path / "rest.json")
    assert shown.code == 0
    assert (tmp_path / "rest.json").read_text() == "{}\n"
    for words in ("round 1", "landed           stack/a#update", "it failed", "the budget is spent", "--rest FILE"):
        assert words in shown.out
    body = said("runs", "show", RUN, "--json").result
    assert (body["state"], body["approvals"], body["rest"]) == ("stopped", 1, True)
    assert [one["fate"] for one in body["steps"]] == ["landed", "failed"]
    assert body["rounds"] == [{"number": 1, "waves": [["stack/a#update"], ["group/w#configure"]]}]


def test_the_plan_of_a_run_can_be_written_to_be_approved_anew(said: Type, database: Database, tmp_path: Path) -> None:
    finished(database)
    assert said("runs", "show", RUN, "--plan", tmp_path / "plan.json").code == 0
    assert (tmp_path / "plan.json").read_text() == database.runs.run(RUN).plan
    refused = said("runs", "show", RUN, "--plan", tmp_path / "nowhere" / "plan.json")
    assert (refused.code, "--plan" in refused.err) == (4, True)


@pytest.mark.parametrize("command", [("runs",), ("runs", "show", RUN), ("lease",)])
def test_whoever_looks_something_up_is_told_that_and_nothing_else(
    said: Type, database: Database, command: tuple[str, ...]
) -> None:
    finished(database)
    assert said(*command).err == ""


def test_an_interrupted_run_shows_what_had_begun(said: Type, database: Database) -> None:
    database.runs.begin(a_run(RUN), [])
    database.journal.open_round(RUN, Round(number=1, changes=(), waves=(("stack/a", "stack/b"),)))
    database.journal.started(Unit(run=RUN, round=1, key="stack/a"), "desk-1", 1)
    shown = said("runs", "show", RUN).out
    assert "begun, not ended stack/a" in shown
    assert "not begun        stack/b" in shown
    assert f"ismgr resume {RUN}" in shown


def test_a_run_that_is_not_there_names_the_nearest_one(said: Type, database: Database, tmp_path: Path) -> None:
    finished(database)
    missing = said("runs", "show", RUN[:-1])
    assert missing.code == 1
    assert RUN in missing.err
    database.runs.begin(a_run("20261122T091500-aaaa"), [])
    assert said("runs", "show", "20261122T091500-aaaa", "--rest", tmp_path / "x").code == 1


def test_a_holder_with_odd_words_is_shown_as_it_is(said: Type, database: Database) -> None:
    database.leases.acquire("clinic/lab", Holder(user="[red]x[/]", host="h", pid=1, started=0.0), timedelta(minutes=1))
    assert "[red]x[/]" in said("lease").out
    assert json.loads(said("lease", "--json").out.splitlines()[-1])
