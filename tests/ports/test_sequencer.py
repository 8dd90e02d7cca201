"""The inline sequencer and the ways to die in it: what a rehearsal of crashes rests on."""

# ruff: noqa: ARG002  a double takes what its port gives

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from ismgr_automation.core.errors import LeaseLost
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory.sequencer import (
    Boundary,
    Death,
    InlineSequencer,
    Killed,
    MortalJournal,
    MortalLedger,
)
from ismgr_automation.ports.runs import ANY, Round, Run, RunLedger, Sought, StepJournal, StepRecord, Unit
from ismgr_automation.ports.sequencer import Sequencer

UNITS = tuple(Unit(run="r", round=1, key=f"stack/{name}") for name in "abcd")
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
HOLDER = Holder(user="ana", host="desk", pid=1, started=0.0)


class Notes:
    """A journal and a ledger that note what is written."""

    def __init__(self) -> None:
        self.wrote: list[str] = []

    def open_round(self, run: str, round_: Round) -> None:
        self.wrote.append(f"round {round_.number}")

    def rounds(self, run: str) -> tuple[Round, ...]:
        return ()

    def started(self, unit: Unit, executor: str, token: int) -> None:
        self.wrote.append(f"started {unit.key}")

    def finished(self, unit: Unit, token: int, outcome: JsonObject, post_state: str = "") -> None:
        self.wrote.append(f"finished {unit.key}")

    def steps(self, run: str) -> tuple[StepRecord, ...]:
        return ()

    def begin(self, run: Run, nonces: object) -> None:
        self.wrote.append("begin")

    def take_over(self, run: str, token: int, holder: Holder, nonces: object = ()) -> None:
        self.wrote.append("take over")

    def close(self, run: Run) -> None:
        self.wrote.append("close")

    def run(self, run: str) -> Run:
        raise NotImplementedError

    def runs(self, environment: str | None = None, limit: int | None = 50, sought: Sought = ANY) -> tuple[Run, ...]:
        return ()

    def nonces(self, run: str) -> tuple[str, ...]:
        return ()


def perform(sequencer: Sequencer, cancelled: threading.Event | None = None) -> dict[str, JsonObject]:
    return {unit.key: outcome for unit, outcome in sequencer.perform(UNITS, cancelled or threading.Event())}


def test_units_are_done_in_the_order_given_and_each_gives_its_outcome() -> None:
    seen: list[str] = []

    def work(unit: Unit) -> JsonObject:
        seen.append(unit.key)
        return {"key": unit.key}

    outcomes = perform(InlineSequencer(work, workers=1))
    assert seen == [unit.key for unit in UNITS]
    assert outcomes == {unit.key: {"key": unit.key} for unit in UNITS}


def test_as_many_units_as_there_are_workers_are_done_at_once() -> None:
    together = threading.Barrier(2, timeout=10)

    def work(unit: Unit) -> JsonObject:
        together.wait()
        return {}

    assert len(perform(InlineSequencer(work, workers=2))) == len(UNITS)


def test_nothing_begins_after_it_was_cancelled_and_what_never_began_is_left_out() -> None:
    cancelled = threading.Event()

    def work(unit: Unit) -> JsonObject:
        cancelled.set()
        return {}

    assert list(perform(InlineSequencer(work, workers=1), cancelled)) == ["stack/a"]


def test_what_work_raises_is_raised_and_nothing_new_begins() -> None:
    seen: list[str] = []

    def work(unit: Unit) -> JsonObject:
        seen.append(unit.key)
        if unit.key == "stack/b":
            raise LeaseLost("The lease is gone.")
        return {}

    with pytest.raises(LeaseLost):
        perform(InlineSequencer(work, workers=1))
    assert seen == ["stack/a", "stack/b"]


def test_what_other_units_gave_is_told_before_an_error_is_raised() -> None:
    both = threading.Barrier(2, timeout=10)

    def work(unit: Unit) -> JsonObject:
        both.wait()
        if unit.key == "stack/a":
            raise LeaseLost("The lease is gone.")
        return {}

    told: list[str] = []
    outcomes = InlineSequencer(work, workers=2).perform(UNITS[:2], threading.Event())
    with pytest.raises(LeaseLost):
        told.extend(unit.key for unit, _ in outcomes)
    assert told == ["stack/b"]


def test_whoever_stops_listening_gets_no_further_units_done() -> None:
    seen: list[str] = []

    def work(unit: Unit) -> JsonObject:
        seen.append(unit.key)
        if len(seen) > 1:
            stopped.wait(10)
        return {}

    stopped = threading.Event()
    outcomes = InlineSequencer(work, workers=1).perform(UNITS, threading.Event())
    next(outcomes)
    threading.Timer(1.0, stopped.set).start()  # long after nobody listens any more
    outcomes.close()  # type: ignore[attr-defined]
    assert len(seen) < len(UNITS)


def written(death: Death) -> list[str]:
    """What a small run writes, until it dies."""
    notes = Notes()
    journal: StepJournal = MortalJournal(notes, death)
    ledger: RunLedger = MortalLedger(notes, death)
    run = Run(
        id="r",
        estate="e",
        environment="lab",
        digest="",
        purpose="apply",
        commit="",
        plan="",
        token=1,
        holder=HOLDER,
        started_at=NOW,
    )

    def work(unit: Unit) -> JsonObject:
        journal.started(unit, "me", 1)
        journal.finished(unit, 1, {})
        return {}

    try:
        ledger.begin(run, [])
        journal.open_round("r", Round(number=1, changes=(), waves=()))
        for _ in InlineSequencer(work, workers=1, death=death).perform(UNITS[:2], threading.Event()):
            pass
        ledger.close(run)
    except Killed:
        pass
    return notes.wrote


def test_a_run_dies_at_every_boundary_once() -> None:
    alive = Death()
    whole = written(alive)
    assert whole == [
        "begin",
        "round 1",
        "started stack/a",
        "finished stack/a",
        "started stack/b",
        "finished stack/b",
        "close",
    ]
    lengths = []
    for nth in range(1, len(alive.passed) + 1):
        death = Death(nth=nth)
        wrote = written(death)
        assert wrote == whole[: len(wrote)]
        assert death.passed == alive.passed[:nth]
        lengths.append(len(wrote))
    assert lengths == [0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 6, 7]


def test_a_death_can_wait_for_one_kind_of_boundary() -> None:
    death = Death(nth=2, only=Boundary.AFTER_STARTED)
    assert written(death)[-1] == "started stack/b"


def test_the_dead_write_nothing_in_any_thread() -> None:
    death, notes = Death(nth=1, only=Boundary.BEFORE_UNIT), Notes()
    with pytest.raises(Killed):
        death.at(Boundary.BEFORE_UNIT)
    with pytest.raises(Killed):
        MortalJournal(notes, death).started(UNITS[0], "me", 1)
    assert not notes.wrote


def test_anything_can_stand_between_two_boundaries() -> None:
    death = Death(nth=1, only="after anchor")
    with pytest.raises(Killed), death.around("anchor"):
        pass
    assert death.passed == ["before anchor", "after anchor"]
