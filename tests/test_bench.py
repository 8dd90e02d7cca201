"""The benchmark measures what it says, and its estates are sound. No test here looks at how long anything takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import estates, patch, resume, still
from bench.measure import MEBIBYTE, Failed, Sample, Watch, command, rate, row, together
from bench.suite import SUITE
from ismgr_automation.cli.main import run
from ismgr_automation.lab import patches

MEMORY = "import sys; kept = b'x' * (64 << 20); sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {MEMORY!r}])"


def test_memory_is_that_of_the_whole_process_tree() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE) as parent:
        watch = Watch(parent.pid)
        end = time.monotonic() + 60
        while watch.peak <= 64 * MEBIBYTE and time.monotonic() < end:
            time.sleep(0.01)
        assert parent.stdin
        parent.stdin.close()
    assert watch.stop() > 64 * MEBIBYTE


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(Failed, match="ended with 3") as problem:
        command([sys.executable, "-c", "print('no space'); raise SystemExit(3)"])
    assert "no space" in problem.value.words


def test_an_expected_exit_code_is_no_failure() -> None:
    assert command([sys.executable, "-c", "raise SystemExit(2)"], codes=(0, 2)).cpu_seconds > 0


def test_several_runs_are_shown_by_their_median_and_greatest_peak() -> None:
    samples = [Sample(seconds=s, cpu_seconds=s, peak_bytes=int(s), stdout="") for s in (1.0, 9.0, 2.0)]
    line = row("x", samples)
    assert (line.seconds, line.fastest, line.slowest, line.peak_bytes, line.runs) == (2.0, 1.0, 9.0, 9, 3)


def test_runs_at_once_add_up_the_greatest_peaks() -> None:
    samples = [Sample(seconds=0, cpu_seconds=0, peak_bytes=peak, stdout="") for peak in (5, 7, 1)]
    assert together([lambda one=one: one for one in samples], 2).peak_bytes == 12


@pytest.mark.parametrize("count", [20, 100])
def test_the_estate_of_many_documents_is_sound(tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    estates.documents(tmp_path / "estate", count)
    assert run(["--json", "-C", str(tmp_path / "estate"), "validate"]) == 0
    loaded = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert loaded["documents"] == count


def test_the_estate_of_many_resources_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estates.stacks(tmp_path / "estate", resources=30, count=3)
    assert run(["-C", str(tmp_path / "estate"), "validate"]) == 0, capsys.readouterr().err


def test_a_world_in_which_nothing_is_to_be_done_is_planned_and_its_stale_plan_refused(tmp_path: Path) -> None:
    told = still.measure(tmp_path, items=200)
    assert told.keys() == {"load", "plan", "write", "refuse"}
    assert all(seconds > 0 for seconds in told.values())


def test_a_run_that_is_killed_in_its_first_unit_is_resumed_to_its_end(tmp_path: Path) -> None:
    resume.killed(tmp_path / "site")
    assert resume.resumed(tmp_path / "site") > 1


def test_a_rate_says_how_many_a_second() -> None:
    assert rate("x", 500, 0.25, "leases").note == "2,000 leases a second"


def test_every_benchmark_is_listed_by_help() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "bench.run", "--help"],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert all(name in told for name in SUITE)


def test_every_benchmark_is_described() -> None:
    told = Path(patch.__file__).with_name("README.md").read_text()
    assert [name for name in SUITE if f"| `{name}` |" not in told] == []


def test_both_ways_of_patching_are_asked_for_the_same_versions() -> None:
    (play,) = json.loads(patch.playbook())
    (task,) = play["tasks"]
    ours = [f"{one.name}={one.after}" for one in patch.forth()]
    assert task["ansible.builtin.apt"]["name"] == ours
    assert {one.name for one in patches.SECOND} - {one.name for one in patch.forth()} == {patches.BROKEN}
