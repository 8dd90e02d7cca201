"""`ismgr drill tabletop` and `ismgr drill runbook` over a rehearsal: what is typed, kept, and exited with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.cli.drill_table import Table, walk
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import digest
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.ports.memory import MemorySignatures
from ismgr_automation.recovery.tabletop import Answer
from ismgr_automation.reports.runbook import html, markdown, read_mark
from tests.cli.conftest import Say
from tests.drills import Drills, acts, arrive, drills
from tests.papers import blocks
from tests.recovery.test_tabletop import NOON, book

STEPS = (
    *("failover/fence", "failover/promote", "failover/balancers"),
    *("reprotect/out", "reprotect/join", "after/suites"),
    *("failback/demote", "failback/promote", "failback/balancers"),
    *("reprotect-home/join", "after-home/suites"),
)


@pytest.fixture
def site(tmp_path: Path) -> Drills:
    made = drills(tmp_path)
    made.pair.each_tick.append(lambda: arrive(made.pair))
    return made


def notes(site: Drills, outcome: str = "done", remark: str = "''") -> Path:
    lines = [
        f"- {{step: {step}, person: ada, began: 2026-11-27T09:{minute:02}:00Z, ended: 2026-11-27T09:{minute:02}:30Z, "
        f"outcome: {outcome if minute == 4 else 'done'}, remark: {remark if minute == 4 else chr(39) * 2}}}"
        for minute, step in enumerate(STEPS)
    ]
    path = site.folder / "notes.yaml"
    path.write_text("steps:\n" + "\n".join(lines) + "\n")
    return path


def test_notes_of_a_table_are_kept_as_a_drill_and_no_machine_is_touched(site: Drills, say: Say) -> None:
    said = say("--json", "drill", "tabletop", "records", "--people", "ada, bob", "--notes", notes(site))
    assert said.code == ExitCode.DONE, said.err
    assert (said.result["mode"], said.result["verdict"]) == ("tabletop", "passed")
    assert acts(site) == []
    run = said.result["run"]
    shown = say("drill", "report", run).out
    assert "on paper: failover, by ada, bob" in shown
    assert run in say("drill", "history", "records").out
    lines = list(site.evidence.read(run))
    assert b"tabletop of recovery/records by ada, bob: passed" in lines[0]
    assert digest(site.results.kept[run][1]).encode() in lines[-1]
    assert verify(list(site.evidence.read()), Claims(environment="lab"), MemorySignatures()).problems == ()


def test_a_step_that_was_not_possible_is_the_exit_code_of_a_missed_objective(site: Drills, say: Say) -> None:
    path = notes(site, "not-possible", "the passfile is not where the paper says")
    said = say("drill", "tabletop", "records", "--people", "ada", "--notes", path)
    assert said.code == ExitCode.OBJECTIVE_MISSED
    assert "step reprotect/join was not possible: the passfile is not where the paper says" in said.out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("steps: 7\n", "cannot be used: steps"),
        ("steps: [", "are no YAML"),
        ("steps: []\n", "nothing was walked through"),
        ("steps: [{step: a/b, person: ada, began: 2026-11-27T09:00:00Z, ended: x, outcome: done}]\n", "steps.0.ended"),
    ],
)
def test_notes_that_nobody_can_use_are_sent_back(site: Drills, say: Say, text: str, why: str) -> None:
    path = site.folder / "notes.yaml"
    path.write_text(text)
    said = say("drill", "tabletop", "records", "--people", "ada", "--notes", path)
    assert (said.code, why in " ".join(said.err.split())) == (ExitCode.INPUT, True), said.err


def test_without_a_person_at_the_keyboard_notes_are_asked_for(site: Drills, say: Say) -> None:
    said = say("drill", "tabletop", "records", "--people", "ada")
    assert said.code == ExitCode.INPUT
    assert "Give --notes FILE" in said.err


def test_who_is_asked_is_timed_from_the_step_being_shown_to_the_answer() -> None:
    typed: Iterator[str] = iter(["what?", "x", "eve", "bob", "", "the key is lost", "d", "ada", "q"])
    clock: Iterator[datetime] = iter([NOON + timedelta(minutes=minute) for minute in range(10)])
    shown: list[str] = []
    table = Table(show=shown.append, ask=lambda _question, _default: next(typed), now=lambda: next(clock))
    said = walk(book(), ("ada", "bob"), table)
    assert [(one.person, one.answer, one.remark) for one in said] == [
        ("bob", Answer.NOT_POSSIBLE, "the key is lost"),
        ("ada", Answer.DONE, ""),
    ]
    assert [(one.began, one.ended) for one in said] == [
        (NOON, NOON + timedelta(minutes=1)),
        (NOON + timedelta(minutes=2), NOON + timedelta(minutes=3)),
    ]
    assert "One of d, n, x, q." in shown


def test_a_runbook_says_every_step_and_how_it_is_seen_to_have_worked(site: Drills, say: Say, tmp_path: Path) -> None:
    said = say("drill", "runbook", "records")
    assert said.code == ExitCode.DONE, said.err
    found = blocks(said.out)
    assert [one.sees for one in found if one.sees.startswith("POWER")] == ["POWER Off", "POWER On"]
    order = [said.out.index(f" {step.partition('/')[2]}: ") for step in STEPS[:3]]
    assert order == sorted(order)
    assert "confirmed-fence" in said.out
    assert "Ada" in said.out


def test_a_printed_runbook_is_told_to_be_out_of_date_when_what_it_says_has_changed(
    site: Drills, say: Say, tmp_path: Path
) -> None:
    for name in ("book.md", "book.html"):
        assert say("drill", "runbook", "records", "--out", tmp_path / name).code == ExitCode.DONE
        assert say("drill", "runbook", "--check", tmp_path / name).code == ExitCode.DONE
    site.edit("team.yaml", "name: Ada", "name: Eva")
    said = say("--json", "drill", "runbook", "--check", tmp_path / "book.md")
    assert (said.code, said.result["up_to_date"]) == (ExitCode.CHANGES, False)
    (tmp_path / "book.md").write_text("# Groceries\n")
    assert say("drill", "runbook", "--check", tmp_path / "book.md").code == ExitCode.INPUT


def test_a_page_says_the_same_of_itself_and_escapes_what_people_wrote() -> None:
    made = book()
    mark = read_mark(html(made))
    assert mark == read_mark(markdown(made))
    assert (mark.plan, mark.mode, mark.content) == ("records", DrillMode.FAILOVER, made.content)
    assert datetime.now(UTC).isoformat()[:10] not in markdown(made)
