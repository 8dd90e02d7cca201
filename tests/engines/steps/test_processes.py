"""The durable sequencer among real processes: they share units, die, pause, and never take up what is not theirs."""

from __future__ import annotations

import os
import signal
import threading
import time

from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.steps.rows import Rows
from ismgr_automation.ports.runs import Unit
from tests.engines.steps.conftest import Sequence, Start
from tests.engines.steps.shared import Site, units, wait_for

TTL = 6.0


def said(site: Site, words: str) -> bool:
    return any(note.startswith(words) for note in site.notes())


def hand_over(site: Site, sequence: Sequence, start: Start) -> tuple[int, dict[str, JsonObject], threading.Thread]:
    """A worker has a slow unit in hand; we coordinate, and take nothing ourselves before that."""
    worker_has_it = threading.Event()

    def work(unit: Unit) -> JsonObject:
        if unit.attempt == 1:
            worker_has_it.wait(60)
        return site.work(unit, "us")

    rows = Rows(site.place)
    rows.open()
    rows.open_queue("run-1", 1)
    rows.add(*units("slow"))
    worker = start(site, do="serve", name="worker", ttl=TTL, at_once=1)
    wait_for(lambda: said(site, "begin stack/slow 1 worker"))
    rows.close()
    worker_has_it.set()
    sequencer = sequence(site, work, ttl=TTL)
    outcomes: dict[str, JsonObject] = {}

    def coordinate() -> None:
        for unit, outcome in sequencer.perform(units("slow"), threading.Event()):
            outcomes[unit.id] = outcome

    thread = threading.Thread(target=coordinate)
    thread.start()
    return worker.pid, outcomes, thread


def test_a_worker_in_another_process_carries_units_out(site: Site, sequence: Sequence, start: Start) -> None:
    """We take no unit before the worker has begun one, so each does at least one of two."""
    start(site, do="serve", name="worker", at_once=1)
    rows = Rows(site.place)
    rows.open()
    rows.open_queue("run-1", 1)
    rows.close()
    wait_for(lambda: said(site, "listening worker"))

    def work(unit: Unit) -> JsonObject:
        wait_for(lambda: any(note.endswith("worker") and note.startswith("begin") for note in site.notes()))
        return site.work(unit, "us")

    outcomes = [
        outcome for _, outcome in sequence(site, work, at_once=1).perform(units("a", "b", "c"), threading.Event())
    ]
    assert sorted(str(one["key"]) for one in outcomes) == ["stack/a", "stack/b", "stack/c"]
    assert {one["who"] for one in outcomes} == {"us", "worker"}


def test_the_unit_of_a_killed_worker_is_done_as_a_new_attempt(site: Site, sequence: Sequence, start: Start) -> None:
    pid, outcomes, thread = hand_over(site, sequence, start)
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    thread.join(60)
    assert outcomes == {"run-1/1/stack/slow/2": {"key": "stack/slow", "attempt": 2, "who": "us"}}
    assert time.monotonic() - killed_at < 60


def test_a_paused_worker_that_wakes_changes_no_outcome(site: Site, sequence: Sequence, start: Start) -> None:
    pid, outcomes, thread = hand_over(site, sequence, start)
    os.kill(pid, signal.SIGSTOP)
    thread.join(60)
    taken_over = dict(outcomes)
    os.kill(pid, signal.SIGCONT)
    site.open_gate()
    wait_for(lambda: said(site, "end stack/slow 1 worker"))
    (site.folder / "over").touch()
    wait_for(lambda: "worker" not in site.executors.living())
    rows = Rows(site.place)
    rows.open()
    found = rows.look(["run-1/1/stack/slow/1", "run-1/1/stack/slow/2"])
    rows.close()
    assert taken_over == outcomes
    assert [row.state for _, row in sorted(found.items())] == ["dropped", "ended"]


def test_a_living_worker_keeps_its_unit_however_long_it_takes(
    sqlite_site: Site, sequence: Sequence, start: Start
) -> None:
    _, outcomes, thread = hand_over(sqlite_site, sequence, start)
    thread.join(TTL * 2)
    assert thread.is_alive()
    sqlite_site.open_gate()
    thread.join(60)
    assert outcomes == {"run-1/1/stack/slow/1": {"key": "stack/slow", "attempt": 1, "who": "worker"}}


def test_a_killed_coordinator_leaves_its_units_alone_until_its_run_goes_on(
    site: Site, sequence: Sequence, start: Start
) -> None:
    """Another run in the same database does not take up what a dead one left: only the run itself does."""
    dead = start(site, do="coordinate", name="dead", units=["slow", "queued"], at_once=1, ttl=TTL)
    wait_for(lambda: said(site, "begin stack/slow 1 dead"))
    dead.kill()
    dead.wait(30)
    wait_for(lambda: not site.executors.living())

    other = sequence(site, name="other", at_once=1)
    for wave in range(4):  # each takes as long as several looks into the queues
        assert len(list(other.perform(units(f"x{wave}", f"y{wave}", run="run-2"), threading.Event()))) == 2
    other.close()
    assert not [note for note in site.notes() if note.endswith("other") and ("slow" in note or "queued" in note)]

    outcomes = {
        unit.id: outcome["who"]
        for unit, outcome in sequence(site, name="heir").perform(units("slow", "queued"), threading.Event())
    }
    assert outcomes == {"run-1/1/stack/slow/2": "heir", "run-1/1/stack/queued/1": "heir"}


def test_processes_may_start_on_an_empty_database_at_the_same_time(site: Site, start: Start) -> None:
    three = [start(site, do="coordinate", name=f"p{n}", units=["a"], run=f"run-{n}") for n in range(3)]
    told = [one.communicate(timeout=90)[0] for one in three]
    assert told == ["", "", ""]
    assert sorted(note for note in site.notes() if note.startswith("done")) == ["done p0", "done p1", "done p2"]


def test_nothing_begins_on_workers_once_it_was_cancelled(site: Site, sequence: Sequence, start: Start) -> None:
    cancelled = threading.Event()
    start(site, do="serve", name="worker", at_once=1)
    wait_for(lambda: said(site, "listening worker"))

    def work(unit: Unit) -> JsonObject:
        cancelled.set()
        return site.work(unit, "us")

    names = [f"u{number}" for number in range(20)]
    outcomes = list(sequence(site, work, at_once=1).perform(units(*names), cancelled))
    begun = [note for note in site.notes() if note.startswith("begin")]
    assert len(begun) == len(outcomes) < len(names)
