"""What is remembered between patch runs, whatever it is kept in."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ismgr_automation.core.address import group
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.database import Database, open_database, schema
from ismgr_automation.ports.memory import MemoryPatchStore
from ismgr_automation.ports.packages import Boot, HostFacts, Installed, Move, Need, Offered, Stale
from ismgr_automation.ports.patching import Patched, PatchStore, Waiting
from ismgr_automation.ports.runs import RunState, Sought
from tests.engines.database.conftest import ALICE, LONG, a_run
from tests.fixtures_postgres import PostgresServer

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

Stores = Callable[[str], PatchStore]


@pytest.fixture
def file(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/ismgr.db")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Empty stores of each kind, by environment."""
    if request.param == "memory":
        made: dict[str, MemoryPatchStore] = {}
        yield lambda environment: made.setdefault(environment, MemoryPatchStore())
        return
    if request.param == "sqlite":
        opened: Database = request.getfixturevalue("file")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = open_database(server.url(request.getfixturevalue("postgres_database")), server.password)
    yield opened.patches
    opened.close()


@pytest.fixture
def store(stores: Stores) -> PatchStore:
    return stores("lab")


def reading(host: str, at: datetime = NOON, kernel: str = "6.1.0-26-amd64") -> HostFacts:
    return HostFacts(
        host=host,
        read_at=at,
        distribution="debian",
        release="12",
        codename="bookworm",
        kernel=kernel,
        kernel_installed="6.1.0-27-amd64",
        boot=Boot(boot_id="4f", init_started=812),
        installed=(
            Installed(
                name="libssl3", architecture="amd64", version="3.0.14-1", source="openssl", source_version="3.0.14-1"
            ),
        ),
        offered=(
            Offered(
                name="libssl3",
                architecture="amd64",
                version="3.0.15-1~deb12u1",
                source="openssl",
                source_version="3.0.15-1~deb12u1",
                digest="sha256:4f",
                candidate=True,
            ),
        ),
        stale=(Stale(pid=1, command="systemd", files=("/usr/lib/libssl.so.3",)),),
        reboot=Need.YES,
        reboot_why=("another kernel is installed",),
        seconds=0.31,
    )


def test_the_last_reading_of_each_host_comes_back(store: PatchStore) -> None:
    assert store.facts() == {}
    store.keep_facts([reading("web2"), reading("web1"), reading("db1")])
    assert store.facts() == {host: reading(host) for host in ("db1", "web1", "web2")}
    assert list(store.facts()) == ["db1", "web1", "web2"]
    assert store.facts(["web2", "nowhere", "db1"]) == {"db1": reading("db1"), "web2": reading("web2")}
    assert store.facts([]) == {}


def test_a_later_reading_replaces_an_older_one_and_never_the_other_way_round(store: PatchStore) -> None:
    later = reading("web1", NOON + HOUR, "6.1.0-27-amd64")
    store.keep_facts([reading("web1")])
    store.keep_facts([later])
    store.keep_facts([reading("web1")])
    assert store.facts(["web1"]) == {"web1": later}
    again = replace(later, kernel="of the same moment")
    store.keep_facts([again, reading("web1")])
    assert store.facts(["web1"]) == {"web1": again}


def test_environments_remember_for_themselves(stores: Stores) -> None:
    lab, live = stores("lab"), stores("live")
    lab.keep_facts([reading("web1")])
    lab.enqueue([away("web1")])
    lab.keep_patched([patched("run-1", "web1")])
    assert (live.facts(), live.waiting(), live.patched(), live.durations("web1")) == ({}, (), (), ())
    live.enqueue([away("web1", since=NOON + HOUR)])
    live.dequeue(["web1"])
    assert lab.waiting() == (away("web1"),)


def away(host: str, since: datetime = NOON, run: str = "") -> Waiting:
    return Waiting(host=host, baseline="servers", since=since, expires_at=since + 24 * HOUR, run=run)


def test_the_longest_waiting_comes_first(store: PatchStore) -> None:
    assert store.waiting() == ()
    store.enqueue([away("web3", NOON + HOUR, "run-1"), away("web2")])
    store.enqueue([away("web1")])
    assert store.waiting() == (away("web1"), away("web2"), away("web3", NOON + HOUR, "run-1"))


def test_who_is_in_the_queue_keeps_its_place_and_its_expiry(store: PatchStore) -> None:
    store.enqueue([away("web1")])
    store.enqueue([away("web1", NOON + HOUR, "run-2"), away("web2", NOON + HOUR)])
    assert store.waiting() == (away("web1"), away("web2", NOON + HOUR))


def test_who_was_taken_out_queues_anew(store: PatchStore) -> None:
    store.enqueue([away("web1"), away("web2")])
    store.dequeue(["web1", "nowhere"])
    assert store.waiting() == (away("web2"),)
    store.enqueue([away("web1", NOON + HOUR)])
    assert store.waiting() == (away("web2"), away("web1", NOON + HOUR))


MOVES = (
    Move(name="libssl3", architecture="amd64", before="3.0.14-1", after="3.0.15-1~deb12u1", digest="sha256:4f"),
    Move(name="bash", architecture="amd64", before="5.2.15-2+b2", after="5.2.15-2"),
)


def patched(run: str, host: str, at: datetime = NOON, minutes: float = 2) -> Patched:
    return Patched(run=run, host=host, at=at, moves=MOVES, took=timedelta(minutes=minutes))


def test_what_was_done_comes_back_the_newest_first(store: PatchStore) -> None:
    first = [patched("run-1", "web2"), patched("run-1", "web1")]
    second = [patched("run-2", "web1", NOON + HOUR, 3)]
    store.keep_patched(second)
    store.keep_patched(first)
    assert store.patched() == (second[0], first[1], first[0])
    assert store.patched(limit=2) == (second[0], first[1])
    assert store.patched("web1") == (second[0], first[1])
    assert store.patched(run="run-1") == (first[1], first[0])
    assert store.patched("web1", run="run-1") == (first[1],)
    assert store.patched("web1", 1) == (second[0],)
    assert store.patched("nowhere") == ()


def test_what_the_same_run_says_again_of_a_host_replaces_what_it_said(store: PatchStore) -> None:
    store.keep_patched([patched("run-1", "web1"), patched("run-1", "web2")])
    undone = replace(
        patched("run-1", "web1"), rebooted=True, restart=timedelta(seconds=7), rolled_back="run-2", moves=()
    )
    store.keep_patched([undone])
    assert store.patched() == (undone, patched("run-1", "web2"))


def test_durations_of_a_host_are_exact_and_the_newest_first(store: PatchStore) -> None:
    assert store.durations("web1") == ()
    took = [timedelta(minutes=number, microseconds=1) for number in range(4)]
    runs = [replace(patched(f"run-{n}", "web1", NOON + n * HOUR), took=one) for n, one in enumerate(took)]
    store.keep_patched([*runs, patched("run-1", "web2")])
    assert store.durations("web1") == tuple(reversed(took))
    assert store.durations("web1", 2) == (took[3], took[2])


def test_nothing_to_keep_is_kept(store: PatchStore) -> None:
    store.keep_facts([])
    store.enqueue([])
    store.dequeue([])
    store.keep_patched([])
    assert (store.facts(), store.waiting(), store.patched()) == ({}, (), ())


def test_thousands_of_hosts_are_named_at_once(store: PatchStore) -> None:
    hosts = [f"host{number:04}" for number in range(2500)]
    store.enqueue([away(host) for host in hosts])
    store.keep_facts([replace(reading(host), installed=(), offered=()) for host in hosts])
    assert list(store.facts(hosts[::-1])) == hosts
    store.dequeue(hosts[:-1])
    assert [one.host for one in store.waiting()] == hosts[-1:]


def test_looking_makes_no_file(tmp_path: Path, file: Database) -> None:
    store = file.patches("lab")
    store.dequeue(["web1"])
    assert (store.facts(), store.facts(["web1"]), store.waiting()) == ({}, {}, ())
    assert (store.patched(), store.durations("web1")) == ((), ())
    assert list(tmp_path.iterdir()) == []


def test_writers_that_name_the_same_hosts_in_other_orders_never_block_each_other(database: Database) -> None:
    store = database.patches("lab")
    hosts = [f"host{number:02}" for number in range(40)]
    gate = threading.Barrier(4)

    def write(number: int) -> None:
        mine = hosts[:: 1 if number % 2 else -1]
        gate.wait(30)
        for turn in range(5):
            at = NOON + timedelta(minutes=4 * turn + number)
            store.keep_facts([reading(host, at) for host in mine])
            store.keep_patched([patched("run-1", host, at) for host in mine])
            store.enqueue([away(host, at) for host in mine])

    store.facts()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert {one.read_at for one in store.facts().values()} == {NOON + timedelta(minutes=19)}
    assert len(store.patched()) == len(store.waiting()) == len(hosts)


def test_a_damaged_reading_is_told_and_a_new_one_mends_it(database: Database) -> None:
    store = database.patches("lab")
    store.keep_facts([reading("web1"), reading("web2")])
    with database.write() as connection:
        connection.execute(sa.update(schema.FACTS).where(schema.FACTS.c.host == "web1").values(body=b"x"))
    with pytest.raises(EngineFailed, match=r"reading of web1 .*damaged"):
        store.facts()
    assert store.facts(["web2"]) == {"web2": reading("web2")}
    store.keep_facts([reading("web1", NOON + HOUR)])
    assert len(store.facts()) == 2


def test_a_file_that_may_only_be_read_keeps_nothing_and_can_be_read(file: Database) -> None:
    store = file.patches("lab")
    store.keep_facts([reading("web1")])
    sa.event.listen(file._engine, "connect", lambda raw, _record: raw.execute("PRAGMA query_only = ON"))
    writing: Sequence[Callable[[], None]] = (
        lambda: store.keep_facts([reading("web2")]),
        lambda: store.enqueue([away("web1")]),
        lambda: store.dequeue(["web1"]),
        lambda: store.keep_patched([patched("run-1", "web1")]),
    )
    for write in writing:
        with pytest.raises(EngineFailed, match="may only be read"):
            write()
    assert list(store.facts()) == ["web1"]


NEW_IN_3 = (schema.FACTS, schema.WAITING, schema.PATCHED)


def test_a_database_of_version_2_is_upgraded_in_place_and_keeps_its_rows(
    database: Database, again: Callable[[], Database]
) -> None:
    lease = database.leases.acquire("e/lab", ALICE, LONG)
    database.runs.begin(a_run(), ["n1"])
    database.ledger("lab").record(group("webs"), "sha256:1", "abc")
    with database.write() as connection:
        schema.METADATA.drop_all(connection, tables=NEW_IN_3)
        connection.execute(sa.update(schema.VERSIONS).values(version=2))
    opened = again()
    opened.patches("lab").keep_facts([reading("web1")])
    assert opened.patches("lab").facts() == {"web1": reading("web1")}
    assert opened.leases.look("e/lab") == lease
    assert (opened.runs.run(a_run().id), opened.runs.nonces(a_run().id)) == (a_run(), ("n1",))
    assert opened.ledger("lab").applied(group("webs")) == "sha256:1"
    with opened.read() as connection:
        versions = connection.execute(sa.select(schema.VERSIONS.c.version).order_by(schema.VERSIONS.c.version))
        assert versions.scalars().all() == [2, schema.VERSION]


def test_what_was_patched_before_there_were_snapshots_stays(database: Database, again: Callable[[], Database]) -> None:
    store = database.patches("lab")
    store.keep_patched([patched("run-1", "web1")])
    with database.write() as connection:
        place = "patched" if database.schema is None else f'"{database.schema}".patched'
        connection.execute(sa.text(f"ALTER TABLE {place} DROP COLUMN snapshot"))
        connection.execute(sa.update(schema.VERSIONS).values(version=3))
    opened = again().patches("lab")
    assert opened.patched() == (patched("run-1", "web1"),)
    back = replace(patched("run-1", "web1"), rolled_back="run-1", snapshot="ismgr-run-1")
    opened.keep_patched([back])
    assert opened.patched() == (back,)


def plan_text(selection: Sequence[str] = (), changes: Sequence[str] = ("a",), *, worktree: bool = False) -> str:
    intent = {"inputs": {"selection": list(selection)}, "changes": list(changes), "deferred": []}
    return json.dumps({"intent": intent, "beside": {"worktree": worktree}})


def test_which_runs_of_before_were_whole_is_told_by_their_plans(
    database: Database, again: Callable[[], Database]
) -> None:
    plans = {
        "20261122T081500-aaaa": plan_text(),
        "20261122T081501-aaaa": plan_text(),
        "20261122T081502-aaaa": plan_text(["stack/a"]),
        "20261122T081503-aaaa": plan_text(changes=()),
        "20261122T081504-aaaa": plan_text(worktree=True),
        "20261122T081505-aaaa": "no plan",
        "20261122T081506-aaaa": plan_text(),
    }
    for name, text in plans.items():
        database.runs.begin(replace(a_run(name), plan=text), [])
        if name != "20261122T081506-aaaa":
            database.runs.close(replace(a_run(name), state=RunState.DONE))
    drill = replace(a_run("20261122T081507-aaaa"), plan=plan_text(), purpose="drill")
    database.runs.begin(drill, [])
    with database.write() as connection:
        prefix = "" if database.schema is None else f'"{database.schema}".'
        connection.execute(sa.text(f"DROP INDEX {prefix}runs_of_state"))
        connection.execute(sa.text(f"ALTER TABLE {prefix}runs DROP COLUMN whole"))
        connection.execute(sa.update(schema.VERSIONS).values(version=6))
    opened = again()
    whole = [one.id for one in opened.runs.runs(sought=Sought(whole=True))]
    # of those that have ended the newest is all that anybody asks for
    assert whole == ["20261122T081506-aaaa", "20261122T081501-aaaa"]
    assert {one.id: one.plan for one in opened.runs.runs()} == {**plans, drill.id: drill.plan}
    with opened.read() as connection:
        indexes = sa.inspect(connection).get_indexes("runs", schema=database.schema)
    assert "runs_of_state" in {one["name"] for one in indexes}


def test_a_database_of_version_1_is_upgraded_too(database: Database, again: Callable[[], Database]) -> None:
    database.ledger("lab").record(group("webs"), "sha256:1", "abc")
    with database.write() as connection:
        later = [table for table in schema.METADATA.sorted_tables if table is not schema.APPLIED]
        schema.METADATA.drop_all(connection, tables=later)
    opened = again()
    opened.patches("lab").enqueue([away("web1")])
    assert opened.patches("lab").waiting() == (away("web1"),)
    assert opened.ledger("lab").applied(group("webs")) == "sha256:1"


def test_a_reading_is_small_in_its_row(file: Database) -> None:
    package = reading("web1").installed[0]
    many = replace(reading("web1"), installed=tuple(replace(package, name=f"lib{number}") for number in range(400)))
    file.patches("lab").keep_facts([many])
    with sqlite3.connect(str(file.path)) as raw:
        ((size,),) = raw.execute("SELECT length(body) FROM facts").fetchall()
    assert size < 8000
