"""Leases in a file when clocks are set, machines sleep and reboot; and whose clock counts on a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ismgr_automation.core.errors import LeaseHeld, LeaseLost
from ismgr_automation.engines.database import Database, open_database
from ismgr_automation.engines.database.moments import MachineMoment, boot_id
from tests.engines.database.conftest import ALICE, BOB, LONG
from tests.fixtures_postgres import PostgresServer

NAME = "e/lab"
TTL = timedelta(seconds=30)
SECOND = 1_000_000
DAY = 86_400 * SECOND


class Machine:
    """A machine whose clocks a test sets."""

    def __init__(self) -> None:
        self.moment = MachineMoment(wall_us=DAY * 20_000, boot="first", boot_us=1000 * SECOND)

    def pass_(self, seconds: float) -> None:
        us = int(seconds * SECOND)
        self.moment = replace(self.moment, wall_us=self.moment.wall_us + us, boot_us=self.moment.boot_us + us)

    def set_wall(self, by_us: int) -> None:
        self.moment = replace(self.moment, wall_us=self.moment.wall_us + by_us)

    def reboot(self, took_seconds: float = 20) -> None:
        self.pass_(took_seconds)
        self.moment = replace(self.moment, boot=f"after {self.moment.boot}", boot_us=5 * SECOND)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(MachineMoment, "now", classmethod(lambda _cls: made.moment))
    return made


@pytest.fixture
def file(machine: Machine, tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/ismgr.db")


def test_the_clocks_are_those_of_this_machine() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    now = MachineMoment.now()
    assert before <= now.boot_us <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    assert abs(now.wall_us - time.time_ns() // 1000) < DAY
    assert now.boot == boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_setting_the_clock_neither_ends_nor_prolongs_a_lease(file: Database, machine: Machine, by: int) -> None:
    lease = file.leases.acquire(NAME, ALICE, TTL)
    machine.pass_(29)
    machine.set_wall(by)
    with pytest.raises(LeaseHeld) as caught:
        file.leases.acquire(NAME, BOB, TTL)
    # told by the clock as it is now: one second is left
    wall = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=machine.moment.wall_us)
    assert caught.value.until == wall + timedelta(seconds=1)
    assert file.leases.renew(lease).token == 1
    machine.pass_(30)
    with pytest.raises(LeaseLost):
        file.leases.renew(lease)
    assert file.leases.acquire(NAME, BOB, TTL).token == 2


def test_a_lease_of_an_earlier_boot_is_over_when_its_time_is(file: Database, machine: Machine) -> None:
    file.leases.acquire(NAME, ALICE, TTL)
    machine.reboot(took_seconds=20)
    with pytest.raises(LeaseHeld):
        file.leases.acquire(NAME, BOB, TTL)
    machine.pass_(10)
    assert file.leases.acquire(NAME, BOB, TTL).token == 2


def test_a_clock_that_was_set_back_during_a_reboot_keeps_no_lease_longer_than_its_time(
    file: Database, machine: Machine
) -> None:
    file.leases.acquire(NAME, ALICE, TTL)
    machine.reboot()
    machine.set_wall(-DAY)
    with pytest.raises(LeaseHeld):
        file.leases.acquire(NAME, BOB, TTL)
    machine.pass_(29)
    with pytest.raises(LeaseHeld):
        file.leases.acquire(NAME, BOB, TTL)
    machine.pass_(1)
    assert file.leases.acquire(NAME, BOB, TTL).token == 2


def test_a_clock_that_was_set_forward_during_a_reboot_frees_what_no_process_can_hold(
    file: Database, machine: Machine
) -> None:
    file.leases.acquire(NAME, ALICE, TTL)
    machine.reboot()
    machine.set_wall(DAY)
    assert file.leases.acquire(NAME, BOB, TTL).token == 2


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_executors_live_by_the_same_clock(file: Database, machine: Machine, by: int) -> None:
    file.executors.beat("a", ALICE, TTL)
    machine.set_wall(by)
    assert file.executors.living() == ("a",)
    machine.pass_(30)
    assert file.executors.living() == ()


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    said: list[str] = []
    note = lambda _c, _cursor, statement, *_: said.append(statement)  # noqa: E731
    sa.event.listen(database._engine, "before_cursor_execute", note)
    yield said
    sa.event.remove(database._engine, "before_cursor_execute", note)


def test_on_a_server_its_clock_counts_and_one_statement_compares_and_sets(
    postgres: PostgresServer, postgres_database: str, machine: Machine
) -> None:
    database = open_database(postgres.url(postgres_database), postgres.password)
    database.executors.living()
    machine.set_wall(-50 * DAY)
    with statements(database) as said:
        lease = database.leases.acquire(NAME, ALICE, LONG)
    ((now,),) = postgres.run("SELECT extract(epoch FROM clock_timestamp())")
    assert abs(lease.acquired_at.timestamp() - float(str(now))) < 600
    (taking,) = [one for one in said if "leases" in one]
    assert taking.startswith("INSERT")
    assert "clock_timestamp()" in taking.partition("WHERE")[2]
    with statements(database) as said:
        database.leases.renew(lease)
    (renewing,) = [one for one in said if "leases" in one]
    assert "clock_timestamp()" in renewing.partition("WHERE")[2]
    database.close()
