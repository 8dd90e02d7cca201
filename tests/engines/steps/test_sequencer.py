"""The durable sequencer in one process: it keeps the promises of its port, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, InternalError, LeaseLost, Refused
from ismgr_automation.core.json import JsonObject
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.steps.rows import Place, Rows
from ismgr_automation.engines.steps.server import DbosServer
from ismgr_automation.ports.runs import Unit
from ismgr_automation.ports.sequencer import Sequencer
from tests.engines.steps.conftest import Sequence
from tests.engines.steps.shared import HOLDER, Site, units, wait_for

FOUR = units("a", "b", "c", "d")


def perform(
    sequencer: Sequencer, wanted: tuple[Unit, ...] = FOUR, cancelled: threading.Event | None = None
) -> dict[str, JsonObject]:
    return {unit.key: outcome for unit, outcome in sequencer.perform(wanted, cancelled or threading.Event())}


def begun(site: Site) -> list[str]:
    return [note.split()[1] for note in site.notes() if note.startswith("begin")]


def test_every_unit_is_carried_out_once_and_gives_its_outcome(site: Site, sequence: Sequence) -> None:
    outcomes = perform(sequence(site))
    assert outcomes == {unit.key: {"key": unit.key, "attempt": 1, "who": "us"} for unit in FOUR}
    assert sorted(begun(site)) == [unit.key for unit in FOUR]


def test_waves_of_one_run_follow_each_other(site: Site, sequence: Sequence) -> None:
    sequencer = sequence(site)
    assert [len(perform(sequencer, wave)) for wave in (FOUR[:1], FOUR[1:3], FOUR[3:])] == [1, 2, 1]
    assert begun(site)[0] == "stack/a"
    assert begun(site)[3] == "stack/d"


def test_a_unit_that_is_asked_for_again_is_given_to_its_work_again(sqlite_site: Site, sequence: Sequence) -> None:
    """The journal is the truth: nobody asks again for what it calls ended, and the work looks there first."""
    first = sequence(sqlite_site)
    perform(first)
    first.close()
    assert {one["who"] for one in perform(sequence(sqlite_site, name="later")).values()} == {"later"}


def test_a_queue_that_somebody_closed_is_opened_again(sqlite_site: Site, sequence: Sequence) -> None:
    """A coordinator whose lease was lost wakes up and tidies: the run of its heir goes on."""

    def work(unit: Unit) -> JsonObject:
        if unit.key == "stack/a":
            rows = Rows(sqlite_site.place)
            rows.open()
            rows.close_queue("run-1")
            rows.close()
        return {}

    assert len(perform(sequence(sqlite_site, work, at_once=1))) == len(FOUR)


def test_no_more_units_are_in_hand_than_wanted(sqlite_site: Site, sequence: Sequence) -> None:
    lock, now, most = threading.Lock(), [0], [0]
    pair = threading.Barrier(2, timeout=30)

    def work(unit: Unit) -> JsonObject:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        pair.wait()
        with lock:
            now[0] -= 1
        return {}

    assert len(perform(sequence(sqlite_site, work, at_once=2))) == len(FOUR)
    assert most == [2]


def test_nothing_begins_after_it_was_cancelled_and_what_never_began_is_left_out(site: Site, sequence: Sequence) -> None:
    cancelled = threading.Event()
    seen: list[str] = []

    def work(unit: Unit) -> JsonObject:
        seen.append(unit.key)
        cancelled.set()
        return {}

    sequencer = sequence(site, work, at_once=1)
    assert list(perform(sequencer, FOUR, cancelled)) == seen == ["stack/a"]
    assert list(perform(sequencer, FOUR[1:2])) == ["stack/b"]


def test_what_work_raises_is_raised_and_is_tried_again_when_asked_again(sqlite_site: Site, sequence: Sequence) -> None:
    seen: list[str] = []

    def work(unit: Unit) -> JsonObject:
        seen.append(unit.key)
        if seen.count("stack/b") == 1:
            raise LeaseLost("The lease is gone.")
        return {}

    sequencer = sequence(sqlite_site, work, at_once=1)
    with pytest.raises(LeaseLost, match="The lease is gone"):
        perform(sequencer)
    assert seen == ["stack/a", "stack/b"]
    assert len(perform(sequencer, FOUR[1:])) == 3
    assert seen == ["stack/a", "stack/b", "stack/b", "stack/c", "stack/d"]


def test_a_bug_in_the_work_is_raised_as_it_is(sqlite_site: Site, sequence: Sequence) -> None:
    def work(unit: Unit) -> JsonObject:
        raise ZeroDivisionError(unit.key)

    with pytest.raises(ZeroDivisionError):
        perform(sequence(sqlite_site, work))


def test_whoever_stops_listening_gets_no_further_units_done(sqlite_site: Site, sequence: Sequence) -> None:
    seen: list[str] = []

    def work(unit: Unit) -> JsonObject:
        seen.append(unit.key)
        return {}

    outcomes = sequence(sqlite_site, work, at_once=1).perform(FOUR, threading.Event())
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert len(seen) < len(FOUR)


def test_no_units_load_nothing(sqlite_site: Site, sequence: Sequence) -> None:
    assert perform(sequence(sqlite_site), ()) == {}
    assert not (sqlite_site.folder / "ismgr-steps.db").exists()


def test_a_second_run_in_one_process_is_refused_with_what_to_do(sqlite_site: Site, sequence: Sequence) -> None:
    first = sequence(sqlite_site)
    perform(first, FOUR[:1])
    with pytest.raises(Refused, match="Another run is being carried out in this process"):
        perform(sequence(sqlite_site, name="second"), FOUR[1:])
    first.close()
    assert len(perform(sequence(sqlite_site, name="third"), FOUR[1:])) == 3


def test_nothing_is_left_in_the_process_at_the_end(
    site: Site, sequence: Sequence, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {one.name for one in threading.enumerate()}
    sequencer = sequence(site)
    perform(sequencer)
    assert sequencer.executors.living() == ("us",)
    sequencer.close()
    wait_for(lambda: {one.name for one in threading.enumerate()} <= before, 10)
    assert sequencer.executors.living() == ()
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("dbos").propagate


def test_rows_hold_ids_and_outcomes_and_no_pickled_objects(sqlite_site: Site, sequence: Sequence) -> None:
    import sqlite3

    perform(sequence(sqlite_site), FOUR[:1])
    with sqlite3.connect(sqlite_site.folder / "ismgr-steps.db") as connection:
        [status] = connection.execute(
            "SELECT workflow_uuid, serialization, executor_id, application_version FROM workflow_status"
        ).fetchall()
        inputs = connection.execute("SELECT * FROM workflow_input").fetchall()
        outputs = connection.execute("SELECT * FROM workflow_output").fetchall()
    assert status == ("run-1/1/stack/a/1", "portable_json", "us", "ismgr-units-1")
    assert [json.loads(row[1]) for row in inputs] == [{"positionalArgs": ["run-1", 1, "stack/a", 1], "namedArgs": {}}]
    assert '"kind"' in str(outputs)


def test_a_database_that_is_not_there_is_an_error_without_the_password(
    postgres: object, tmp_path: Path, sequence: Sequence
) -> None:
    place = Place(url="postgresql://ismgr:{secret}@127.0.0.1:9/none", password=Secret("canary-7f3"))
    site = Site(place, tmp_path)
    with pytest.raises(EngineFailed, match="cannot be opened") as caught:
        perform(sequence(site))
    assert "canary-7f3" not in f"{caught.value} {caught.value.detail}"


def test_a_name_that_was_an_executor_before_is_refused(sqlite_site: Site, sequence: Sequence) -> None:
    died = threading.Event()

    def work(unit: Unit) -> JsonObject:
        died.set()
        raise SystemExit

    first = sequence(sqlite_site, work)
    with pytest.raises(SystemExit):
        perform(first, FOUR[:1])
    first.close()
    with pytest.raises(InternalError, match="was an executor before"):
        perform(sequence(sqlite_site))


def test_somebody_who_calls_a_unit_off_in_the_database_stops_the_run(sqlite_site: Site, sequence: Sequence) -> None:
    gate = threading.Event()

    def work(unit: Unit) -> JsonObject:
        rows = Rows(sqlite_site.place)
        rows.open()
        rows.drop([unit.id])
        rows.close()
        gate.wait(1)
        return {}

    with pytest.raises(EngineFailed, match="called run-1/1/stack/a/1 off"):
        perform(sequence(sqlite_site, work), FOUR[:1])


def test_what_a_worker_gives_back_is_done_by_somebody(sqlite_site: Site) -> None:
    """A server that may not begin gives its units back, unchanged, until it may."""
    asked: list[str] = []

    def may_begin(unit: Unit) -> bool:
        asked.append(unit.id)
        return False

    rows = Rows(sqlite_site.place)
    rows.open()
    rows.open_queue("run-1", 1)
    rows.add(FOUR[0])
    with DbosServer(
        sqlite_site.place,
        executor="worker",
        holder=HOLDER,
        executors=sqlite_site.executors,
        work=lambda _unit: {},
        may_begin=may_begin,
    ) as server:
        server.listen(["run-1"])
        wait_for(lambda: rows.look([FOUR[0].id])[FOUR[0].id].state == "ended")
    letter = rows.look([FOUR[0].id])[FOUR[0].id].letter
    rows.close()
    assert letter is not None
    assert letter.kind == "not-begun"
    assert asked == [FOUR[0].id]


def test_importing_loads_no_dbos() -> None:
    code = "import sys, ismgr_automation.engines.steps.sequencer; assert not {'dbos', 'sqlalchemy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
