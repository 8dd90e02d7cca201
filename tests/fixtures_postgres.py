"""A real PostgreSQL server for tests: started by an unprivileged user in a folder of its own, reached over a unix
socket and over TCP on a free port, with a password (SCRAM). It lives for the session and leaves nothing behind."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ismgr_automation.core.secret import Secret
from tests.canaries import learn
from tests.fixtures_canaries import search_now

INSTALLED = Path("/usr/lib/postgresql")
USER = "ismgr"
UP_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A server that is up. ``password`` belongs to the superuser ``USER``, over the socket as over TCP."""

    programs: Path
    data: Path
    sockets: Path
    port: int
    password: Secret
    process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """Over TCP, as an estate's document writes it: with ``{secret}`` where the password goes."""
        return f"postgresql://{user}:{{secret}}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres", user: str = USER) -> str:
        """Over the unix socket."""
        return f"postgresql://{user}:{{secret}}@/{database}?host={self.sockets}&port={self.port}"

    def open_url(self, database: str = "postgres", user: str = USER) -> str:
        """With the password in clear, for libraries that want it so. Tests only."""
        return self.url(database, user).replace("{secret}", self.password.reveal())

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement, outside of a transaction; gives the rows, if there are any."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.open_url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """End the server now; the clients' connections break."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)


def _programs() -> Path:
    found = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    return found[-1].parent


def account() -> dict[str, object]:
    """Who the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    try:
        found = pwd.getpwnam("postgres")
    except KeyError:
        found = pwd.getpwnam("nobody")
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _initialise(programs: Path, folder: Path, password: Secret) -> Path:
    data, given, owner = folder / "data", folder / "password", account()
    given.write_text(password.reveal())
    given.chmod(0o600)
    if owner:
        os.chown(folder, owner["user"], owner["group"])  # type: ignore[arg-type]
        os.chown(given, owner["user"], owner["group"])  # type: ignore[arg-type]
    options = ["-A", "scram-sha-256", f"--pwfile={given}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", USER, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **owner,  # type: ignore[call-overload]
    )
    given.unlink()
    assert made.returncode == 0, made.stderr
    return data


def start_postgres(folder: Path, **settings: object) -> PostgresServer:
    """Start a server in an empty folder, with ``settings`` of postgresql.conf. Whoever starts it calls ``stop``."""
    programs = _programs()
    password = Secret(learn(secrets.token_urlsafe(18)))
    data = _initialise(programs, folder, password)
    return _launch(programs, data, port=_free_port(), password=password, **settings)


def restart_postgres(server: PostgresServer) -> PostgresServer:
    """The same data and port, a new process."""
    return _launch(server.programs, server.data, port=server.port, password=server.password)


def _launch(programs: Path, data: Path, *, port: int, password: Secret, **more: object) -> PostgresServer:
    folder = data.parent
    # nothing here must outlive the session, so nothing waits for the disk
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "shared_buffers": "16MB",
        "max_connections": 60,
        "autovacuum": "off",
        **more,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = (folder / "log").open("ab")
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        **account(),  # type: ignore[call-overload]
    )
    log.close()
    server = PostgresServer(programs=programs, data=data, sockets=folder, port=port, password=password, process=process)
    _wait_until_up(server)
    return server


def _wait_until_up(server: PostgresServer) -> None:
    end = time.monotonic() + UP_SECONDS
    while not _answers(server):
        going = server.process.poll() is None and time.monotonic() < end
        assert going, (server.sockets / "log").read_text()[-2000:]
        time.sleep(0.05)


def _answers(server: PostgresServer) -> bool:
    import psycopg

    try:
        server.run("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that all tests of the session share: make a database of your own, or use ``postgres_database``."""
    folder = Path(tempfile.mkdtemp(prefix="ismgr-pg-"))  # not pytest's: other users may not enter that
    try:
        server = start_postgres(folder)
        try:
            yield server
            # rows, the log of all that was ever written, what the server said: gone before all else is searched
            server.run("CHECKPOINT")
            search_now(folder)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of an empty database of this test's own."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.run(f"CREATE DATABASE {name}")
    yield name
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")
