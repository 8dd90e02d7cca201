"""Results of drills, and what people write down about them: what every store promises, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.ports.drills import DrillStore
from ismgr_automation.ports.memory import MemoryDrillStore
from ismgr_automation.recovery.particulars import note_json
from ismgr_automation.recovery.result import result_json
from ismgr_automation.recovery.topics import Topic
from tests.fixtures_postgres import PostgresServer
from tests.recovery.results import finding, result, statement

Stores = Callable[[str], DrillStore]
NOTES = [note_json(finding()), note_json(statement(Topic.ACCESS)), note_json(finding(text="again"))]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Empty stores of each kind, by environment."""
    if request.param == "memory":
        made: dict[str, MemoryDrillStore] = {}
        yield lambda environment: made.setdefault(environment, MemoryDrillStore())
        return
    if request.param == "sqlite":
        opened: Database = open_database(f"sqlite:///{tmp_path}/ismgr.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = open_database(server.url(request.getfixturevalue("postgres_database")), server.password)
    yield opened.drills
    opened.close()


def test_nothing_is_known_of_a_drill_that_never_was(stores: Stores) -> None:
    store = stores("lab")
    assert (store.result("run-1"), tuple(store.results()), tuple(store.notes("run-1"))) == (None, (), ())


def test_a_result_comes_back_as_it_was_and_a_later_one_takes_its_place(stores: Stores) -> None:
    store, first = stores("lab"), result_json(result())
    store.keep("run-1", "records", first)
    store.keep("run-2", "other", first)
    assert store.result("run-1") == first
    store.keep("run-1", "records", {**first, "verdict": "failed"})
    assert [one["verdict"] for one in store.results("records")] == ["failed"]
    assert len(store.results()) == 2
    assert len(store.results(limit=1)) == 1
    assert stores("other").result("run-1") is None


def test_what_is_written_down_is_appended_and_kept_apart_by_run_and_environment(stores: Stores) -> None:
    store = stores("lab")
    for note in NOTES:
        store.note("run-1", note)
    store.note("run-2", NOTES[0])
    stores("other").note("run-1", NOTES[1])
    assert list(store.notes("run-1")) == NOTES
    assert list(store.notes("run-2")) == NOTES[:1]
    assert list(stores("other").notes("run-1")) == NOTES[1:2]


def test_a_new_result_leaves_what_was_written_down(stores: Stores) -> None:
    store = stores("lab")
    store.keep("run-1", "records", result_json(result()))
    store.note("run-1", NOTES[0])
    store.keep("run-1", "records", result_json(result()))
    assert list(store.notes("run-1")) == NOTES[:1]
