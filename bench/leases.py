"""How many leases a second each kind of store takes, renews and gives back, and what a step costs in the journal. By
itself: `python -m bench.leases`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory import MemoryLeaseStore
from ismgr_automation.ports.runs import Run, Unit

COUNT = 300
THREADS = 8
TTL = timedelta(minutes=5)
HOLDER = Holder(user="bench", host="here", pid=1, started=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many things in so many seconds; without seconds ``note`` says why it was left out."""

    name: str
    count: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def per_second(self) -> float:
        """Things a second; 0 when it was left out."""
        return self.count / self.seconds if self.seconds else 0.0


def measure(scratch: Path, count: int = COUNT) -> Iterator[Rate]:
    """Leases in memory, in a file, and on a server that waits for the disk; and steps in the last two."""
    store = MemoryLeaseStore(clock=lambda: datetime.now(UTC))

    def in_memory() -> None:
        for _ in range(count):
            store.release(store.renew(store.acquire("bench/lab", HOLDER, TTL)))

    yield Rate(name="memory: take, renew, give back", count=count, seconds=_timed(in_memory))
    file = open_database(f"sqlite:///{scratch}/leases.db")
    yield from _of(file, "SQLite", count)
    with _server() as found:
        if found is None:
            yield Rate(name="PostgreSQL", note="no server on this machine: apt-get install postgresql")
        else:
            yield from _of(found, "PostgreSQL", count)


def _of(database: Database, name: str, count: int) -> Iterator[Rate]:
    leases = database.leases
    database.executors.living()

    def alone() -> None:
        for _ in range(count):
            leases.release(leases.renew(leases.acquire("bench/lab", HOLDER, TTL)))

    def many(number: int) -> None:
        for _ in range(count // THREADS):
            leases.release(leases.renew(leases.acquire(f"bench/{number}", HOLDER, TTL)))

    def together() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(many, number) for number in range(THREADS)]:
                done.result()

    yield Rate(name=f"{name}: take, renew, give back", count=count, seconds=_timed(alone))
    yield Rate(
        name=f"{name}: the same, {THREADS} threads, a lease each",
        count=count // THREADS * THREADS,
        seconds=_timed(together),
    )
    run = Run(
        id="20260101T000000-bench",
        estate="bench",
        environment="lab",
        digest="",
        purpose="apply",
        commit="",
        plan="",
        token=1,
        holder=HOLDER,
        started_at=datetime.now(UTC),
    )
    database.runs.begin(run, [])

    def steps() -> None:
        for number in range(count):
            unit = Unit(run=run.id, round=1, key=f"stack/{number}")
            database.journal.started(unit, "bench", 1)
            database.journal.finished(unit, 1, {"fate": "landed"})

    yield Rate(name=f"{name}: step begun and ended", count=count, seconds=_timed(steps))
    database.close()


@contextmanager
def _server() -> Iterator[Database | None]:
    """A server of our own that waits for the disk as a real one does; None where none is installed."""
    from tests.fixtures_postgres import INSTALLED, start_postgres

    if not list(INSTALLED.glob("*/bin/initdb")):
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="ismgr-pg-"))
    try:
        server = start_postgres(folder, fsync="on", full_page_writes="on", synchronous_commit="on")
        try:
            yield open_database(server.url(), server.password)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    """Print a line for each."""
    import sys

    with tempfile.TemporaryDirectory(prefix="ismgr-bench-") as folder:
        for one in measure(Path(folder)):
            sys.stdout.write(f"{one.name:<56}{one.note or f'{one.per_second:>9,.0f} a second'}\n")


if __name__ == "__main__":
    main()
