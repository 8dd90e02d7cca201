"""`ismgr drill report | finding | state` over a rehearsal: what a person types, what is written, and what the exit code
says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import ExitCode
from ismgr_automation.recovery.result import FORMAT, Outage, Span, read_result, result_json
from tests.cli.conftest import Say
from tests.drills import Drills, arrive, drills, result


@pytest.fixture
def site(tmp_path: Path) -> Drills:
    made = drills(tmp_path)
    made.pair.each_tick.append(lambda: arrive(made.pair))
    return made


def measured(say: Say, *words: str) -> str:
    """The run of a drill."""
    run: str = say("--json", "drill", "run", "records", "--yes", *words).result["run"]
    return run


def past(site: Drills, *figures: float, load: float | None = None) -> None:
    """Drills of days before, like the last one but with other outages."""
    last = result(site)
    for days, ms in enumerate(figures, start=1):
        began = last.began_at - timedelta(days=days)
        outages = (Outage(leg="switchover", outage_ms=ms, resolution_ms=5.0),)
        average = last.load_average if load is None else (load, load, load)
        one = replace(last, run=f"{began:%Y%m%dT%H%M%S}-0000", began_at=began, outages=outages, load_average=average)
        site.results.keep(one.run, one.plan, result_json(one))


def test_a_report_says_how_a_drill_stands_to_those_before_it_and_to_standards(site: Drills, say: Say) -> None:
    run = measured(say)
    past(site, 44.0, 45.0, 47.0)
    said = say("drill", "report", run)
    assert said.code == ExitCode.DONE, said.err
    text = " ".join(said.out.split())
    assert "adds up to 46.0 of 46.0 ms, 0.0 ms unexplained: within 5%" in text
    assert "no worse: clients waited 46 ms, 2 % more than the median of 3 drills before it, 45 ms" in text
    assert "HIPAA withheld" in text
    assert "not proven by evidence" in text
    told = say("--json", "drill", "report", run).result
    assert told["trend"]["rto_ms"] == {"low": 44.0, "median": 45.0, "high": 47.0, "count": 3}
    assert told["standards"]["GDPR"]["missing"] == {"comparison": ["when the next one is due"]}
    assert read_result({**told, "format": FORMAT}) == result_of(site, run)


def result_of(site: Drills, run: str) -> object:
    return read_result(site.results.kept[run][1])


def test_a_page_and_a_pdf_are_written_and_named(site: Drills, say: Say) -> None:
    run = measured(say, "--mode", "failover")
    page, paper = site.folder / "drill.html", site.folder / "drill.pdf"
    said = say("--json", "drill", "report", run, "--html", page, "--pdf", paper)
    assert said.code == ExitCode.DONE, said.err
    assert said.result["written"] == [str(page), str(paper)]
    assert f"<dd>{run}" in page.read_text() or run in page.read_text()
    assert paper.read_bytes().startswith(b"%PDF-")
    refused = say("drill", "report", run, "--html", site.folder / "no" / "drill.html")
    assert (refused.code, "cannot be written" in refused.err) == (ExitCode.INPUT, True)


def test_a_drill_that_became_slower_has_the_exit_code_of_a_missed_objective(site: Drills, say: Say) -> None:
    first = measured(say)
    past(site, 10.0, 10.5, 11.0)
    said = say("drill", "report", "--gate")
    assert (said.code, "worse: clients waited 46 ms" in " ".join(said.out.split())) == (6, True)
    assert say("drill", "report").code == ExitCode.DONE, "who only looks is not stopped"
    del site.results.kept[first]
    again = say("--json", "drill", "run", "records", "--yes")
    assert (again.code, again.result["trend"]["worse"], again.result["verdict"]) == (6, True, "passed")


def test_a_drill_that_is_slower_than_most_and_not_than_all_is_noise(site: Drills, say: Say) -> None:
    measured(say)
    past(site, 30.0, 45.0, 31.0)
    said = say("drill", "report", "--gate")
    assert said.code == ExitCode.DONE
    assert "no worse than chance explains: clients waited 46 ms" in " ".join(said.out.split())


def test_a_drill_at_another_load_is_not_called_slower(site: Drills, say: Say) -> None:
    measured(say)
    past(site, 10.0, 10.5, 11.0, load=90.0)
    said = say("drill", "report", "--gate")
    assert said.code == ExitCode.DONE
    assert "the load was too different" in " ".join(said.out.split())


def test_findings_and_statements_stand_in_every_report_and_need_somebody_who_is_known(site: Drills, say: Say) -> None:
    run = measured(say)
    finding = ("drill", "finding", run, "--text", "The runbook is old", "--due", "2026-12-24", "--owner")
    assert say(*finding, "Ada", "--cause", "nobody read it").code == ExitCode.DONE
    stranger = say(*finding, "Adda")
    assert (stranger.code, "Did you mean Ada?" in stranger.err) == (ExitCode.INPUT, True)
    assert say("drill", "state", run, "observers", "--text", "Eve, audit", "--person", "Ada").code == ExitCode.DONE
    assert say("drill", "state", run, "observers", "--text", "Eve", "--person", "Mallory").code == ExitCode.INPUT
    notes = say("--json", "drill", "report", run).result["notes"]
    assert [(one["type"], one["text"]) for one in notes] == [
        ("finding", "The runbook is old"),
        ("statement", "Eve, audit"),
    ]
    out = " ".join(say("drill", "report", run).out.split())
    assert "finding The runbook is old (Ada, due 2026-12-24)" in out
    assert "observers: Eve, audit (Ada)" in out
    page = site.folder / "drill.html"
    say("drill", "report", run, "--html", page)
    assert "The runbook is old" in page.read_text()


WRONG = {
    "no such drill": (
        ("finding", "yesterday", "--text", "x", "--owner", "Ada", "--due", "2026-12-24"),
        "no drill yest",
    ),
    "no date": (("finding", "RUN", "--text", "x", "--owner", "Ada", "--due", "Christmas"), "is no date"),
    "nothing to say": (("finding", "RUN", "--text", " ", "--owner", "Ada", "--due", "2026-12-24"), "nothing in --text"),
    "no topic": (("state", "RUN", "weather", "--text", "x", "--person", "Ada"), "weather"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_written_down_is_refused(name: str, site: Drills, say: Say) -> None:
    words, told = WRONG[name]
    run = measured(say)
    said = say("drill", *(run if one == "RUN" else one for one in words))
    assert (said.code, told in said.err) == (ExitCode.INPUT, True), said.err
    assert site.results.noted == []


def test_a_drill_that_was_broken_off_has_a_report_as_any_other(site: Drills, say: Say) -> None:
    site.pair.liars.add("db1")
    said = say("--json", "drill", "run", "records", "--mode", "failover", "--yes")
    run = json.loads(json.dumps(said.result))["run"] if "run" in said.result else result(site).run
    page, paper = site.folder / "drill.html", site.folder / "drill.pdf"
    assert say("drill", "report", run, "--html", page, "--pdf", paper).code == ExitCode.DONE
    assert "Invalid" in page.read_text()
    assert say("drill", "report", run, "--gate").code == ExitCode.OBJECTIVE_MISSED


WEEKLY = """\
---
kind: DrillSchedule
name: weekly
plan: records
time_zone: UTC
start: 2026-01-04T10:00:00
rule: FREQ=WEEKLY;BYDAY=SU
within: 3h
"""


def test_when_the_next_drill_is_due_is_known_from_its_schedule(site: Drills, say: Say) -> None:
    site.files["schedule.yaml"] = WEEKLY.removeprefix("---\n")
    measured(say)
    past(site, 44.0, 45.0, 47.0)
    page = site.folder / "drill.html"
    told = say("--json", "drill", "report", "--html", page).result
    assert told["standards"]["GDPR"] == {
        "complete": True,
        "covered": ["rpo", "effects", "comparison"],
        "missing": {},
    }
    assert "10:00 UTC, switchover, by weekly." in page.read_text()


def test_what_comes_again_between_steps_is_one_line_of_the_waterfall(site: Drills, say: Say) -> None:
    run = measured(say)
    spans = [Span(name=name, began_ms=at, ended_ms=at + 1.0) for at, name in enumerate(("demote", "journal") * 3)]
    outage = replace(result(site).outages[0], outage_ms=6.0, waterfall=tuple(spans))
    site.results.keep(run, "records", result_json(replace(result(site), outages=(outage,))))
    rows = [line.split()[:3] for line in say("drill", "report", run).out.splitlines() if "█" in line]
    assert rows == [["demote", "3.0", "ms"], ["journal", "3.0", "ms"]]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.9, "Without redundancy for 0.9 s."), (None, "Without redundancy: not measured.")]
)
def test_a_time_without_redundancy_that_nobody_measured_is_no_number(
    site: Drills, say: Say, seconds: float | None, words: str
) -> None:
    assert say("drill", "run", "records", "--yes").code == ExitCode.DONE
    kept = replace(result(site), without_redundancy_s=seconds)
    site.results.keep(kept.run, kept.plan, result_json(kept))
    assert words in say("drill", "report").out
    assert say("--json", "drill", "report").result["without_redundancy_s"] == seconds
