"""The loop of a worker: for which runs it works, what it does when their coordinators go, how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, InputError, NotApproved
from ismgr_automation.core.events import Event, StepReported
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.leases import Holder, Lease
from ismgr_automation.ports.memory.leases import MemoryClock, MemoryLeaseStore
from ismgr_automation.ports.memory.runs import MemoryRunLedger
from ismgr_automation.ports.runs import Run, RunState, Unit
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.runs.desk import Desk, MayBegin, Orders, Seat
from ismgr_automation.runs.keeper import clock_ns
from ismgr_automation.runs.worker import Worker

TTL = timedelta(seconds=30)
HOLDER = Holder(user="ana", host="desk", pid=1, started=0.0)


@dataclass(slots=True)
class Scripted:
    """A ``runs.desk.Server`` in this thread: each ``wait`` is one act of a play. A unit is begun and ended by acts."""

    work: Work
    may_begin: MayBegin
    acts: list[Callable[[Scripted], None]]
    left: dict[str, int]
    cancelled: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    listening: tuple[str, ...] = ()
    listened: list[tuple[str, ...]] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    outcomes: list[JsonObject | None] = field(default_factory=list)
    name: str = "worker-1"
    alive: bool = True

    @property
    def until_ns(self) -> int:
        return clock_ns() + 10**10 if self.alive else 0

    def listen(self, runs: Sequence[str]) -> None:
        assert not self.units, "a unit was in hand"
        self.listening = tuple(runs)
        self.listened.append(self.listening)

    def in_hand(self) -> tuple[Unit, ...]:
        return tuple(self.units)

    def give_up(self, unit: Unit) -> None:
        self.given_up.append(unit.id)

    def takes_work(self, run: str) -> bool:
        return run not in self.closed

    def is_cancelled(self, run: str) -> bool:
        return run in self.cancelled

    def waiting(self, run: str) -> int:
        return self.left.get(run, 0)

    def wait(self, _seconds: float) -> None:
        if not self.acts:
            raise AssertionError("the play is over and the worker goes on")
        self.acts.pop(0)(self)

    def carry(self, unit: Unit) -> None:
        """What the real one does in a thread."""
        self.outcomes.append(self.work(unit) if self.may_begin(unit) else None)


@dataclass(slots=True)
class Play:
    """A worker, its surroundings, and what it said."""

    folder: Path
    clock: MemoryClock = field(default_factory=MemoryClock)
    ledger: MemoryRunLedger = field(default_factory=MemoryRunLedger)
    acts: list[Callable[[Scripted], None]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    """How many units wait, by run."""
    servers: list[Scripted] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    refusal: Exception | None = None
    unable: Exception | None = None
    said: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    leases: MemoryLeaseStore = field(init=False)
    held: dict[str, Lease] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.leases = MemoryLeaseStore(clock=self.clock)

    def run(self, name: str, environment: str = "lab") -> str:
        """A run whose coordinator lives."""
        lease = self.leases.acquire(f"infra/{environment}", HOLDER, TTL)
        self.held[name] = lease
        self.ledger.begin(
            Run(
                id=name,
                estate="infra",
                environment=environment,
                digest="",
                purpose="apply",
                commit="c",
                plan="",
                token=lease.token,
                holder=HOLDER,
                started_at=self.clock(),
            ),
            [],
        )
        return name

    def renew(self, _server: Scripted | None = None) -> None:
        self.clock.pass_(timedelta(seconds=5))
        for lease in self.held.values():
            self.leases.renew(lease)

    def die(self, _server: Scripted | None = None) -> None:
        """All coordinators die, and their time goes by."""
        self.clock.pass_(TTL * 2)

    def end(self, _server: Scripted | None = None) -> None:
        self.stop.set()

    def work(self, **orders: object) -> Worker:
        @contextmanager
        def serving(work: Work, may_begin: MayBegin) -> Iterator[Scripted]:
            server = Scripted(work, may_begin, self.acts, self.left)
            self.servers.append(server)
            yield server

        @contextmanager
        def opened(run: Run, seat: Seat) -> Iterator[Work]:
            if self.unable is not None:
                raise self.unable
            self.seats.append(seat)
            yield lambda unit: {"key": unit.key}
            self.closed.append(run.id)

        def resume(run: Run) -> str:
            if self.refusal is not None:
                raise self.refusal
            self.resumed.append(run.id)
            self.ledger.rows[run.id] = replace(run, state=RunState.DONE)
            return "done"

        desk = Desk(
            runs=self.ledger,
            leases=self.leases,
            serving=serving,
            open=opened,
            resume=resume,
            folder=self.folder,
            emit=self.note,
        )
        worker = Worker(desk, Orders(**orders))  # type: ignore[arg-type]
        worker.run(self.stop)
        return worker

    def note(self, event: Event) -> None:
        assert isinstance(event, StepReported)
        self.said.append(f"{event.step}: {event.detail}")


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def unit(run: str = "r1", key: str = "stack/a") -> Unit:
    return Unit(run=run, round=1, key=key)


def nothing(_server: Scripted) -> None:
    pass


def test_a_worker_begins_nothing_before_it_saw_the_lease_renewed(play: Play) -> None:
    play.run("r1")
    play.acts = [nothing, play.renew, lambda server: server.carry(unit()), play.end]
    worker = play.work()
    [server] = play.servers
    assert server.listened == [("r1",)]
    assert server.outcomes == [{"key": "stack/a"}]
    assert worker.tally.done == 1
    assert play.closed == ["r1"]


def test_an_estate_is_opened_once_for_all_units_of_a_run(play: Play) -> None:
    play.run("r1")
    play.acts = [
        play.renew,
        lambda server: server.carry(unit()),
        lambda server: server.carry(unit(key="stack/b")),
        play.end,
    ]
    play.work()
    assert len(play.seats) == 1
    assert play.seats[0].executor == "worker-1"
    assert int(play.seats[0].leash.read_text()) > clock_ns()


def test_a_unit_is_given_back_when_the_lease_may_be_over(play: Play) -> None:
    play.run("r1")

    def carry_late(server: Scripted) -> None:
        play.stop.set()  # so that nobody waits
        server.carry(unit())

    play.acts = [play.renew, carry_late]
    play.work()
    assert play.servers[0].outcomes == [None]


def test_units_of_a_run_that_takes_no_more_work_are_given_back(play: Play) -> None:
    play.run("r1")

    def close_and_carry(server: Scripted) -> None:
        server.closed.add("r1")
        play.stop.set()
        server.carry(unit())

    play.acts = [play.renew, close_and_carry]
    play.work()
    assert play.servers[0].outcomes == [None]
    assert not play.seats


def begin(server: Scripted) -> None:
    server.carry(unit())
    server.units.append(unit())


def finish(server: Scripted) -> None:
    server.units.clear()


def test_a_unit_in_hand_is_stopped_and_given_up_when_its_lease_is_lost(play: Play) -> None:
    play.run("r1")

    def see(server: Scripted) -> None:
        assert play.seats[0].cancelled.is_set()
        assert play.seats[0].leash.read_text() == "0"
        assert server.given_up == [unit().id]
        assert not play.resumed, "nobody takes over with a unit in hand"
        finish(server)

    play.acts = [play.renew, begin, play.die, see, play.end]
    worker = play.work()
    assert worker.tally.given_up == [unit().id]


def test_a_unit_in_hand_is_stopped_and_keeps_its_outcome_when_its_run_is_cancelled(play: Play) -> None:
    play.run("r1")

    def cancel(server: Scripted) -> None:
        server.cancelled.add("r1")

    def see(server: Scripted) -> None:
        assert play.seats[0].cancelled.is_set()
        assert not server.given_up
        finish(server)

    play.acts = [play.renew, begin, cancel, see, play.end]
    play.work()


def test_our_own_time_ends_a_unit_as_well(play: Play) -> None:
    play.run("r1")

    def fade(server: Scripted) -> None:
        server.alive = False

    def see(server: Scripted) -> None:
        assert server.given_up == [unit().id]
        finish(server)

    play.acts = [play.renew, begin, fade, see, play.end]
    play.work()


def test_a_run_whose_coordinator_is_gone_is_taken_over(play: Play) -> None:
    play.run("r1")
    play.acts = [play.die, play.end]
    worker = play.work()
    assert worker.tally.resumed == play.resumed == ["r1"]
    assert len(play.servers) == 2, "nothing else is served meanwhile"


def test_a_run_that_was_left_is_taken_over_however_many_have_ended_since(play: Play) -> None:
    left = play.ledger.rows[play.run("r1")]
    for number in range(300):
        name = f"r2-{number:03}"
        play.ledger.rows[name] = replace(left, id=name, state=RunState.DONE, started_at=play.clock())
    play.acts = [play.die, play.end]
    assert play.work().tally.resumed == ["r1"]


def test_a_refused_takeover_is_told_once_and_rests(play: Play) -> None:
    play.run("r1")
    play.die()
    play.refusal = NotApproved("Approvals are missing.")
    play.acts = [nothing, nothing, nothing, play.end]
    play.work()
    assert [line for line in play.said if line.startswith("waits")] == [
        "waits: run r1 was not taken over: Approvals are missing. Nothing was touched."
    ]


def test_a_run_that_cannot_be_opened_here_is_left_to_others(play: Play) -> None:
    play.run("r1")
    play.unable = InputError("There is no commit c in this clone.")

    def try_it(server: Scripted) -> None:
        play.stop.wait = lambda _seconds: False  # type: ignore[method-assign,misc,assignment]
        server.carry(unit())

    play.acts = [play.renew, try_it, nothing, play.end]
    play.work()
    assert play.servers[0].outcomes == [None]
    assert play.servers[0].listened == [("r1",), ()]
    assert any("There is no commit c in this clone" in line for line in play.said)


def test_a_worker_for_one_run_leaves_others_alone(play: Play) -> None:
    play.run("r1")
    play.run("r2", "other")
    play.acts = [play.renew, nothing, play.end]
    play.work(only="r2")
    assert play.servers[0].listened == [("r2",)]


def test_a_worker_of_one_environment_leaves_others_alone(play: Play) -> None:
    play.run("r1")
    play.run("r2", "other")
    play.acts = [play.renew, nothing, play.end]
    play.work(environment="lab")
    assert play.servers[0].listened == [("r1",)]


def test_a_run_that_is_not_there_is_an_error(play: Play) -> None:
    with pytest.raises(InputError, match="r9"):
        play.work(only="r9")


def test_runs_change_only_when_no_unit_is_in_hand(play: Play) -> None:
    play.run("r1")

    def second(_server: Scripted) -> None:
        play.run("r2", "other")

    play.acts = [play.renew, begin, second, play.renew, nothing, finish, play.end]
    play.work()
    assert play.servers[0].listened == [("r1",), ("r1", "r2")]


def test_once_ends_when_nothing_is_left(play: Play) -> None:
    play.run("r1")
    play.left["r1"] = 1

    def idle(_server: Scripted) -> None:
        play.left["r1"] = 0

    play.acts = [nothing, play.renew, nothing, idle]
    play.work(once=True)
    assert not play.acts
    assert play.servers[0].listened == [("r1",)]


def test_a_worker_that_is_stopped_waits_for_the_unit_in_hand(play: Play) -> None:
    play.run("r1")
    play.acts = [play.renew, begin, play.end, nothing, finish]
    worker = play.work(grace=timedelta(hours=1))
    assert not worker.tally.given_up
    assert "stopping: waiting for stack/a" in play.said


def test_a_unit_that_takes_longer_than_the_grace_is_given_up(play: Play) -> None:
    play.run("r1")
    play.acts = [play.renew, begin, play.end, finish]
    worker = play.work(grace=timedelta())
    assert worker.tally.given_up == [unit().id]
    assert play.seats[0].cancelled.is_set()


def test_a_second_interrupt_gives_up_at_once(play: Play) -> None:
    play.run("r1")

    def interrupt(_server: Scripted) -> None:
        raise KeyboardInterrupt

    play.acts = [play.renew, begin, play.end, interrupt, finish]
    with pytest.raises(KeyboardInterrupt):
        play.work(grace=timedelta(hours=1))
    assert play.servers[0].given_up == [unit().id]
    assert play.seats[0].cancelled.is_set()


def test_a_database_that_is_away_for_a_moment_is_waited_for(play: Play) -> None:
    play.run("r1")

    def away(_server: Scripted) -> None:
        play.leases.faults["look"] = EngineFailed("The database is away.", engine="sqlite")

    def back(_server: Scripted) -> None:
        play.leases.faults.clear()
        play.renew()

    play.acts = [play.renew, away, nothing, back, lambda server: server.carry(unit()), play.end]
    worker = play.work()
    assert worker.tally.done == 1
    assert [line for line in play.said if "away" in line] == ["waits: The database is away."]
