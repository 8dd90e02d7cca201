"""Real races for leases and approvals: processes and threads on one SQLite file and on a PostgreSQL server. Bounded:
the thousands are in the model of ``tests/runs``."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import IsmgrError, LeaseHeld, LeaseLost, NotApproved
from ismgr_automation.core.events import ignore
from ismgr_automation.engines.database import Database
from ismgr_automation.ports.leases import Holder
from ismgr_automation.runs.keeper import hold, this_process
from tests.engines.database.conftest import ALICE, BOB, LONG, SHORT, a_run, until

NAME = "e/lab"
RACERS = 8

RACER = """
import json, random, sys, time
from datetime import timedelta
from ismgr_automation.core.errors import EngineFailed, LeaseHeld
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.database import open_database
from ismgr_automation.runs.keeper import this_process

url, wins, password = sys.argv[1], int(sys.argv[2]), sys.stdin.read()
database = open_database(url, Secret(password) if password else None, estate="e")
me, tokens, deadline = this_process("race"), [], time.monotonic() + 240
while len(tokens) < wins and time.monotonic() < deadline:
    try:
        lease = database.leases.acquire("e/lab", me, timedelta(minutes=5))
    except (LeaseHeld, EngineFailed):  # somebody else has it; or has had the file for so long that nobody else got in
        time.sleep(random.uniform(0.002, 0.05))
        continue
    with open(sys.argv[3], "a") as inside:  # append: each write is whole
        inside.write(f"in {me.pid}\\n")
        inside.flush()
        inside.write(f"out {me.pid}\\n")
    tokens.append(lease.token)
    database.leases.release(lease)
database.close()
print(json.dumps(tokens))
"""


@dataclass(frozen=True)
class Place:
    """How another process gets to the database of a test."""

    url: str
    password: str


@pytest.fixture
def place(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if database.path is not None:
        return Place(f"sqlite:///{database.path}", "")
    server = request.getfixturevalue("postgres")
    return Place(server.url(request.getfixturevalue("postgres_database")), server.password.reveal())


def at_once(work: Callable[[int], object], count: int = RACERS) -> list[object]:
    """The same work in threads that begin together; what each gives or raises."""
    gate = threading.Barrier(count)

    def one(number: int) -> object:
        gate.wait(30)
        try:
            return work(number)
        except IsmgrError as problem:
            return problem

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_processes_that_race_never_hold_it_at_the_same_time(place: Place, tmp_path: Path) -> None:
    inside, wins = tmp_path / "inside", 8
    inside.touch()
    command = [sys.executable, "-c", RACER, place.url, str(wins), str(inside)]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for one in racers:
        assert one.stdin
        one.stdin.write(place.password)
        one.stdin.close()
        one.stdin = None
    won = [json.loads(one.communicate(timeout=300)[0]) for one in racers]
    assert sorted(token for tokens in won for token in tokens) == list(range(1, 3 * wins + 1))
    lines = inside.read_text().splitlines()
    assert len(lines) == 2 * 3 * wins
    assert all(came == went.replace("out", "in") for came, went in zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize("turn", range(5))
def test_of_many_that_ask_at_once_one_gets_it(database: Database, turn: int) -> None:
    """New, free after a release, and over: a first row, an update, and a takeover."""
    for before in (None, LONG, SHORT):
        if before is not None:
            held = database.leases.look(NAME)
            assert held is not None
            database.leases.break_(NAME, held.token)
            old = database.leases.acquire(NAME, BOB, before)
            if before is LONG:
                database.leases.release(old)
            else:
                until(lambda old=old: (database.leases.look(NAME) or old).expired)  # type: ignore[misc]
        outcomes = at_once(lambda number: database.leases.acquire(NAME, replace(ALICE, pid=number), LONG))
        (winner,) = [one for one in outcomes if not isinstance(one, IsmgrError)]
        assert all(isinstance(one, LeaseHeld) for one in outcomes if one is not winner)
        assert database.leases.look(NAME) == winner


def test_a_renewal_and_a_takeover_at_once_leave_one_holder(database: Database) -> None:
    for _ in range(5):
        mine = database.leases.acquire(NAME, ALICE, timedelta(milliseconds=30))
        until(lambda mine=mine: (database.leases.look(NAME) or mine).expired)  # type: ignore[misc]
        outcomes = at_once(
            lambda number, mine=mine: (
                database.leases.renew(mine)  # type: ignore[misc]
                if number % 2
                else database.leases.acquire(NAME, BOB, LONG)
            )
        )
        got = [one for one in outcomes if not isinstance(one, IsmgrError)]
        assert len(got) == 1
        assert all(isinstance(one, LeaseLost | LeaseHeld) for one in outcomes if one not in got)
        database.leases.break_(NAME, mine.token + 1)


def test_an_approval_is_used_by_one_of_many_runs_that_begin_at_once(database: Database) -> None:
    database.executors.living()
    outcomes = at_once(
        lambda number: database.runs.begin(a_run(f"20261122T08150{number}-aaaa"), [f"own-{number}", "shared"])
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(one, NotApproved) for one in outcomes) == RACERS - 1
    assert len(database.runs.runs()) == 1


def test_processes_that_open_a_new_database_at_once_make_its_tables_once(database: Database, place: Place) -> None:
    from ismgr_automation.core.secret import Secret
    from ismgr_automation.engines.database import open_database

    others = [open_database(place.url, Secret(place.password), estate="e") for _ in range(4)]
    beaten = at_once(lambda number: others[number].executors.beat(f"x{number}", ALICE, LONG), 4)
    assert beaten == [None] * 4
    assert len(database.executors.living()) == 4
    for one in others:
        one.close()


def test_ten_competing_controllers_apply_one_after_the_other(database: Database, tmp_path: Path) -> None:
    """Each wants the same two environments; at most one is inside of each at any moment, and everybody gets in."""
    names = ("e/lab", "e/live")
    most, now = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    lock = threading.Lock()

    def control(number: int) -> list[int]:
        tokens = []
        for name in names:
            with hold(
                database.leases,
                name,
                replace(this_process("apply"), pid=number),
                timedelta(seconds=30),
                wait=timedelta(minutes=2),
                leash=tmp_path / f"leash-{number}",
                emit=ignore,
                cancelled=threading.Event(),
            ) as kept:
                with lock:
                    now[name] += 1
                    most[name] = max(most[name], now[name])
                kept.check()
                tokens.append(kept.lease.token)
                with lock:
                    now[name] -= 1
        return tokens

    tokens = at_once(control, 10)
    assert most == {"e/lab": 1, "e/live": 1}
    for column in zip(*tokens, strict=True):  # type: ignore[call-overload]
        assert sorted(column) == list(range(1, 11))


def test_a_controller_that_is_refused_says_who_is_inside(database: Database) -> None:
    lease = database.leases.acquire(NAME, Holder(user="eve", host="ci", pid=7, started=1), LONG)
    refused = at_once(lambda number: database.leases.acquire(NAME, replace(ALICE, pid=number), LONG))
    assert all(isinstance(one, LeaseHeld) and one.since == lease.acquired_at for one in refused)
