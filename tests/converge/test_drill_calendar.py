"""The calendar of drills against what was done: whose time a run was, which times count, and what the evidence says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.converge.drill_calendar import coming, due, for_occasion, record_skip
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.timing import refuse_outside
from ismgr_automation.core.errors import OutsideWindow
from ismgr_automation.core.events import DrillMeasured
from ismgr_automation.core.windows import Occurrence
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.memory import Death, Killed, MemorySignatures
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.result import DrillResult, Goals, Verdict, read_result, result_json
from ismgr_automation.recovery.schedule import State, Turn
from tests.bubbles import isolated
from tests.drills import Drills, arrive, drill, drills, plan, result

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""A Sunday, two hours after a time of the schedule."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCHEDULE = """\
kind: DrillSchedule
name: weekly
plan: records
time_zone: UTC
start: 2026-01-04T10:00:00
rule: FREQ=WEEKLY;BYDAY=SU
within: 3h
"""
CALENDAR = """\
---
kind: MaintenanceWindow
name: nights
time_zone: UTC
calendar: nights.ics
"""


@pytest.fixture
def clinic(tmp_path: Path) -> Drills:
    """A schedule that was committed three weeks ago."""
    site = drills(tmp_path)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.files["schedule.yaml"] = SCHEDULE
    site.committed["schedule.yaml"] = NOON - 20 * DAY
    return site


def turns(site: Drills, now: datetime = NOON) -> Sequence[Turn]:
    return due(site.scope(), now).turns


def test_a_run_that_dies_and_is_resumed_keeps_what_it_was_begun_for(clinic: Drills) -> None:
    (turn,) = due(clinic.scope(), NOON).due
    planned = for_occasion(plan(clinic, DrillMode.SWITCHOVER), turn.slot)
    assert read(write(planned), "a file") == planned
    assert planned.digest == plan(clinic, DrillMode.SWITCHOVER).digest
    clinic.death = Death(nth=4)
    with pytest.raises(Killed):
        clinic.apply(planned)
    # its time is over meanwhile: it was not skipped, and nothing else is begun
    (run,) = clinic.runs.runs()
    found = due(clinic.scope(), NOON + DAY).turns[-1]
    assert (found.state, found.reason) == (State.BEGUN, f"run {run.id} is not ended")
    assert clinic.resume().ok
    found = result(clinic)
    assert (found.verdict, found.schedule, found.occurrence) == (Verdict.PASSED, "weekly", NOON - 2 * HOUR)
    assert turns(clinic)[-1].state is State.DONE


def test_a_drill_that_a_person_began_belongs_to_no_schedule(clinic: Drills) -> None:
    assert drill(clinic, DrillMode.SWITCHOVER).ok
    assert (result(clinic).schedule, result(clinic).occurrence) == ("", None)
    assert turns(clinic)[-1].state is State.DUE


def test_times_count_from_the_commit_of_the_schedule_or_from_its_last_record(clinic: Drills) -> None:
    assert [one.state for one in turns(clinic)] == [State.SKIPPED, State.SKIPPED, State.DUE]
    clinic.committed["schedule.yaml"] = NOON - HOUR
    assert [one.state for one in turns(clinic)] == [State.DUE]
    clinic.committed.clear()
    assert [one.state for one in turns(clinic)] == [State.DUE]
    # the file was changed an hour ago, and the schedule is older: it has a record of two weeks ago
    clinic.committed["schedule.yaml"] = NOON - HOUR
    old = NOON - 14 * DAY - 2 * HOUR
    keep(clinic, old)
    assert [one.state for one in turns(clinic)] == [State.DONE, State.SKIPPED, State.DUE]


def test_nobody_is_asked_for_what_was_more_than_a_year_ago(clinic: Drills) -> None:
    clinic.committed["schedule.yaml"] = NOON - 3000 * DAY
    later = NOON + 3000 * DAY
    assert len(turns(clinic, later)) == 52


def keep(site: Drills, at: datetime, verdict: Verdict = Verdict.PASSED) -> DrillResult:
    if not site.results.kept:
        assert drill(site, DrillMode.SWITCHOVER).ok
    one = replace(result(site), run=f"{at:%Y%m%dT%H%M%S}-0000", verdict=verdict, schedule="weekly", occurrence=at)
    site.results.kept.clear()
    site.results.keep(one.run, one.plan, result_json(one))
    return one


def test_two_controllers_write_one_record_of_what_was_skipped(clinic: Drills) -> None:
    for _ in range(2):
        for one in due(clinic.scope(), NOON).unrecorded:
            record_skip(clinic.scope(), one, NOON)
    first, second = (read_result(one) for one in reversed(clinic.results.results()))
    assert (first.began_at, second.began_at) == (NOON - 14 * DAY - 2 * HOUR, NOON - 7 * DAY - 2 * HOUR)
    assert {first.verdict, second.verdict, *first.verdicts.values()} == {Verdict.SKIPPED}
    assert (first.plan, first.service, first.home, first.away) == ("records", "records", "", "")
    assert (first.goals.rto, first.ended_at) == (0.2, first.began_at + 3 * HOUR)
    # who looked at the same time, and did not see the record of the other, does nothing
    again = replace(due(clinic.scope(), NOON).turns[0], result=None)
    assert record_skip(clinic.scope(), again, NOON + HOUR) == first
    lines = list(clinic.evidence.read())
    assert len(lines) == 4
    assert len([one for one in clinic.events if isinstance(one, DrillMeasured)]) == 2
    audit = verify(lines, Claims(environment="lab"), MemorySignatures())
    assert audit.problems == ()
    assert [(one.run, one.closed) for one in audit.runs] == [(first.run, True), (second.run, True)]
    # who died between the evidence and the result does the rest
    clinic.results.kept.clear()
    assert record_skip(clinic.scope(), again, NOON + HOUR).run == first.run
    assert len(list(clinic.evidence.read())) == 4


def test_the_record_of_a_skipped_restore_has_the_objectives_of_the_backup(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", "failover:\n", "backup: {stanza: records, fresh: 15m, rto: 10m}\nfailover:\n")
    clinic.edit("recovery.yaml", "sites:", "objectives: {rto: 2s, rpo: 0s, mtd: 1h}\nsites:")
    clinic.files["schedule.yaml"] += "mode: restore\n"
    first = record_skip(clinic.scope(), due(clinic.scope(), NOON).unrecorded[0], NOON)
    assert (first.mode, first.goals) == (DrillMode.RESTORE, Goals(rto=600.0, rpo=900.0, mtd=3600.0))


def test_a_run_that_nobody_closed_had_the_lease_until_the_next_one_at_most(clinic: Drills) -> None:
    assert drill(clinic, DrillMode.SWITCHOVER).ok
    (known,) = clinic.runs.rows.values()
    clinic.runs.rows.clear()
    slot = NOON - 7 * DAY - 2 * HOUR
    for name, began in (("dead", slot - HOUR), ("later", slot + HOUR)):
        clinic.runs.rows[name] = replace(
            known, id=name, started_at=began, finished_at=None, state=RunState.RUNNING, purpose="apply"
        )
    reasons = [one.reason for one in due(clinic.scope(), NOON).unrecorded]
    assert "nobody asked what was due" in reasons[0]
    assert "run dead (apply) had the lease from 2026-02-22 09:00+00:00 until 2026-02-22 11:00+00:00" in reasons[1]


def test_the_names_of_records_sort_among_runs_by_their_time(clinic: Drills) -> None:
    one, other = (record_skip(clinic.scope(), turn, NOON) for turn in due(clinic.scope(), NOON).unrecorded)
    assert one.run.startswith("20260215T100000-")
    assert one.run < other.run < "20260301T120000-0000"


def test_a_calendar_reads_windows_as_they_were_and_as_they_will_be(clinic: Drills) -> None:
    clinic.files["schedule.yaml"] += CALENDAR
    clinic.files["nights.ics"] = "BEGIN:VCALENDAR\nEND:VCALENDAR\n"
    clinic.files["recovery.yaml"] += "windows: [nights]\n"
    last, coming_up = NOON - 7 * DAY - 3 * HOUR, NOON + 7 * DAY - 3 * HOUR
    events = [Occurrence(begins=one, ends=one + 6 * HOUR) for one in (last, coming_up)]
    clinic.calendar = lambda known: replace(known, events={"nights": events})
    found = coming(clinic.scope(), NOON, (NOON - 21 * DAY, NOON + 10 * DAY))
    assert [(one.state, bool(one.bans)) for one in found] == [
        (State.SKIPPED, False), (State.SKIPPED, False), (State.FORBIDDEN, True), (State.AHEAD, False)
    ]  # fmt: skip
    forbidden, missed = (one.reason for one in found[:2])
    assert "window/nights is closed" in forbidden
    assert "nobody asked what was due" in missed


def test_records_outlive_their_schedule(clinic: Drills) -> None:
    kept = keep(clinic, NOON - 7 * DAY)
    found = coming(clinic.scope(), NOON, (NOON - 10 * DAY, NOON))
    assert [one.result and one.result.run for one in found if one.state is State.DONE] == [kept.run]
    assert coming(clinic.scope(), NOON, (NOON - 2 * DAY, NOON - DAY)) == ()


SHUT = """\
kind: MaintenanceWindow
name: saturdays
time_zone: UTC
start: 2026-01-03T01:00:00
rule: FREQ=WEEKLY;BYDAY=SA
duration: 2h
"""
FREEZE = """\
kind: Freeze
name: move
reason: racks move
owner: platform
selector: SELECTOR
begins: 2026-03-01T00:00:00Z
ends: 2026-03-02T00:00:00Z
"""
BACKUP = """\
backup:
  stanza: records
  restore_on: spares
  files: [{name: documents, group: webs}]
"""
WEB = """\
- name: web1
  address: 192.0.2.14
  labels: {role: web}
  bmc: {address: "https://bmc-web1.example", username: admin, password: {secret: "env:APP"}}
"""
LIVE = frozenset({DrillMode.SWITCHOVER, DrillMode.FAILOVER})
NOT_NOW = {
    "a window of the plan that is shut": ("windows: [saturdays]\n", "", LIVE),
    "the same, wanted in isolation": ("  in_windows: true\nwindows: [saturdays]\n", "", LIVE | {DrillMode.ISOLATED}),
    "a freeze of the primary": ("", 'host.site == "dc1" && host.labels.role == "db"', LIVE),
    "a freeze of the standby": ("", 'host.site == "dc2" && host.labels.role == "db"', LIVE | {DrillMode.RESTORE}),
    "a freeze of the spare host": ("", 'host.labels.role == "spare"', {DrillMode.ISOLATED, DrillMode.RESTORE}),
    "a freeze of the gateway": ("", 'host.site == "dc2" && host.labels.role == "gw"', {DrillMode.ISOLATED}),
    "a freeze of a gateway that is not closed": ("", 'host.site == "dc1" && host.labels.role == "gw"', set()),
    "a freeze of who has the files": ("", 'host.site == "dc1" && host.labels.role == "web"', {DrillMode.RESTORE}),
    "a freeze of balancers": ("", 'host.labels.role == "lb"', set()),
    "a freeze of everybody": ("", '"true"', frozenset(DrillMode) - {DrillMode.RETURN}),
}
"""What stands in the recovery plan, whom a freeze is for, and which drills that holds up."""


@pytest.fixture
def spared(tmp_path: Path) -> Drills:
    """With a bubble and a backup, and every host in a Site document."""
    site = isolated(tmp_path)
    site.files["recovery.yaml"] += BACKUP
    one, two = site.files["sites.yaml"].split("---\n")
    for host in ("db1", "db2", "gw1", "gw2", "spare1"):
        named = f"- name: {host}\n"
        one, two = (text.replace(named, f"{named}  labels: {{role: {host[:-1]}}}\n") for text in (one, two))
    site.files["sites.yaml"] = f"{one}{WEB}---\n{two}"
    return site


@pytest.mark.parametrize("mode", [one for one in DrillMode if one is not DrillMode.RETURN])
@pytest.mark.parametrize("case", NOT_NOW)
def test_the_calendar_forbids_what_the_drill_itself_would_refuse_and_nothing_else(
    spared: Drills, case: str, mode: DrillMode
) -> None:
    text, selector, held_up = NOT_NOW[case]
    spared.files["recovery.yaml"] = spared.files["recovery.yaml"].replace("backup:\n", f"{text}backup:\n")
    spared.files["window.yaml"] = SHUT
    if selector:
        spared.files["freeze.yaml"] = FREEZE.replace("SELECTOR", selector)
    spared.files["schedule.yaml"] = SCHEDULE + f"mode: {mode}\n"
    scope = spared.scope()
    planned = plan(spared, mode, NOON)
    try:
        refuse_outside(planned, scope, whole_ground(scope).fleet, NOON)
        refused = False
    except OutsideWindow:
        refused = True
    assert refused == (mode in held_up)
    assert turns(spared)[-1].state is (State.FORBIDDEN if refused else State.DUE)


def test_what_forbids_a_drill_is_asked_of_the_hosts_of_its_cluster(clinic: Drills) -> None:
    freeze = (
        "---\nkind: Freeze\nname: move\nreason: racks move\nowner: platform\nselector: host.name == 'NAME'\n"
        "begins: 2026-03-01T00:00:00Z\nends: 2026-03-02T00:00:00Z\n"
    )
    clinic.edit("sites.yaml", "  address: 192.0.2.10\n", "  address: 192.0.2.10\n  labels: {role: db}\n")
    clinic.files["freeze.yaml"] = freeze.replace("NAME", "db1.dc1").removeprefix("---\n")
    assert turns(clinic)[-1].state is State.FORBIDDEN
    clinic.files["freeze.yaml"] = freeze.replace("NAME", "web1.dc1").removeprefix("---\n")
    assert turns(clinic)[-1].state is State.DUE
