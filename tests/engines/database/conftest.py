"""The same stores three times: in memory, in a SQLite file, on a real PostgreSQL server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.ports.leases import Holder, LeaseStore
from ismgr_automation.ports.memory import MemoryExecutors, MemoryLeaseStore, MemoryRunLedger, MemoryStepJournal
from ismgr_automation.ports.runs import Executors, Run, RunLedger, StepJournal
from tests.fixtures_postgres import PostgresServer

ALICE = Holder(user="alice", host="desk", pid=11, started=1.5, boot="b", purpose="apply")
BOB = Holder(user="bob", host="ci", pid=12, started=2.5, boot="b", purpose="resume r")
LONG = timedelta(minutes=5)
SHORT = timedelta(milliseconds=60)


@dataclass(frozen=True, slots=True)
class Stores:
    """What an estate's database holds, wherever it is."""

    leases: LeaseStore
    runs: RunLedger
    journal: StepJournal
    executors: Executors


def stores_of(database: Database) -> Stores:
    return Stores(database.leases, database.runs, database.journal, database.executors)


def stores_in_memory() -> Stores:
    ledger = MemoryRunLedger()
    now = lambda: datetime.now(UTC)  # noqa: E731
    return Stores(
        MemoryLeaseStore(clock=now), ledger, MemoryStepJournal(ledger=ledger, clock=now), MemoryExecutors(clock=now)
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Opens one real database, empty at first, as often as it is asked to."""
    opened: list[Database] = []

    def open_() -> Database:
        if request.param == "sqlite":
            opened.append(open_database(f"sqlite:///{tmp_path}/ismgr.db", estate="e"))
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            name: str = request.getfixturevalue("postgres_database")
            opened.append(open_database(server.url(name), server.password, estate="e"))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.fixture
def database(again: Callable[[], Database]) -> Database:
    """A real one, empty."""
    return again()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Empty stores of each kind."""
    if request.param == "memory":
        yield stores_in_memory()
        return
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path}/ismgr.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = open_database(server.url(request.getfixturevalue("postgres_database")), server.password)
    yield stores_of(opened)
    opened.close()


def a_run(name: str = "20261122T081500-3f9a", token: int = 1, environment: str = "lab") -> Run:
    return Run(
        id=name,
        estate="e",
        environment=environment,
        digest="sha256:1",
        purpose="apply",
        commit="abc",
        plan='{"format": "plan"}',
        token=token,
        holder=ALICE,
        started_at=datetime.strptime(name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC),
    )


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
