"""Databases that cannot be used: each says what is wrong and what to do, and never a password."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE, Popen

import psycopg
import pytest
import sqlalchemy as sa

from ismgr_automation.core.address import group
from ismgr_automation.core.errors import (
    CredentialRejected,
    EngineError,
    EngineFailed,
    IsmgrError,
    SettingsError,
    Throttled,
    Unreachable,
)
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.database import Database, connection, open_database
from ismgr_automation.engines.database.errors import OURS, UNKNOWN, sqlite_row, sqlstate_row
from ismgr_automation.engines.database.lockers import lockers
from ismgr_automation.engines.database.schema import METADATA
from tests.engines.database.conftest import ALICE, LONG, a_run
from tests.fixtures_postgres import PostgresServer, account, restart_postgres, start_postgres

CANARY = "canary-9f3k2-password"


@pytest.fixture
def file(tmp_path: Path) -> Database:
    database = open_database(f"sqlite:///{tmp_path}/ismgr.db")
    database.executors.beat("x", ALICE, LONG)
    return database


def each_connection(database: Database, statement: str) -> None:
    """Say something to each connection before it is used."""
    sa.event.listen(database._engine, "connect", lambda raw, _record: raw.execute(statement))


def test_a_full_disk_is_told_and_nothing_of_the_transaction_is_there(file: Database) -> None:
    each_connection(file, "PRAGMA max_page_count = 1")
    with pytest.raises(EngineFailed, match="the disk is full") as caught:
        file.runs.begin(a_run(), [f"nonce-{number}" for number in range(10_000)])
    assert "Make room" in caught.value.next_step
    assert file.runs.runs() == ()


def test_a_file_that_may_only_be_read_is_told_and_can_be_read(file: Database) -> None:
    each_connection(file, "PRAGMA query_only = ON")
    with pytest.raises(EngineFailed, match="may only be read") as caught:
        file.leases.acquire("e/lab", ALICE, LONG)
    assert "right to write" in caught.value.next_step
    assert file.executors.living() == ("x",)


def test_a_file_that_somebody_keeps_locked_is_told_after_a_while(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(str(file.path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EngineFailed, match="somebody else has it locked"):
        file.leases.acquire("e/lab", ALICE, LONG)
    assert file.leases.look("e/lab") is None
    other.close()


def test_a_file_that_a_paused_process_keeps_locked_names_it_and_how_to_go_on(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)
    file.leases.acquire("e/lab", ALICE, LONG)
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)"
    script += "; c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    with Popen([sys.executable, "-c", script, str(file.path)], stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(EngineFailed, match=rf"process {other.pid} \(python[^)]*\) has it locked"):
            file.leases.look("e/lab")
        os.kill(other.pid, signal.SIGSTOP)
        os.waitpid(other.pid, os.WUNTRACED)
        with pytest.raises(EngineFailed, match=rf"process {other.pid} \(python[^)]*\), which is stopped") as caught:
            file.leases.look("e/lab")
        assert f"kill -CONT {other.pid}" in caught.value.next_step
        other.kill()
    assert file.leases.look("e/lab") is not None
    assert lockers(file.path or Path()) == ()


def test_a_file_that_vanished_is_not_made_anew_by_whoever_holds_a_lease_in_it(file: Database) -> None:
    lease = file.leases.acquire("e/lab", ALICE, LONG)
    assert file.path
    file.path.unlink()
    with pytest.raises(EngineFailed, match="cannot be opened"):
        file.leases.renew(lease)
    assert not file.path.exists()
    assert file.leases.look("e/lab") is None


def test_a_damaged_file_is_told_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(EngineFailed, match="is no database") as caught:
        open_database(f"sqlite:///{tmp_path}/x.db").leases.look("e/lab")
    assert "not a database" in caught.value.detail


def test_a_commit_waits_for_the_disk_and_its_folder(file: Database) -> None:
    with file.read() as opened:
        assert opened.exec_driver_sql("PRAGMA synchronous").scalar() == 3
        assert opened.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"


ACTIONS = (
    "CREATE DROP ALTER ANALYZE ATTACH DETACH DELETE INSERT SELECT UPDATE READ PRAGMA REINDEX SAVEPOINT TRANSACTION "
    "FUNCTION RECURSIVE DENY IGNORE LIMIT OK ROW DONE"
)
"""What else the library names so: actions, limits, and codes that are no errors."""


def test_every_result_code_of_sqlite_has_a_row() -> None:
    names = [name for name in vars(sqlite3) if name.startswith("SQLITE_") and name.split("_")[1] not in ACTIONS.split()]
    assert {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_BUSY_SNAPSHOT"} <= set(names)
    assert not [name for name in names if sqlite_row(name) is UNKNOWN]


def test_every_error_of_postgresql_has_a_row() -> None:
    states = [state for state in psycopg.errors._sqlcodes if re.fullmatch("[0-9A-Z]{5}", state)]
    assert len(states) > 200
    assert not [state for state in states if sqlstate_row(state) is UNKNOWN]
    assert not [
        state for state in states if sqlstate_row(state) is OURS and state[:2] in {"08", "28", "53", "57", "58"}
    ]


@pytest.mark.parametrize(
    ("url", "password", "words"),
    [
        (f"postgresql://u:{CANARY}@h/db", None, "holds a password"),
        (f"postgresql://u@h/db?password={CANARY}", None, "holds a password"),
        (f"postgresql://u:{CANARY}@h:port/db", None, "not understood"),
        ("postgresql://u:{secret}@h/db", None, r"says \{secret\}"),
        (f"mysql://u:{CANARY}@h/db", None, "mysql database is not supported"),
        (f"{CANARY}", None, "not supported"),
        ("sqlite://", None, "has no file"),
        ("sqlite:///:memory:", None, "has no file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_never_repeated(url: str, password: Secret | None, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        open_database(url, password)
    assert caught.value.next_step
    if "not supported" not in words or ":" in url:
        assert CANARY not in everything_said(caught.value)


def everything_said(problem: BaseException) -> str:
    said = "".join(traceback.format_exception(problem))
    fields = vars(problem) if isinstance(problem, IsmgrError) else {}
    return said + repr(problem) + repr(fields)


def wrong_password(server: PostgresServer) -> Database:
    return open_database(server.url(), Secret(CANARY))


def unknown_user(server: PostgresServer) -> Database:
    return open_database(server.url(user="nobody_here"), Secret(CANARY))


def no_password(server: PostgresServer) -> Database:
    return open_database(f"postgresql://ismgr@127.0.0.1:{server.port}/postgres")


def no_database(server: PostgresServer) -> Database:
    return open_database(server.url("nowhere"), server.password)


def nobody_listens(server: PostgresServer) -> Database:
    return open_database("postgresql://u:{secret}@127.0.0.1:1/db", Secret(CANARY))


def no_socket(server: PostgresServer) -> Database:
    return open_database("postgresql://u:{secret}@/db?host=/nowhere", Secret(CANARY))


def no_such_host(server: PostgresServer) -> Database:
    return open_database("postgresql://u:{secret}@host.invalid/db", Secret(CANARY))


def no_tls(server: PostgresServer) -> Database:
    return open_database(f"{server.url()}?sslmode=require", server.password)


def unknown_option(server: PostgresServer) -> Database:
    return open_database(f"{server.url()}?sslmod=require", server.password)


def odd_option(server: PostgresServer) -> Database:
    return open_database(f"{server.url()}?sslmode=perhaps", server.password)


@pytest.mark.parametrize(
    ("there", "error", "words"),
    [
        (wrong_password, CredentialRejected, "does not accept who we say we are"),
        (unknown_user, CredentialRejected, "does not accept who we say we are"),
        (no_password, CredentialRejected, "wants a password"),
        (no_database, EngineFailed, "there is no such database"),
        (nobody_listens, Unreachable, "nobody listens there"),
        (no_socket, Unreachable, "nobody listens there"),
        (no_such_host, Unreachable, "name does not resolve"),
        (no_tls, EngineFailed, "TLS could not be agreed on"),
        (unknown_option, EngineFailed, "unknown option"),
        (odd_option, EngineFailed, "not understood"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_server_that_cannot_be_used_says_why(
    postgres: PostgresServer,
    there: Callable[[PostgresServer], Database],
    error: type[EngineError],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    database = there(postgres)
    with pytest.raises(EngineError, match=words) as caught:
        database.leases.look("e/lab")
    assert type(caught.value) is error
    assert caught.value.next_step
    assert caught.value.detail
    said = everything_said(caught.value) + repr(database) + repr(vars(database)) + caplog.text
    assert CANARY not in said
    assert postgres.password.reveal() not in said
    database.close()


def test_the_password_is_in_no_row_of_the_database(postgres: PostgresServer, postgres_database: str) -> None:
    database = open_database(postgres.url(postgres_database), postgres.password, estate="e")
    database.leases.acquire("e/lab", ALICE, LONG)
    database.runs.begin(a_run(), ["n"])
    database.close()
    tables = postgres.run(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = 'ismgr_e'", postgres_database
    )
    assert len(tables) == len(METADATA.tables)
    rows = [str(postgres.run(f"TABLE {name}", postgres_database)) for (name,) in tables]
    assert postgres.password.reveal() not in "".join(rows)


def test_two_estates_in_one_database_have_schemas_of_their_own(
    postgres: PostgresServer, postgres_database: str
) -> None:
    names = ["a-b", "a.b", "a" * 63, "a" * 62 + "b"]
    found = [open_database(postgres.url(postgres_database), postgres.password, estate=name) for name in names]
    for one in found:
        one.ledger("lab").record(group("webs"), one.schema or "", "abc")
    assert [one.ledger("lab").applied(group("webs")) for one in found] == [one.schema for one in found]
    assert len({one.schema for one in found}) == len(names)
    assert all(len(one.schema or "") <= 63 for one in found)
    for one in found:
        one.close()


def test_a_socket_serves_as_well(postgres: PostgresServer, postgres_database: str) -> None:
    database = open_database(postgres.socket_url(postgres_database), postgres.password)
    assert database.leases.acquire("e/lab", ALICE, LONG).token == 1
    database.close()


def test_a_user_who_may_not_make_tables_is_told_what_is_missing(
    postgres: PostgresServer, postgres_database: str
) -> None:
    postgres.run(f"CREATE ROLE poor_{postgres_database} LOGIN PASSWORD 'poor-password'")
    try:
        database = open_database(postgres.url(postgres_database, f"poor_{postgres_database}"), Secret("poor-password"))
        with pytest.raises(EngineFailed, match="may not do that") as caught:
            database.leases.look("e/lab")
        assert "CREATE on the database" in caught.value.next_step
        database.close()
    finally:
        postgres.run(f"DROP ROLE poor_{postgres_database}")


def test_a_database_that_may_only_be_read_is_refused_as_a_standby(
    postgres: PostgresServer, postgres_database: str
) -> None:
    postgres.run(f"ALTER DATABASE {postgres_database} SET default_transaction_read_only = on")
    database = open_database(postgres.url(postgres_database), postgres.password)
    with pytest.raises(EngineFailed, match="standby"):
        database.leases.look("e/lab")
    database.close()


def test_a_newer_database_on_a_server_is_refused(postgres: PostgresServer, postgres_database: str) -> None:
    first = open_database(postgres.url(postgres_database), postgres.password)
    first.executors.living()
    first.close()
    postgres.run("INSERT INTO ismgr.schema_version VALUES (99, 'later')", postgres_database)
    database = open_database(postgres.url(postgres_database), postgres.password)
    with pytest.raises(EngineFailed, match="newer ismgr"):
        database.executors.living()
    database.close()


@pytest.fixture
def own_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ismgr-pg-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_server_that_crashed_is_told_and_has_forgotten_nothing_when_it_is_back(own_folder: Path) -> None:
    """Its settings allow it to forget commits (``synchronous_commit = off``, as in the fixture); ours do not."""
    server = start_postgres(own_folder)
    database = open_database(server.url(), server.password)
    try:
        lease = database.leases.acquire("e/lab", ALICE, LONG)
        server.stop()
        for _ in range(2):
            with pytest.raises((Unreachable, Throttled)) as caught:
                database.leases.renew(lease)
            assert server.password.reveal() not in everything_said(caught.value)
        server = restart_postgres(server)
        assert database.leases.renew(lease).token == 1
    finally:
        database.close()
        server.stop()


def test_a_certificate_is_checked_when_the_url_says_so(own_folder: Path, tmp_path: Path) -> None:
    authority, other = certificate(own_folder), certificate(tmp_path)
    server = start_postgres(own_folder, ssl="on", ssl_cert_file=authority, ssl_key_file=own_folder / "tls.key")
    try:
        url = server.url().replace("127.0.0.1", "localhost")
        trusted = open_database(f"{url}?sslmode=verify-full&sslrootcert={authority}", server.password)
        assert trusted.leases.acquire("e/lab", ALICE, LONG).token == 1
        trusted.close()
        for wrong in (
            f"{url}?sslmode=verify-full&sslrootcert={other}",
            f"{server.url()}?sslmode=verify-full&sslrootcert={authority}",
        ):
            database = open_database(wrong, server.password)
            with pytest.raises(EngineFailed, match="certificate is not trusted"):
                database.leases.look("e/lab")
            database.close()
    finally:
        server.stop()


def certificate(folder: Path) -> Path:
    """A certificate for ``localhost`` that signs itself, and its key, both readable by the server's user."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, secret = folder / "tls.crt", folder / "tls.key"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    secret.chmod(0o600)
    owner = account()
    if owner:
        os.chown(secret, owner["user"], owner["group"])  # type: ignore[arg-type]
    return path
