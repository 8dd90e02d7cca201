"""The whole contract of apply, with the records that a user has: SQLite, DBOS, files of evidence. Its process is killed
with SIGKILL at every boundary and at random moments, and a new process resumes: the world ends as if nobody had died.

Only the engines are doubles. What is "out there" is kept in a file: it survives whoever works on it.
"""

from __future__ import annotations

import os
import pickle
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.engines.evidence_files import FileEvidenceLog
from ismgr_automation.engines.steps.rows import beside
from ismgr_automation.engines.steps.sequencer import DbosSequencer
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.evidence.entries import Entry, RunClosed
from ismgr_automation.evidence.recorder import ChainRecorder, Closing, Recorder
from ismgr_automation.ports.memory import Boundary, Death, MemorySignatures, MortalJournal, MortalLedger
from ismgr_automation.ports.runs import RunState, Unit
from ismgr_automation.ports.sequencer import Sequencer, Work
from ismgr_automation.runs.keeper import this_process
from tests.rehearsal import FILES, Rehearsal, servers
from tests.runs.harness import Ended, kill_oneself, run

OUT_THERE = ("state", "outputs", "actual", "values", "fences", "stack_fences", "locks", "pending", "booting", "calls")
RANDOM_KILLS = 6
LOADED = ["dbos", "tests.runs.test_killed_for_real"]


@dataclass(frozen=True, slots=True)
class Mortal:
    """A recorder whose process dies before or after a write."""

    below: Recorder
    death: Death

    def write(self, *entries: Entry) -> None:
        with self.death.around("evidence"):
            self.below.write(*entries)

    def ended(self) -> RunClosed | None:
        return self.below.ended()

    def close(self, closed: RunClosed) -> Closing:
        with self.death.around("end of evidence"):
            return self.below.close(closed)

    def abandon(self) -> None:
        self.below.abandon()


class Lasting(Rehearsal):
    """A small site over real records below its folder: one stack, and a group whose second wave follows its first."""

    database: Database

    def __init__(self, folder: Path, death: Death) -> None:
        super().__init__(folder=folder, death=death)
        self.files = {name: text for name, text in FILES.items() if name not in {"stacks.yaml", "groups.yaml"}}
        stacks, groups = FILES["stacks.yaml"].split("---\n"), FILES["groups.yaml"].split("---\n")
        self.files |= {"stacks.yaml": stacks[1], "groups.yaml": groups[0]}
        self.world.programs["dc2-servers"] = lambda _config, _made: servers("db1.dc2", "db2.dc2")
        self.database = open_database(f"sqlite:///{folder}/ismgr.db")
        kept = folder / "out-there"
        for name, value in (pickle.loads(kept.read_bytes()) if kept.exists() else {}).items():  # noqa: S301  our own
            mine = getattr(self.world, name)
            mine.extend(value) if name == "calls" else mine.update(value)

    def save(self) -> None:
        """The world is as it is, whoever dies."""
        with self.world.lock:
            body = pickle.dumps({name: getattr(self.world, name) for name in OUT_THERE})
        fresh = self.folder / f"out-there.{os.getpid()}"
        fresh.write_bytes(body)
        fresh.replace(self.folder / "out-there")

    def wire(self, *args: Any, **settings: Any) -> Scope:
        scope = super().wire(*args, **settings)
        kept = replace(
            scope.engines,
            ledger=self.database.ledger(scope.environment_name),
            leases=self.database.leases,
            runs=MortalLedger(self.database.runs, self.death),
            journal=MortalJournal(self.database.journal, self.death),
            executor=f"executor-{os.getpid()}",
        )
        return replace(scope, engines=kept)

    @contextmanager
    def sequencing(self, work: Work) -> Iterator[Sequencer]:
        def mortal(unit: Unit) -> JsonObject:
            with self.death.around("unit"):
                return work(unit)

        with DbosSequencer(
            beside(f"sqlite:///{self.folder}/ismgr.db"),
            executor=f"executor-{os.getpid()}",
            holder=this_process("executor"),
            executors=self.database.executors,
            work=mortal,
            at_once=1,
            ttl=timedelta(seconds=2),
        ) as sequencer:
            yield sequencer

    def recorder(self, environment: str, run: str) -> Recorder:
        log = FileEvidenceLog(self.folder / "evidence", environment)
        return Mortal(
            ChainRecorder(log=log, environment=environment, run=run, clock=lambda: datetime.now(UTC)), self.death
        )

    def problems(self) -> list[str]:
        """What an audit finds wrong with the evidence."""
        lines = list(FileEvidenceLog(self.folder / "evidence", "lab").read())
        return [str(one) for one in verify(lines, Claims(environment="lab"), MemorySignatures()).problems]


def apply_or_resume(death: Death, arguments: Mapping[str, Any]) -> JsonObject:
    """What `ismgr apply` does, and `ismgr resume` when a run was left; ends with how everything looks."""
    site = Lasting(Path(arguments["folder"]), death)

    def die() -> None:
        with site.world.lock:  # nothing happens out there between its copy and our end
            site.save()
            kill_oneself()

    # a death is frozen, and so are those who have it: only what dying is changes
    object.__setattr__(death, "act", die)
    if arguments.get("after"):
        threading.Timer(arguments["after"], die).start()
    left = [one for one in site.database.runs.runs() if one.state is RunState.RUNNING]
    with site.open() as estate:
        report = estate.resume(left[0].id) if left else estate.apply(estate.plan())
        empty = estate.plan().empty
    return {
        "ok": report.ok,
        "stopped": report.stopped,
        "empty": empty,
        "world": {name: repr(getattr(site.world, name)) for name in ("state", "actual", "values")},
        "effects": dict(Counter(site.world.effects())),
        "runs": [str(one.state) for one in site.database.runs.runs()],
        "problems": site.problems(),
    }


def free_lease(folder: Path) -> None:
    """The holder is dead: what a person who breaks the lease does, instead of waiting for its end."""
    database = open_database(f"sqlite:///{folder}/ismgr.db")
    held = database.leases.look("two-sites/lab")
    if held is not None:
        database.leases.break_("two-sites/lab", held.token)
    database.close()


def lived(folder: Path, **more: Any) -> Ended:
    folder.mkdir(exist_ok=True)
    return run(apply_or_resume, {"folder": str(folder), **more}, preload=LOADED)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run that nobody kills."""
    ended = lived(tmp_path_factory.mktemp("whole") / "site")
    assert ended.result is not None, ended.trace
    assert ended.result["ok"], ended.result
    assert ended.result["effects"] == {"up dc2-servers": 1, "run databases": 2}
    return ended


def goes_on(folder: Path, whole: Ended, where: str) -> None:
    free_lease(folder)
    again = lived(folder)
    assert again.result is not None, f"{where}: {again.trace}"
    assert again.result["ok"], f"{where}: {again.result['stopped']}"
    assert again.result["empty"], where
    assert again.result["world"] == whole.result["world"], where
    # machines are made once; a playbook that nobody saw end is run again, which is what playbooks are for
    done = Counter(again.result["effects"])
    assert done["up dc2-servers"] == 1, where
    assert done["run databases"] in {2, 3}, where
    assert again.result["problems"] == whole.result["problems"], where
    assert set(again.result["runs"]) == {"done"}, where


def test_an_apply_that_is_killed_at_any_boundary_is_resumed_to_the_same_end(tmp_path: Path, whole: Ended) -> None:
    never_passed = {str(Boundary.BEFORE_TAKE_OVER), str(Boundary.AFTER_TAKE_OVER)}
    assert {str(one) for one in Boundary} - never_passed <= set(whole.passed)
    assert {"before evidence", "after evidence", "before end of evidence", "after end of evidence"} <= set(whole.passed)
    for nth, where in enumerate(whole.passed, start=1):
        folder = tmp_path / str(nth)
        folder.mkdir()
        died = run(apply_or_resume, {"folder": str(folder)}, nth=nth, preload=LOADED)
        assert died.killed, (nth, where, died.trace)
        goes_on(folder, whole, f"{nth} {where}")


@pytest.mark.parametrize("seed", range(RANDOM_KILLS))
def test_an_apply_that_is_killed_at_a_random_moment_is_resumed_to_the_same_end(
    tmp_path: Path, whole: Ended, seed: int
) -> None:
    after = random.Random(seed).uniform(0.05, 0.8)  # noqa: S311  chance, not secrecy
    died = lived(tmp_path, after=after)
    assert died.killed or died.result is not None, died.trace
    goes_on(tmp_path, whole, f"after {after:.3f} s")
