"""What durable steps cost: opening what carries units out, one unit after another, many at once, and going on with a
run that another process left. The work itself does nothing.

``python -m bench.steps`` prints JSON for SQLite. ``ISMGR_BENCH_POSTGRESQL=postgresql://USER@HOST/DATABASE`` measures
that server instead, in a schema of its own that is left behind.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.steps.rows import Place, Rows
from ismgr_automation.engines.steps.sequencer import DbosSequencer
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory import MemoryExecutors
from ismgr_automation.ports.runs import Unit

SERVER = "ISMGR_BENCH_POSTGRESQL"
ONE_BY_ONE = 20
TOGETHER = 100
AT_ONCE = 4
HOLDER = Holder(user="bench", host="bench", pid=os.getpid(), started=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """So many units took so many seconds; ``units`` is 0 where something else was timed."""

    name: str
    seconds: float
    units: int = 0


def place(scratch: Path) -> Place:
    """Where the steps of a measurement stand."""
    url = os.environ.get(SERVER)
    if url:
        return Place(url=url, schema=f"ismgr_bench_{os.getpid()}")
    return Place(url=f"sqlite:///{scratch}/steps.db")


def measure(where: Place) -> tuple[Cost, ...]:
    """All of it, in this process, on an empty place."""
    began = time.perf_counter()
    import dbos  # noqa: F401  timed

    imported = time.perf_counter() - began
    with _sequencer(where, "first") as sequencer:
        first = _perform(sequencer, _units("first", 1))
        alone = sum(_perform(sequencer, [unit]) for unit in _units("alone", ONE_BY_ONE))
        together = _perform(sequencer, _units("together", TOGETHER))
        began = time.perf_counter()
    closed = time.perf_counter() - began
    return (
        Cost(name="import DBOS", seconds=imported),
        Cost(name="empty database to the first outcome", seconds=first),
        Cost(name="one unit at a time", seconds=alone, units=ONE_BY_ONE),
        Cost(name=f"{AT_ONCE} units at once", seconds=together, units=TOGETHER),
        Cost(name="end", seconds=closed),
        Cost(name="resume: to the first outcome of a run that another left", seconds=_resumed(where)),
    )


def _resumed(where: Place) -> float:
    """A run that stands in the database as a killed coordinator left it: units are queued, and nobody takes them."""
    units = _units("left", 5, run="bench-left")
    rows = Rows(where)
    rows.open()
    rows.open_queue("bench-left", AT_ONCE)
    for unit in units:
        rows.add(unit)
    rows.close()
    began = time.perf_counter()
    with _sequencer(where, "heir") as sequencer:
        next(iter(sequencer.perform(units, threading.Event())))
        return time.perf_counter() - began


def _sequencer(where: Place, name: str) -> DbosSequencer:
    return DbosSequencer(
        where,
        executor=f"bench-{name}",
        holder=HOLDER,
        executors=MemoryExecutors(),
        work=_nothing,
        at_once=AT_ONCE,
        ttl=timedelta(minutes=5),
    )


def _nothing(_unit: Unit) -> JsonObject:
    return {}


def _units(name: str, count: int, run: str = "bench") -> list[Unit]:
    return [Unit(run=run, round=1, key=f"stack/{name}-{number}") for number in range(count)]


def _perform(sequencer: DbosSequencer, units: list[Unit]) -> float:
    began = time.perf_counter()
    outcomes = list(sequencer.perform(units, threading.Event()))
    if len(outcomes) != len(units):
        raise RuntimeError(f"{len(units) - len(outcomes)} units gave no outcome")
    return time.perf_counter() - began


def main() -> None:
    """Print the costs as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        json.dump([asdict(one) for one in measure(place(Path(scratch)))], sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
