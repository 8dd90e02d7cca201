"""`ismgr drill` over a rehearsal: what a person types, what a pipeline reads, and what the exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, ExitCode
from tests.bubbles import Isolated, isolated
from tests.cli.conftest import Say
from tests.drills import HOME, Drills, acts, arrive, drills, is_home


@pytest.fixture
def site(tmp_path: Path) -> Drills:
    made = drills(tmp_path)
    made.pair.each_tick.append(lambda: arrive(made.pair))
    return made


def test_a_plan_names_each_step_and_how_long_clients_may_wait(site: Drills, say: Say) -> None:
    said = say("drill", "plan", "records", "--full")
    assert said.code == ExitCode.CHANGES, said.err
    assert "failover: promote" in said.out
    assert "clients wait 8 s at most" in " ".join(said.out.split())
    assert acts(site) == []


def test_a_drill_that_passes_shows_what_was_measured(site: Drills, say: Say) -> None:
    said = say("drill", "run", "records", "--mode", "failover", "--yes")
    assert said.code == ExitCode.DONE, said.err
    text = " ".join(said.out.split())
    assert "passed failover of records: db1 → db2 → db1" in text
    assert "failover: clients waited 56 ms ± 5 ms" in text
    assert "of these 0 lost" in text
    assert is_home(site)


def test_a_pipeline_reads_the_result_as_its_last_line(site: Drills, say: Say) -> None:
    said = say("--json", "drill", "run", "records", "--yes")
    assert said.code == ExitCode.DONE, said.err
    assert said.result["type"] == "drill"
    assert (said.result["verdict"], said.result["mode"]) == ("passed", "switchover")


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_missed_objective_has_an_exit_code_of_its_own(site: Drills, say: Say, words: tuple[str, ...]) -> None:
    site.edit("service.yaml", "rto: 200ms", "rto: 40ms")
    said = say(*words, "drill", "run", "records", "--yes")
    assert said.code == ExitCode.OBJECTIVE_MISSED == 6
    assert is_home(site)


def test_a_drill_that_breaks_is_brought_home_by_a_return(site: Drills, say: Say) -> None:
    site.pair.faults["rejoin db1"] = EngineFailed("The engine fell over.", engine="postgresql", next_step="Look.")
    said = say("drill", "run", "records", "--yes")
    assert said.code == ExitCode.PARTLY_APPLIED
    site.pair.faults.clear()
    said = say("drill", "return", "records", "--yes")
    assert said.code == ExitCode.DONE, said.err
    assert is_home(site)
    assert "nothing" in say("drill", "return", "records", "--yes").out.lower()


def test_what_is_left_of_a_drill_that_breaks_is_a_plan_to_apply(site: Drills, say: Say) -> None:
    site.pair.faults["rejoin db1"] = EngineFailed("The engine fell over.", engine="postgresql", next_step="Look.")
    assert say("drill", "run", "records", "--yes").code == ExitCode.PARTLY_APPLIED
    site.pair.faults.clear()
    (rest,) = site.folder.glob("plan.rest-*.json")
    assert say("apply", rest, "--yes").code == ExitCode.DONE
    assert is_home(site)


def test_reports_and_history_show_what_is_kept(site: Drills, say: Say) -> None:
    run = say("--json", "drill", "run", "records", "--yes").result["run"]
    assert say("--json", "drill", "report", run).result["run"] == run
    assert say("--json", "drill", "report").result["verdict"] == "passed"
    listed = say("--json", "drill", "history", "records").result
    assert [one["run"] for one in listed["drills"]] == [run]
    assert "demote" in say("drill", "report", run).out
    assert run in say("drill", "history").out
    assert say("--json", "drill", "history", "other").result["drills"] == []


def test_what_is_not_there_is_said(site: Drills, say: Say) -> None:
    said = say("drill", "report", "yesterday")
    assert (said.code, "There is no drill yesterday." in said.err) == (ExitCode.INPUT, True)
    assert "There was no drill yet." in say("drill", "report").err
    assert "There was no drill yet." in say("drill", "history").out
    said = say("drill", "plan", "record")
    assert (said.code, "Did you mean 'records'?" in said.err) == (ExitCode.INPUT, True)


def test_what_stands_against_a_drill_is_its_exit_code(site: Drills, say: Say) -> None:
    site.pair.kill(HOME)
    assert say("drill", "run", "records", "--yes").code == ExitCode.REFUSED
    assert acts(site) == []


def test_a_plan_that_was_written_is_applied_as_any_other(site: Drills, say: Say) -> None:
    path = site.folder / "drill.json"
    assert say("drill", "plan", "records", "--out", path).code == ExitCode.CHANGES
    assert json.loads(path.read_text())["intent"]["purpose"] == "drill"
    said = say("apply", path, "--yes")
    assert said.code == ExitCode.DONE, said.err
    assert is_home(site)


def asks_to_stop(site: Drills, say: Say, *words: str) -> list[int]:
    """Another process asks for the drill that runs, once its fence is up; the codes that it ended with."""
    codes: list[int] = []

    def ask() -> None:
        if "fence db1" in site.pair.calls and not codes:
            codes.append(-1)
            (run,) = site.journals
            site.journals[run].ask_to_stop("ada@desk")

    site.pair.each_tick.append(ask)
    return codes


def test_a_drill_that_was_asked_to_stop_is_aborted_on_record(site: Drills, say: Say) -> None:
    asks_to_stop(site, say)
    said = say("--json", "drill", "run", "records", "--mode", "failover", "--yes")
    assert said.code == ExitCode.CANCELLED
    assert say("--json", "drill", "report").result["verdict"] == "aborted"
    for command in ("run", "return", "due"):
        assert f"{ExitCode.CANCELLED:d} stopped on request" in helped(say, command)


def helped(say: Say, command: str) -> str:
    """The help of a command, however its lines are folded."""
    return " ".join(say("drill", command, "--help", at=False).out.split())


@pytest.mark.parametrize("command", ["abort", "resume"])
def test_without_a_drill_that_has_not_ended_there_is_nothing_to_abort_or_resume(
    site: Drills, say: Say, command: str
) -> None:
    said = say("drill", command)
    assert (said.code, "There is no drill that has not ended" in said.err) == (ExitCode.INPUT, True)
    run = say("--json", "drill", "run", "records", "--yes").result["run"]
    said = say("drill", command, run)
    assert (said.code, "has ended: it is done" in said.err) == (ExitCode.INPUT, True)
    assert f"{ExitCode.INPUT:d} there is none that has not ended" in helped(say, command)


def die_at(site: Drills, moment: str) -> None:
    def die() -> None:
        if moment in site.pair.calls:
            site.pair.each_tick.remove(die)
            raise KeyboardInterrupt

    site.pair.each_tick.append(die)


def test_a_drill_whose_process_died_is_resumed_without_its_name(site: Drills, say: Say) -> None:
    die_at(site, "promote db2")
    assert say("drill", "run", "records", "--mode", "failover", "--yes").code == ExitCode.CANCELLED
    said = say("--json", "drill", "resume")
    assert said.result["type"] == "drill", said.err
    assert said.result["resumed"] == 1
    assert is_home(site)


def test_one_that_was_asked_to_stop_while_it_was_dead_stops_when_it_is_resumed(site: Drills, say: Say) -> None:
    die_at(site, "promote db2")
    say("drill", "run", "records", "--mode", "failover", "--yes")
    (run,) = site.journals
    asked = say("--json", "drill", "abort", run, "--wait", "1s")
    assert (asked.code, asked.result["next_step"]) == (ExitCode.ENGINE, f"ismgr drill resume {run}")
    said = say("--json", "drill", "resume", run)
    assert said.result["verdict"] == "aborted"
    assert acts(site)[-1] == "backend db2"  # clients were not left waiting
    back = say("--json", "drill", "return", "records", "--yes")
    assert back.code == ExitCode.DONE, back.result
    assert is_home(site)


def test_a_plan_tells_what_the_steps_took_before_and_warns_when_the_objective_would_be_missed(
    site: Drills, say: Say
) -> None:
    assert "median" not in say("drill", "plan", "records", "--full").out
    say("drill", "run", "records", "--mode", "failover", "--yes")
    out = " ".join(say("drill", "plan", "records", "--full").out.split())
    assert "failover: clients wait 8 s at most" in out
    assert "(median of 1 drill at load" in out
    assert "would miss the RTO" not in out
    site.edit("service.yaml", "rto: 200ms", "rto: 10ms")
    out = " ".join(say("drill", "plan", "records", "--full").out.split())
    assert "failover would miss the RTO of 0.01 s" in out


class TestInIsolation:
    """A clone behind closed gateways."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Isolated:
        return isolated(tmp_path)

    @pytest.mark.usefixtures("site")
    def test_it_shows_what_the_gateways_counted_and_what_the_clone_holds(self, say: Say) -> None:
        said = say("drill", "run", "records", "--mode", "isolated", "--yes")
        assert said.code == ExitCode.DONE, said.err
        text = " ".join(said.out.split())
        assert "passed isolated of records: db2 → a clone on spare1" in text
        assert "gw2: 0 packets out, 0 in;" in text
        assert "check patients passed" in text
        assert "writes acknowledged before the copy are in the clone" in text
        assert "0 packets out" in say("drill", "report").out

    def test_a_packet_that_gets_out_has_an_exit_code(self, site: Isolated, say: Say) -> None:
        site.bubbles.passing = 1
        said = say("--json", "drill", "run", "records", "--mode", "isolated", "--yes")
        assert said.code != ExitCode.DONE
        assert said.result["type"] == "drill"
        assert (said.result["verdict"], said.result["isolation"]["passed_out"]) == ("failed", 1)
