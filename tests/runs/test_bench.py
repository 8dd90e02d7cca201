"""The estates of a worker and their leashes: opened once, kept, and of no use once a leash was over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Run
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.runs.bench import Benches, Key
from ismgr_automation.runs.desk import Seat
from ismgr_automation.runs.keeper import clock_ns

HOLDER = Holder(user="ana", host="desk", pid=1, started=0.0)
HOUR_NS = 3600 * 10**9


def a_run(name: str = "r1", token: int = 1) -> Run:
    return Run(
        id=name,
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


@dataclass(slots=True)
class Room:
    """Benches with a lease that a test lengthens and ends, and an opener that it may hold up."""

    folder: Path
    until_ns: int = field(default_factory=lambda: clock_ns() + HOUR_NS)
    seats: list[Seat] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    benches: Benches = field(init=False)

    def __post_init__(self) -> None:
        self.benches = Benches(self.open, self.folder, self.until)

    def until(self, _key: Key) -> int:
        return self.until_ns

    @contextmanager
    def open(self, run: Run, seat: Seat) -> Iterator[Work]:
        self.meanwhile()
        self.seats.append(seat)
        yield lambda unit: {"key": unit.key}
        self.closed.append(run.id)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def leash(seat: Seat) -> int:
    return int(seat.leash.read_text())


def test_a_bench_is_opened_once_however_many_units_want_it(room: Room) -> None:
    together = threading.Barrier(4, timeout=10)

    def want() -> None:
        together.wait()
        room.benches.ready(a_run(), "w")

    threads = [threading.Thread(target=want) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(room.seats) == 1
    assert leash(room.seats[0]) == room.until_ns


def test_leashes_of_others_are_kept_while_one_is_being_opened(room: Room) -> None:
    """Opening an estate takes seconds: long enough for a leash to be over."""
    room.benches.ready(a_run("r1"), "w")
    opening, go_on = threading.Event(), threading.Event()

    def hold_up() -> None:
        opening.set()
        go_on.wait(10)

    room.meanwhile = hold_up
    thread = threading.Thread(target=room.benches.ready, args=(a_run("r2"), "w"))
    thread.start()
    opening.wait(10)
    room.until_ns += HOUR_NS
    assert room.benches.tend() == ()
    assert leash(room.seats[0]) == room.until_ns
    room.until_ns += HOUR_NS
    go_on.set()
    thread.join()
    # the lease was renewed while the second one was opened: its leash is as long as it can be now
    assert leash(room.seats[1]) == room.until_ns


def test_a_bench_whose_leash_was_over_is_spent_though_the_lease_goes_on(room: Room) -> None:
    """Engines on it were killed: what they say is not how the unit ended, and nobody may write it down."""
    first = room.benches.ready(a_run(), "w")
    assert first.seat.ours()
    first.until_ns = 1
    assert room.benches.tend() == (("r1", 1),)
    assert not first.seat.ours()
    assert first.seat.cancelled.is_set()
    assert leash(first.seat) == 0
    second = room.benches.ready(a_run(), "w")
    assert second is not first
    assert second.seat.ours()


def test_nothing_is_ours_once_the_leash_is_over_even_before_anybody_noticed(room: Room) -> None:
    bench = room.benches.ready(a_run(), "w")
    bench.seat.leash.write_text("1")
    assert not bench.seat.ours()


def test_the_end_of_a_lease_ends_the_bench(room: Room) -> None:
    bench = room.benches.ready(a_run(), "w")
    room.until_ns = 0
    assert room.benches.tend() == (("r1", 1),)
    assert room.benches.get(("r1", 1)) is None
    assert not room.closed, "a unit may still be in hand"
    room.benches.close(everything=False)
    assert room.closed == ["r1"]
    assert not bench.seat.ours()


def test_another_token_is_another_bench(room: Room) -> None:
    assert room.benches.ready(a_run(token=1), "w") is not room.benches.ready(a_run(token=2), "w")


def test_an_estate_that_cannot_be_opened_is_no_bench(room: Room) -> None:
    def fail() -> None:
        raise InputError("There is no commit c.")

    room.meanwhile = fail
    with pytest.raises(InputError):
        room.benches.ready(a_run(), "w")
    assert room.benches.open_now() == ()


def test_all_are_closed_at_the_end(room: Room) -> None:
    room.benches.ready(a_run("r1"), "w")
    room.benches.ready(a_run("r2"), "w")
    room.benches.close(everything=True)
    assert sorted(room.closed) == ["r1", "r2"]
