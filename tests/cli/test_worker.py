"""`ismgr worker` on the command line: what it takes, what it says, how it ends. What it does with units is tested with
real processes in tests/runs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from ismgr_automation.core.errors import ExitCode
from ismgr_automation.engines.database import open_database
from ismgr_automation.engines.steps import fitness
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Run
from tests.cli.conftest import Say
from tests.rehearsal import Rehearsal

HOLDER = Holder(user="ana", host="desk", pid=1, started=0.0)
RUN = "20261122T081500-3f9a"


def left_run(site: Rehearsal) -> None:
    """A run in the ledger whose coordinator is gone, and whose plan cannot be read."""
    database = open_database(f"sqlite:///{site.folder}/.ismgr/ismgr.db", estate="two-sites")
    lease = database.leases.acquire("two-sites/lab", HOLDER, timedelta(seconds=30))
    database.runs.begin(
        Run(
            id=RUN,
            estate="two-sites",
            environment="lab",
            digest="",
            purpose="apply",
            commit="c",
            plan="{}",
            token=lease.token,
            holder=HOLDER,
            started_at=datetime.now(UTC),
        ),
        [],
    )
    database.leases.release(lease)
    database.close()


def test_a_worker_that_finds_nothing_to_do_ends_when_told_to_do_so_once(say: Say) -> None:
    said = say("worker", "--once")
    assert (said.code, said.out) == (0, "0 units ended here.\n")
    assert "waiting for runs of lab" in said.err


def test_a_machine_gets_events_and_a_result(say: Say) -> None:
    said = say("--json", "worker", "--once")
    assert said.result == {
        "format": "ismgr.result/1",
        "type": "worker",
        "exit_code": 0,
        "done": 0,
        "given_up": [],
        "resumed": [],
    }


def test_an_idle_worker_makes_no_rows_and_loads_no_dbos(site: Rehearsal, say: Say) -> None:
    say("worker", "--once")
    assert not list(site.folder.rglob("*-steps.db"))
    code = "import sys, ismgr_automation.cli.worker, ismgr_automation.runs.worker; assert 'dbos' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_sqlite_that_cannot_keep_steps_ends_a_worker_before_it_waits_for_runs(
    site: Rehearsal, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness.check, "__defaults__", ((3, 12), (3, 40, 1)))
    said = say("worker", "--once")
    assert said.code == ExitCode.ENGINE
    assert "SQLite 3.40.1" in said.err
    assert "PostgreSQL" in said.err
    assert "waiting for runs" not in said.err
    assert not list(site.folder.rglob("*.db"))


def test_a_run_that_cannot_be_taken_over_is_said_and_left(site: Rehearsal, say: Say) -> None:
    left_run(site)
    said = say("worker", "--once")
    assert said.code == 0
    assert f"takes over run {RUN}, which ana@desk (pid 1) left" in said.err
    assert f"waits run {RUN} was not taken over:" in said.err


def test_a_run_that_is_not_there_is_an_error_that_names_a_near_one(site: Rehearsal, say: Say) -> None:
    left_run(site)
    said = say("worker", "--for", RUN.replace("3f9a", "3f9b"))
    assert said.code == 1
    assert RUN in said.err


def test_a_time_that_is_none_is_an_error(say: Say) -> None:
    said = say("worker", "--grace", "soon")
    assert said.code == 1
    assert "'soon' is no time" in said.err


def test_help_shows_examples(say: Say) -> None:
    said = say("worker", "--help", at=False)
    assert said.code == 0
    assert "ismgr worker --once" in said.out
