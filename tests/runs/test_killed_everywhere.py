"""A run over a real SQLite ledger is killed with SIGKILL at every boundary, and goes on in a new process: each effect
is there once, and the journal ends as if nothing had happened."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.database import open_database
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory import Boundary, Death, InlineSequencer, MortalJournal, MortalLedger
from ismgr_automation.ports.runs import Round, Run, RunState, Unit
from ismgr_automation.runs.standing import Standing, Verdict, decide
from tests.runs.harness import run

RUN = "20261122T081500-3f9a"
KEYS = ("stack/a", "stack/b")
HOLDER = Holder(user="ana", host="desk", pid=1, started=0.0)


def apply_or_resume(death: Death, arguments: Mapping[str, Any]) -> JsonObject:
    """Begin the run, or go on with it: what a coordinator does, with files for effects."""
    folder = Path(arguments["folder"])
    database = open_database(f"sqlite:///{folder}/ismgr.db")
    ledger, journal = MortalLedger(database.runs, death), MortalJournal(database.journal, death)
    lease = database.leases.acquire("infra/lab", HOLDER, timedelta(seconds=1))
    try:
        known = ledger.run(RUN)
    except InputError:
        ledger.begin(_run(lease.token), [])
    else:
        if known.state is RunState.DONE:
            return {"state": "done"}
        ledger.take_over(RUN, lease.token, HOLDER)
    journal.open_round(RUN, Round(number=1, changes=tuple({"key": key} for key in KEYS), waves=(KEYS,)))

    def work(unit: Unit) -> JsonObject:
        mine = [one for one in journal.steps(RUN) if one.unit.key == unit.key]
        effect = folder / f"effect-{unit.key.replace('/', '-')}"
        standing = Standing.DONE if effect.exists() else Standing.NOT_DONE
        decision = decide(mine, standing, lambda outcome: bool(outcome["landed"]))
        journal.started(unit, "us", lease.token)
        if decision.verdict is Verdict.RUN:
            with death.around(f"effect of {unit.key}"), effect.open("x") as once:  # a second time is an error
                once.write("there")
        journal.finished(unit, lease.token, {"landed": True, "key": unit.key})
        return {"landed": True}

    steps = journal.steps(RUN)
    ended = {one.unit.key for one in steps if one.outcome is not None}
    attempts = {one.unit.key: one.unit.attempt + 1 for one in steps}
    left = [Unit(run=RUN, round=1, key=key, attempt=attempts.get(key, 1)) for key in KEYS if key not in ended]
    for _ in InlineSequencer(work, workers=1, death=death).perform(left, threading.Event()):
        pass
    ledger.close(replace(_run(lease.token), state=RunState.DONE, finished_at=datetime.now(UTC), report={"ok": True}))
    database.leases.release(lease)
    return {"state": "done"}


def _run(token: int) -> Run:
    return Run(
        id=RUN,
        estate="infra",
        environment="lab",
        digest="",
        purpose="apply",
        commit="c",
        plan="",
        token=token,
        holder=HOLDER,
        started_at=datetime(2026, 11, 22, tzinfo=UTC),
    )


def free_lease(folder: Path) -> None:
    """The holder is dead: what a person who breaks the lease does, instead of waiting for its end."""
    database = open_database(f"sqlite:///{folder}/ismgr.db")
    lease = database.leases.look("infra/lab")
    if lease is not None:
        database.leases.break_("infra/lab", lease.token)
    database.close()


def landed(folder: Path) -> list[tuple[str, bool]]:
    database = open_database(f"sqlite:///{folder}/ismgr.db")
    steps = database.journal.steps(RUN)
    state = database.runs.run(RUN).state
    database.close()
    assert state is RunState.DONE
    return sorted({(one.unit.key, bool(one.outcome["landed"])) for one in steps if one.outcome is not None})


def test_a_run_that_is_killed_at_any_boundary_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole_folder = tmp_path / "whole"
    whole_folder.mkdir()
    whole = run(apply_or_resume, {"folder": str(whole_folder)})
    assert whole.result == {"state": "done"}, whole.trace
    assert {Boundary.BEFORE_STARTED, Boundary.AFTER_FINISHED, "before effect of stack/a"} <= set(whole.passed)
    for nth in range(1, len(whole.passed) + 1):
        folder = tmp_path / str(nth)
        folder.mkdir()
        assert run(apply_or_resume, {"folder": str(folder)}, nth=nth).killed, whole.passed[nth - 1]
        free_lease(folder)
        again = run(apply_or_resume, {"folder": str(folder)})
        assert again.result == {"state": "done"}, f"after {whole.passed[nth - 1]}: {again.trace}"
        assert landed(folder) == landed(whole_folder)


def fails(_death: Death, _arguments: Mapping[str, Any]) -> None:
    raise ValueError("no reason")


def test_an_entry_that_raises_tells_why() -> None:
    ended = run(fails, {})
    assert not ended.killed
    assert "ValueError: no reason" in ended.trace


def test_a_death_that_never_comes_is_noticed(tmp_path: Path) -> None:
    ended = run(apply_or_resume, {"folder": str(tmp_path)}, nth=1000)
    assert not ended.killed
