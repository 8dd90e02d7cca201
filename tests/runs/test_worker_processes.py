"""Workers and coordinators as real processes over real databases: killed, paused and stopped in the middle of units."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.database import open_database
from ismgr_automation.ports.runs import RunState
from tests.runs.process import RUN

ROOT = Path(__file__).parents[2]
TTL = 12.0
PATIENCE_S = 120.0


@dataclass(slots=True)
class Stage:
    """A database, a folder that all processes share, and the processes."""

    url: str
    password: Secret | None
    folder: Path
    units: str = "stack/a stack/slow stack/c"
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, do: str, name: str) -> subprocess.Popen[str]:
        orders = {"do": do, "name": name, "units": self.units, "folder": str(self.folder), "url": self.url}
        (self.folder / name).mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.runs.process", json.dumps({**orders, "ttl": str(TTL)})],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        assert process.stdin is not None
        # neither the command line nor the environment may hold it
        process.stdin.write(f"{self.password.reveal() if self.password is not None else ''}\n")
        process.stdin.flush()
        return process

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, self.notes()
            time.sleep(0.05)

    def until_said(self, words: str) -> None:
        self.until(lambda: any(note.startswith(words) for note in self.notes()))

    def effects(self) -> Counter[str]:
        return Counter(note.split()[1] for note in self.notes() if note.startswith("effect"))

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def state(self) -> RunState:
        database = open_database(self.url, self.password, estate="infra")
        try:
            return database.runs.run(RUN).state
        finally:
            database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    if request.param == "sqlite":
        made = Stage(f"sqlite:///{tmp_path}/ismgr.db", None, tmp_path)
    else:
        server = request.getfixturevalue("postgres")
        made = Stage(server.url(request.getfixturevalue("postgres_database")), server.password, tmp_path)
    yield made
    for one in made.processes:
        if one.poll() is None:
            one.kill()
        one.communicate()


def test_a_worker_takes_over_the_run_of_a_killed_coordinator(stage: Stage) -> None:
    apply = stage.start("apply", "apply")
    stage.until_said("begin stack/slow apply")
    apply.kill()
    worker = stage.start("once", "worker")
    told, _ = worker.communicate(timeout=PATIENCE_S)
    assert (worker.returncode, told) == (0, "")
    assert stage.effects() == {"stack/a": 1, "stack/slow": 1, "stack/c": 1}
    assert stage.notes()[-1] == "tally 0 0 1 worker"
    assert stage.state() is RunState.DONE


def test_a_worker_helps_a_living_coordinator_and_its_death_costs_nothing(stage: Stage) -> None:
    """The coordinator is held by a slow unit; the worker takes the next one, which is slow too, and is killed in it."""
    stage.units = "stack/slow stack/too-slow stack/c"
    apply = stage.start("apply", "apply")
    stage.until_said("begin stack/slow apply")
    worker = stage.start("worker", "worker")
    stage.until_said("begin stack/too-slow worker")
    worker.kill()
    stage.open_gate()
    told, _ = apply.communicate(timeout=PATIENCE_S)
    assert (apply.returncode, told) == (0, "")
    assert stage.effects() == {"stack/slow": 1, "stack/too-slow": 1, "stack/c": 1}
    assert "effect stack/too-slow apply" in stage.notes()
    assert stage.state() is RunState.DONE


def test_a_worker_that_is_stopped_gives_up_what_takes_longer_than_its_grace(stage: Stage) -> None:
    stage.units = "stack/slow stack/too-slow"
    apply = stage.start("apply", "apply")
    stage.until_said("begin stack/slow apply")
    worker = stage.start("worker", "worker")
    stage.until_said("begin stack/too-slow worker")
    worker.send_signal(signal.SIGTERM)
    stage.until_said("said gave up: stack/too-slow")
    stage.open_gate()
    told, _ = worker.communicate(timeout=PATIENCE_S)
    assert (worker.returncode, told) == (0, "")
    assert "tally 0 1 0 worker" in stage.notes()
    apply.communicate(timeout=PATIENCE_S)
    assert apply.returncode == 0
    # what the worker had done is found, and is not done again
    assert stage.effects() == {"stack/slow": 1, "stack/too-slow": 1}


def test_a_worker_stops_a_unit_whose_coordinator_died(stage: Stage) -> None:
    """The worker must not go on under a lease that may be somebody else's; it takes the run over and looks first."""
    stage.units = "stack/slow stack/too-slow"
    apply = stage.start("apply", "apply")
    stage.until_said("begin stack/slow apply")
    worker = stage.start("worker", "worker")
    stage.until_said("begin stack/too-slow worker")
    apply.kill()
    stage.until_said("said gave up: stack/too-slow")
    stage.open_gate()
    stage.until(lambda: stage.state() is RunState.DONE)
    worker.send_signal(signal.SIGTERM)
    told, _ = worker.communicate(timeout=PATIENCE_S)
    assert (worker.returncode, told) == (0, "")
    assert stage.effects() == {"stack/slow": 1, "stack/too-slow": 1}
