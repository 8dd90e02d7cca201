"""What is told of patch runs: pages, evidence, files of plans, and the front door."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ismgr_automation.core.errors import OutsideWindow, StalePlan
from ismgr_automation.evidence.chain import parse
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.runs import RunState
from ismgr_automation.reports.html import render
from ismgr_automation.reports.story import Proof, Story
from tests.converge.patched import NEW, OLD, offer, package, patch, patched, roll_back, today, versions
from tests.rehearsal import NOON, Rehearsal


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return patched(tmp_path)


def story(site: Rehearsal) -> Story:
    """What is known of the newest run."""
    known = site.runs.runs()[0]
    return Story(
        run=known,
        plan=read(known.plan, "run"),
        rounds=site.journal.rounds(known.id),
        steps=site.journal.steps(known.id),
        records=tuple(parse(line) for line in site.evidence.read(known.id)),
        proof=Proof(whole=True, closed=True),
        now=NOON,
    )


def shown(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))


def test_the_page_of_a_run_shows_what_was_installed_where(clinic: Rehearsal) -> None:
    assert patch(clinic).ok
    text = shown(render(story(clinic)))
    for words in ("Patched", "baseline/all", "tool:amd64", OLD, NEW, "web1"):
        assert words in text, words


def test_the_page_of_a_way_back_says_so(clinic: Rehearsal) -> None:
    assert roll_back(clinic, patch(clinic).run).ok
    assert "Rolled back" in shown(render(story(clinic)))


def test_the_page_of_a_run_that_stopped_says_why(clinic: Rehearsal) -> None:
    clinic.world.unhealthy.add("web1")
    patch(clinic)
    text = shown(render(story(clinic)))
    assert "Stopped, partly applied" in text
    assert "web1 is back at the former versions" in text


def test_evidence_of_patch_runs_names_what_was_done(clinic: Rehearsal) -> None:
    patch(clinic)
    roll_back(clinic, clinic.runs.runs()[0].id)
    lines = list(clinic.evidence.read())
    text = json.dumps([parse(line).body for line in lines])
    assert "baseline/all#1" in text
    assert '"purpose": "rollback"' in text


@pytest.mark.parametrize("purpose", ["patch", "rollback"])
def test_the_front_door_plans_applies_and_refuses(clinic: Rehearsal, purpose: str) -> None:
    with clinic.open() as estate:
        first = estate.plan_patch()
        report = estate.apply(first)
        assert report.ok, report.stopped
        if purpose == "rollback":
            back = estate.plan_rollback(report.run)
            assert estate.apply(back).ok
            assert set(versions(clinic).values()) == {OLD}
    assert all(one.state is RunState.DONE for one in clinic.runs.runs())


def test_a_refusal_is_on_record(clinic: Rehearsal) -> None:
    with clinic.open() as estate:
        planned = estate.plan_patch()
        clinic.packages.machines["web2"].installed["tool"] = package("1.0-2")
        with pytest.raises(StalePlan):
            estate.apply(planned)
    (record,) = [parse(line) for line in clinic.evidence.read()]
    assert record.body["reason"] == "stale-plan"
    assert "tool:amd64 on web2" in str(record.body["summary"])


def test_a_window_that_is_closed_is_a_refusal_on_record(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", "rings:", "windows: [nights]\nrings:")
    clinic.files["window.yaml"] = (
        "kind: MaintenanceWindow\nname: nights\ntime_zone: UTC\nstart: 2020-01-01T00:00:00\nduration: 3h\n"
    )
    with clinic.open() as estate:
        planned = estate.plan_patch()
        with pytest.raises(OutsideWindow):
            estate.apply(planned)
    (record,) = [parse(line) for line in clinic.evidence.read()]
    assert record.body["reason"] == "outside-window"


def test_a_plan_survives_its_file_with_all_that_it_depends_on(clinic: Rehearsal) -> None:
    planned = today(clinic)
    again = read(write(planned), "file")
    assert (again.digest, again.day, again.absent, again.purpose) == (
        planned.digest,
        planned.day,
        planned.absent,
        planned.purpose,
    )
    clinic.packages.repository.append(offer("9.0-1"))
    assert patch(clinic, again).ok
