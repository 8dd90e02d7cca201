"""`ismgr report`: from a database and a log to one file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.cli.main import run as ismgr
from ismgr_automation.converge.report import outcome_json
from ismgr_automation.engines.database import open_database
from ismgr_automation.engines.evidence_files import FileEvidenceLog
from ismgr_automation.evidence.chain import line
from ismgr_automation.ports.runs import RunState
from ismgr_automation.reports.story import Story
from tests.cli.conftest import Said
from tests.reports import stories


def keep(folder: Path, story: Story) -> None:
    """Lay a run down where `ismgr apply` keeps it."""
    log = FileEvidenceLog(folder / ".ismgr/evidence", "production")
    log.append(story.run.id, [line(one) for one in story.records])
    log.close()
    database = open_database(f"sqlite:///{folder / '.ismgr/ismgr.db'}")
    database.runs.begin(replace(story.run, state=RunState.RUNNING, finished_at=None, report=None), [])
    for round_ in story.rounds:
        database.journal.open_round(story.run.id, round_)
    for step in story.steps:
        database.journal.started(step.unit, step.executor, story.run.token)
        if step.outcome is not None:
            database.journal.finished(step.unit, story.run.token, step.outcome)
    if story.run.state is not RunState.RUNNING:
        database.runs.close(story.run)
    database.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An estate in Git, with its folder as the working directory."""
    made = tmp_path / "infra"
    assert ismgr(["init", str(made)]) == 0
    for words in (["add", "."], ["commit", "-q", "-m", "Begin"]):
        name = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *name, *words], cwd=made, check=True, timeout=30)
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def say(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def typed(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = ismgr(list(map(str, arguments)))
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return typed


def test_the_newest_run_is_written_as_one_page(say: Callable[..., Said], folder: Path) -> None:
    keep(folder, stories.stopped())
    said = say("report")
    assert said.code == 0, said
    assert f"Stopped, partly applied. The report of run {stories.RUN} is in report-{stories.RUN}.html." in said.out
    page = (folder / f"report-{stories.RUN}.html").read_text()
    assert "max_connections = 400" in page
    assert "What really changed" in page
    assert f"{len(stories.stopped().records)} records, not anchored" in page


def test_one_run_is_written_where_it_is_wanted(say: Callable[..., Said], folder: Path, tmp_path: Path) -> None:
    keep(folder, stories.done())
    said = say("--json", "report", stories.RUN, "--out", tmp_path / "page.html")
    assert said.result == {
        "format": "ismgr.result/1",
        "type": "run-report",
        "run": stories.RUN,
        "out": str(tmp_path / "page.html"),
        "verdict": "Applied",
    }
    assert '<strong id="verdict">Applied</strong>' in (tmp_path / "page.html").read_text()


def test_a_run_that_goes_on_is_told_from_its_journal(say: Callable[..., Said], folder: Path) -> None:
    story = stories.running()
    keep(folder, story)
    assert say("report", "--out", "page.html").code == 0
    page = (folder / "page.html").read_text()
    assert "Not finished" in page
    assert re.search(r"never closed", page)
    ended = [one for one in story.steps if one.outcome is not None]
    assert f"{len(ended)} of 4 changes landed" in page
    assert outcome_json(stories.landed(stories.FIRST[0], 41.7)) == ended[0].outcome


def test_evidence_that_is_not_whole_is_said_on_the_page(say: Callable[..., Said], folder: Path) -> None:
    keep(folder, stories.done())
    [file] = (folder / ".ismgr/evidence/production").glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"changed":2', b'"changed":9', 1))
    assert say("report", "--out", "page.html").code == 0
    page = (folder / "page.html").read_text()
    assert "one of them was altered" in page
    assert re.search(r'class="tile bad"><div class="label">Evidence</div><div class="value">broken<', page)


def test_a_run_that_is_not_there_is_refused(say: Callable[..., Said], folder: Path) -> None:
    assert say("report").code == 1
    keep(folder, stories.done())
    said = say("report", f"{stories.RUN}x")
    assert said.code == 1
    assert stories.RUN in said.err


def test_a_page_that_cannot_be_written_says_where_it_could_be(say: Callable[..., Said], folder: Path) -> None:
    keep(folder, stories.done())
    said = say("report", "--out", "no/such/folder/page.html")
    assert said.code == 1
    assert "--out" in said.err
