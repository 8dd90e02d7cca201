"""A real PostgreSQL pair on loopback, one primary and its streaming standby, behind a real SSH server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.engines.postgresql import Layout, PostgresqlManager
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.upkeep import Cluster, ClusterMember
from tests.engines.loopback import Loopback, free_port, loopback_server

__all__ = ["loopback_server"]

INSTALLED = Path("/usr/lib/postgresql")
ADDRESSES = {"db1.dc1": "127.0.0.1", "db1.dc2": "127.0.0.2"}
FIRST, SECOND = ADDRESSES


@dataclass(slots=True, kw_only=True)
class Pair:
    """Two members in folders of their own. ``db1.dc1`` is the primary that Git names, and is configured so."""

    base: Path
    programs: Path
    port: int
    loopback: Loopback
    context: Context
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        hosts = [self.loopback.host(name) for name in ADDRESSES]
        fleet = Fleet(hosts=hosts, names=list(ADDRESSES), ssh=self.loopback.ssh)
        version = self.programs.parent.name
        self.cluster = Cluster(
            fleet=fleet, version=version, name="main", port=self.port, deadline=timedelta(seconds=30)
        )

    def layout(self, **more: str) -> Layout:
        folder = f"{self.base}/{{host}}"
        control = f"runuser -u postgres -- {self.programs}/pg_ctl -D {folder}/data"
        words = {
            "data": f"{folder}/data",
            "settings": f"{folder}/etc/conf.d",
            "programs": str(self.programs),
            "sockets": folder,
            "start": f"{control} -o '-c config_file={folder}/etc/postgresql.conf' -l {folder}/log -w start",
            "stop": f"{control} -m fast -w stop",
        }
        return Layout(**(words | more))

    def manager(self, **more: str) -> PostgresqlManager:
        return PostgresqlManager(self.loopback.store, self.layout(**more))

    def members(self) -> dict[str, ClusterMember]:
        return {one.host: one for one in self.manager().members(self.cluster, self.context)}

    def act(self, name: str, verb: str) -> None:
        """``start`` or ``stop`` in the name of somebody else."""
        words = getattr(self.layout(), verb).format(host=name)
        subprocess.run(["sh", "-c", words], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def sql(self, name: str, text: str) -> str:
        command = ["runuser", "-u", "postgres", "--", self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"]
        where = ["-h", self.base / name, "-p", str(self.port), "-d", "postgres"]
        done = subprocess.run([*command, *where, "-c", text], check=True, cwd="/", capture_output=True, text=True)
        return done.stdout.strip()

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < end, what
            time.sleep(0.05)

    def streams(self) -> bool:
        return all(one.streaming for one in self.members().values())


@dataclass(slots=True, kw_only=True)
class Writer:
    """Writes to one member as fast as it can; ``acknowledged`` holds each number with the moment of its answer."""

    pair: Pair
    name: str
    offset: int
    acknowledged: dict[int, float] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        import psycopg

        number = self.offset
        where = f"host={self.pair.base / self.name} port={self.pair.port} user=app dbname=postgres connect_timeout=2"
        while not self.stop.is_set():
            try:
                with psycopg.connect(where, autocommit=True) as connection:
                    while not self.stop.is_set():
                        number += 1
                        connection.execute("INSERT INTO written VALUES (%s)", [number])
                        self.acknowledged[number] = time.monotonic()
            except psycopg.Error:
                self.stop.wait(0.002)


def _configure(pair: Pair, name: str) -> None:
    """What the role postgresql writes, as far as it matters here."""
    folder = pair.base / name
    (folder / "etc" / "conf.d").mkdir(parents=True)
    (folder / "etc" / "postgresql.conf").write_text(
        f"data_directory = '{folder}/data'\nhba_file = '{folder}/etc/pg_hba.conf'\ninclude_dir = 'conf.d'\n"
    )
    (folder / "etc" / "pg_hba.conf").write_text(
        "local all,replication postgres peer\nlocal all app trust\n"
        "host replication,postgres replication 127.0.0.0/8 scram-sha-256\n"
    )
    own = (
        f"cluster_name = '{name}'\nlisten_addresses = '{ADDRESSES[name]}'\nport = {pair.port}\n"
        f"unix_socket_directories = '{folder}'\nwal_log_hints = on\nhot_standby = on\nwal_keep_size = '64MB'\n"
        "wal_receiver_timeout = '10s'\nwal_sender_timeout = '10s'\nwal_retrieve_retry_interval = '200ms'\n"
        "fsync = off\nshared_buffers = '16MB'\n"
    )
    if name != FIRST:
        own += (
            f"primary_conninfo = 'host={ADDRESSES[FIRST]} port={pair.port} user=replication "
            f"passfile={pair.base}/pgpass application_name={name} connect_timeout=5'\nprimary_slot_name = 'db1_dc2'\n"
        )
    (folder / "etc" / "conf.d" / "ismgr.conf").write_text(own)
    subprocess.run(["chown", "-R", "postgres:", folder], check=True)


def _make(pair: Pair) -> None:
    as_postgres = ["runuser", "-u", "postgres", "--"]
    pair.base.chmod(0o755)
    for name in ADDRESSES:
        _configure(pair, name)
    passfile = pair.base / "pgpass"
    passfile.write_text("*:*:*:replication:canary-pair-5d1\n")
    passfile.chmod(0o600)
    shutil.chown(passfile, "postgres", "postgres")
    data = pair.base / FIRST / "data"
    make = [pair.programs / "initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    subprocess.run([*as_postgres, *make], check=True, cwd="/", stdout=subprocess.DEVNULL)
    pair.act(FIRST, "start")
    pair.sql(FIRST, "CREATE ROLE replication LOGIN REPLICATION PASSWORD 'canary-pair-5d1'")
    pair.sql(FIRST, "CREATE ROLE app LOGIN")
    pair.sql(FIRST, "CREATE TABLE written (id bigint PRIMARY KEY)")
    pair.sql(FIRST, "GRANT ALL ON written TO app")
    pair.sql(FIRST, "SELECT pg_create_physical_replication_slot('db1_dc2', true)")
    where = f"host={pair.base / FIRST} port={pair.port}"
    clone = [pair.programs / "pg_basebackup", "-D", pair.base / SECOND / "data", "-d", where, "-c", "fast"]
    subprocess.run([*as_postgres, *clone], check=True, cwd="/")
    subprocess.run([*as_postgres, "touch", pair.base / SECOND / "data" / "standby.signal"], check=True, cwd="/")
    pair.act(SECOND, "start")
    pair.until("the standby streams", pair.streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A pair that was made once and stopped: every test starts from a copy, in the same place."""

    base: Path
    kept: Path
    programs: Path
    port: int


@pytest.fixture(scope="session")
def template(loopback: Loopback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """Made once, because making a pair takes longer than most tests of it."""
    found = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    if os.geteuid() != 0 or "postgres" not in {one.pw_name for one in pwd.getpwall()}:
        pytest.skip("a pair is managed as root, for the user postgres")
    base = Path(tempfile.mkdtemp(prefix="ismgr-pair-"))  # not pytest's: other users may not enter that
    one = Template(base=base, kept=base / "kept", programs=found[-1].parent, port=free_port())
    pair = _pair(one, loopback, tmp_path_factory.mktemp("pair"))
    try:
        _make(pair)
        one.kept.mkdir()
        for name in ADDRESSES:
            pair.act(name, "stop")
        for name in ADDRESSES:
            shutil.move(base / name, one.kept / name)
        yield one
    finally:
        _end(pair)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def pair(template: Template, loopback: Loopback, tmp_path: Path) -> Iterator[Pair]:
    """A running pair of this test's own."""
    one = _pair(template, loopback, tmp_path)
    try:
        for name in ADDRESSES:
            subprocess.run(["cp", "-a", template.kept / name, template.base / name], check=True)
        for name in ADDRESSES:
            one.act(name, "start")
        one.until("the standby streams", one.streams)
        yield one
    finally:
        _end(one)
        for name in ADDRESSES:
            shutil.rmtree(template.base / name, ignore_errors=True)


def _pair(template: Template, loopback: Loopback, work: Path) -> Pair:
    return Pair(
        base=template.base,
        programs=template.programs,
        port=template.port,
        loopback=loopback,
        context=Context(work=work),
    )


def _end(pair: Pair) -> None:
    for name in ADDRESSES:
        stop = pair.layout().stop.replace("fast", "immediate").format(host=name)
        subprocess.run(["sh", "-c", stop], check=False, cwd="/", capture_output=True)
