"""`ismgr drill due`, `calendar` and `units` over a rehearsal: what a timer starts, what an auditor sees, what is not
done."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.cli.drill_units import SERVICE, TIMER
from ismgr_automation.core.errors import EngineFailed, ExitCode
from ismgr_automation.core.json import digest
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.result import DrillResult, Verdict, read_result, result_json
from tests.cli.conftest import Say
from tests.drills import Drills, acts, arrive, drills, is_home

NOW = datetime.now(UTC).replace(microsecond=0)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILJx7cq0d5VNOKEgtBiQRGm4tWgnLkJMVLvEUdLUsnYS ada"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def schedule(start: datetime, name: str = "monthly", **more: str) -> str:
    body = {"plan": "records", "time_zone": "UTC", "start": f"{start:%Y-%m-%dT%X}", "within": "12h", **more}
    return f"---\nkind: DrillSchedule\nname: {name}\n" + "".join(f"{key}: {value}\n" for key, value in body.items())


@pytest.fixture
def site(tmp_path: Path) -> Drills:
    """One time came an hour ago, the one before it yesterday; the schedule is as old as the hills."""
    made = drills(tmp_path)
    made.pair.each_tick.append(lambda: arrive(made.pair))
    made.files["schedules.yaml"] = schedule(NOW - DAY - HOUR, rule="FREQ=DAILY")
    made.committed["schedules.yaml"] = NOW - 30 * DAY
    return made


def results(site: Drills) -> list[DrillResult]:
    """All that is kept, the oldest first."""
    return sorted(map(read_result, site.results.results()), key=lambda one: one.began_at)


def evidence(site: Drills) -> list[str]:
    """What findings in the evidence say of skipped drills."""
    records = [parse(line) for line in site.evidence.read()]
    told = [str(one.body["summary"]) for one in records if one.kind is Kind.FINDING]
    return [one for one in told if " skipped: " in one]


def freeze(begins: datetime, ends: datetime) -> str:
    return (
        "---\nkind: Freeze\nname: quarter\nreason: books are closed\nowner: platform\n"
        f"begins: {begins.isoformat()}\nends: {ends.isoformat()}\n"
    )


def test_what_is_due_is_told_and_nothing_is_done(site: Drills, say: Say) -> None:
    said = say("drill", "due")
    assert said.code == ExitCode.CHANGES, said.err
    assert "switchover of records" in said.out
    assert "not on record yet" in said.out
    assert (acts(site), results(site), evidence(site)) == ([], [], [])
    told = say("--json", "drill", "due", "monthly").result
    assert [one["state"] for one in told["turns"]] == ["skipped", "due"]
    assert told["next"]["monthly"]["at"] == (NOW - HOUR + DAY).isoformat()
    assert told["exit_code"] == ExitCode.CHANGES


def test_what_is_due_is_carried_out_once_and_what_was_missed_is_on_record(site: Drills, say: Say) -> None:
    said = say("--json", "drill", "due", "--run")
    assert said.code == ExitCode.DONE, said.err
    assert said.result["type"] == "drills-due"
    assert is_home(site)
    skipped, passed = results(site)
    assert (skipped.verdict, skipped.schedule, skipped.occurrence) == (Verdict.SKIPPED, "monthly", NOW - DAY - HOUR)
    assert "nobody asked what was due" in skipped.reasons[0]
    assert said.result["recorded"] == [skipped.run]
    assert (passed.verdict, passed.schedule, passed.occurrence) == (Verdict.PASSED, "monthly", NOW - HOUR)
    (told,) = evidence(site)
    assert told.startswith("switchover drill of schedule/monthly at ")
    assert "skipped switchover of records: not begun" in say("drill", "report", skipped.run).out
    again = say("drill", "due", "--run")
    assert again.code == ExitCode.DONE
    assert "passed" in again.out
    assert (len(results(site)), len(evidence(site))) == (2, 1)


def test_the_evidence_holds_the_digest_of_the_result_with_its_occasion(site: Drills, say: Say) -> None:
    assert say("drill", "due", "--run").code == ExitCode.DONE
    text = b"\n".join(site.evidence.read()).decode()
    for one in results(site):
        assert digest(result_json(one)) in text


def test_a_plan_that_is_resumed_knows_what_it_was_begun_for(site: Drills, say: Say) -> None:
    assert say("drill", "due", "--run").code == ExitCode.DONE
    (run,) = site.runs.rows.values()
    assert json.loads(run.plan)["beside"]["occasion"] == {"schedule": "monthly", "at": (NOW - HOUR).isoformat()}


def test_two_due_drills_run_one_after_another(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - HOUR) + schedule(NOW - HOUR / 2, "failovers", mode="failover")
    assert say("drill", "due", "--run").code == ExitCode.DONE
    assert [(one.schedule, str(one.mode)) for one in results(site)] == [
        ("monthly", "switchover"),
        ("failovers", "failover"),
    ]


def test_the_first_drill_that_does_not_pass_is_the_exit_code(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - HOUR) + schedule(NOW - HOUR / 2, "failovers", mode="failover")
    site.edit("service.yaml", "rto: 200ms", "rto: 50ms")
    assert say("drill", "due", "--run").code == ExitCode.OBJECTIVE_MISSED
    assert len(results(site)) == 2


def test_after_a_drill_that_broke_no_other_is_begun(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - HOUR) + schedule(NOW - HOUR / 2, "failovers", mode="failover")
    site.pair.faults["rejoin db1"] = EngineFailed("The engine fell over.", engine="postgresql", next_step="Look.")
    assert say("drill", "due", "--run").code == ExitCode.PARTLY_APPLIED
    assert [one.schedule for one in results(site)] == ["monthly"]


def test_what_is_refused_is_on_record_with_its_reason_and_not_tried_again(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - HOUR)
    site.pair.kill("db2")
    said = say("drill", "due", "--run")
    assert said.code == ExitCode.REFUSED
    assert acts(site) == []
    (one,) = results(site)
    assert one.verdict is Verdict.SKIPPED
    assert one.reasons[0].startswith("refused before anything was touched: ")
    assert say("drill", "due", "--run").code == ExitCode.DONE
    assert len(results(site)) == len(evidence(site)) == 1


def test_approvals_that_are_missing_are_a_refusal_on_record(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - HOUR)
    rule = 'evidence: {runner_key: {secret: "env:RUNNER"}}, plan_lifetime: 7d'
    site.edit("estate.yaml", rule, rule + ", approvals: [{count: 1}]")
    site.edit("team.yaml", "roles: [approver]", f"roles: [approver], ssh_keys: [{KEY}]")
    said = say("drill", "due", "--run")
    assert said.code == ExitCode.REFUSED, said.err
    (one,) = results(site)
    assert (one.verdict, acts(site)) == (Verdict.SKIPPED, [])
    assert one.reasons[0].startswith("refused before anything was touched: Environment lab asks for signatures")


def test_a_freeze_forbids_a_drill_and_becomes_the_reason_of_its_record(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - DAY - HOUR, rule="FREQ=DAILY") + freeze(NOW - 2 * DAY, NOW + DAY)
    said = say("drill", "due", "--run")
    assert said.code == ExitCode.DONE
    assert "forbidden" in said.out
    (one,) = results(site)
    assert "forbidden from" in one.reasons[0]
    assert "freeze/quarter" in one.reasons[0]
    assert acts(site) == []


def test_while_somebody_has_the_lease_nothing_is_due_and_nothing_is_recorded(site: Drills, say: Say) -> None:
    site.leases.acquire("clinic/lab", Holder(user="ada", host="ops2", pid=7, started=0.0), HOUR)
    said = say("drill", "due", "--run")
    assert "ada@ops2" in said.out + said.err
    assert (said.code, acts(site), results(site)) == (ExitCode.DONE, [], [])


def test_nothing_is_begun_over_a_run_that_nobody_ended(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - HOUR)
    assert say("drill", "run", "records", "--yes").code == ExitCode.DONE
    (run,) = site.runs.rows.values()
    site.runs.rows[run.id] = replace(run, state=RunState.RUNNING, finished_at=None)
    before = acts(site)
    said = say("drill", "due", "--run")
    assert f"run {run.id} (drill) is not ended" in " ".join(said.out.split())
    assert (said.code, acts(site)) == (ExitCode.DONE, before)


def test_an_alarm_has_an_exit_code_until_a_drill_has_passed(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] = schedule(NOW - 40 * DAY - HOUR, rule="FREQ=DAILY;INTERVAL=40", alarm_after="30d")
    said = say("drill", "due")
    assert (said.code, "alarm: schedule/monthly: no switchover of records passed" in said.out) == (6, True)
    assert say("drill", "due", "--run").code == ExitCode.DONE
    assert "alarm" not in say("drill", "due").out


def test_a_schedule_is_not_blamed_for_what_was_before_it(site: Drills, say: Say) -> None:
    site.committed["schedules.yaml"] = NOW - 2 * HOUR
    assert say("drill", "due", "--run").code == ExitCode.DONE
    assert [one.verdict for one in results(site)] == [Verdict.PASSED]


def test_a_schedule_that_is_not_there_is_said_with_the_near_one(site: Drills, say: Say) -> None:
    for command in ("due", "calendar"):
        said = say("drill", command, "monthli")
        assert (said.code, "Did you mean 'monthly'?" in said.err) == (ExitCode.INPUT, True)


def test_a_calendar_shows_what_was_and_what_will_be(site: Drills, say: Say) -> None:
    site.files["schedules.yaml"] += freeze(NOW + 2 * DAY, NOW + 3 * DAY)
    assert say("drill", "due", "--run").code == ExitCode.DONE
    since = f"{NOW - 2 * DAY:%Y-%m-%d}"
    said = say("drill", "calendar", "--from", since, "--days", "6")
    assert said.code == ExitCode.DONE, said.err
    told = say("--json", "drill", "calendar", "--from", since, "--days", "6").result["turns"]
    assert [one["state"] for one in told][:3] == ["skipped", "done", "ahead"]
    assert [one["verdict"] for one in told][:3] == ["skipped", "passed", None]
    held_up = [one for one in told if one["forbidden_by"]]
    assert [one["at"] for one in held_up] == [(NOW + 3 * DAY - HOUR).isoformat()]
    assert "freeze/quarter" in said.out
    assert "No schedule has a time then." in say("drill", "calendar", "--from", "2020-01-01").out
    assert say("drill", "calendar", "--from", "tomorrow").code == ExitCode.INPUT


def test_a_calendar_is_written_for_other_calendars(site: Drills, say: Say) -> None:
    from icalendar import Calendar

    site.files["schedules.yaml"] = schedule(NOW - HOUR, rule="FREQ=DAILY", jitter="1h")
    path = site.folder / "drills.ics"
    told = say("--json", "drill", "calendar", "--days", "5", "--ics", path).result
    events = Calendar.from_ical(path.read_text()).walk("VEVENT")
    assert [one["DTSTART"].dt.isoformat() for one in events] == [one["begins"] for one in told["turns"]]
    assert {str(one["SUMMARY"]) for one in events} == {"Drill monthly: switchover of records"}
    identities = [str(one["UID"]) for one in events]
    say("drill", "calendar", "--days", "5", "--ics", path)
    assert [str(one["UID"]) for one in Calendar.from_ical(path.read_text()).walk("VEVENT")] == identities
    assert say("drill", "calendar", "--ics", site.folder / "no" / "drills.ics").code == ExitCode.INPUT


def verified(folder: Path) -> str:
    """What systemd says of the units; nothing where they are right."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    done = subprocess.run(
        [program, "verify", "--man=no", str(folder / SERVICE), str(folder / TIMER)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


@pytest.mark.parametrize("every", ["1m", "5m", "1h", "1d"])
def test_the_units_are_such_as_systemd_takes(site: Drills, say: Say, tmp_path: Path, every: str) -> None:
    site.files["schedules.yaml"] = schedule(NOW, within="25h")
    out = tmp_path / "units"
    said = say("drill", "units", "--out", out, "--every", every, "--user", "root")
    assert said.code == ExitCode.DONE, said.err
    assert verified(out) == ""
    text = (out / SERVICE).read_text()
    assert f"-C {site.folder} drill due --run\n" in text
    assert "User=root\n" in text
    (path,) = [line for line in text.splitlines() if line.startswith('Environment="PATH=')]
    assert str(Path(shutil.which("git") or "").parent) in path
    assert "Persistent=true\n" in (out / TIMER).read_text()


def test_systemd_finds_what_is_wrong_in_a_unit(site: Drills, say: Say, tmp_path: Path) -> None:
    assert say("drill", "units", "--out", tmp_path).code == ExitCode.DONE
    path = tmp_path / SERVICE
    path.write_text(path.read_text().replace("KillMode=process", "KillMode=gently"))
    assert "Failed to parse kill mode" in verified(tmp_path)


def test_a_folder_with_a_strange_name_is_quoted(site: Drills, say: Say, tmp_path: Path) -> None:
    place = tmp_path / "an estate, 100% $HOME"
    place.mkdir()
    out = tmp_path / "units"
    assert say("-C", place, "-e", "lab", "drill", "units", "--out", out, at=False).code == ExitCode.DONE
    assert verified(out) == ""
    assert f'-C "{tmp_path}/an estate, 100%% $$HOME" -e lab drill due --run' in (out / SERVICE).read_text()


def test_units_are_not_written_over_without_force(site: Drills, say: Say, tmp_path: Path) -> None:
    assert say("drill", "units", "--out", tmp_path).code == ExitCode.DONE
    (tmp_path / SERVICE).unlink()
    said = say("drill", "units", "--out", tmp_path)
    assert (said.code, "--force" in said.err) == (ExitCode.INPUT, True)
    assert not (tmp_path / SERVICE).exists()
    assert say("drill", "units", "--out", tmp_path, "--force").code == ExitCode.DONE


def test_a_timer_that_would_miss_drills_is_refused(site: Drills, say: Say, tmp_path: Path) -> None:
    for every in ("7m", "soon", "2d"):
        assert say("drill", "units", "--out", tmp_path, "--every", every).code == ExitCode.INPUT
    site.files["schedules.yaml"] = schedule(NOW, within="30m", jitter="20m")
    said = say("drill", "units", "--out", tmp_path, "--every", "15m")
    assert (said.code, "schedule monthly" in said.err) == (ExitCode.INPUT, True)
    assert say("drill", "units", "--out", tmp_path, "--every", "10m").code == ExitCode.DONE


@pytest.mark.parametrize(("within", "scattered"), [("6m", False), ("2h", True)])
def test_the_timer_is_scattered_only_where_there_is_time_for_it(
    site: Drills, say: Say, tmp_path: Path, within: str, scattered: bool
) -> None:
    site.files["schedules.yaml"] = schedule(NOW, within=within)
    assert say("drill", "units", "--out", tmp_path).code == ExitCode.DONE
    assert ("RandomizedDelaySec=30s\n" in (tmp_path / TIMER).read_text()) is scattered
