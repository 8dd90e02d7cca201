"""Opens the database, keeps its tables up to date, gives transactions. The only place that sees a URL or a password."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.secret import Redactor, Secret
from ismgr_automation.engines.database import schema
from ismgr_automation.engines.database.errors import Kind, busy, told
from ismgr_automation.engines.database.moments import MachineMoment, Moment, ServerMoment

if TYPE_CHECKING:
    from ismgr_automation.engines.database.applied import DatabaseLedger
    from ismgr_automation.engines.database.drills import DatabaseDrillStore
    from ismgr_automation.engines.database.executors import DatabaseExecutors
    from ismgr_automation.engines.database.journal import DatabaseStepJournal
    from ismgr_automation.engines.database.leases import DatabaseLeaseStore
    from ismgr_automation.engines.database.patching import DatabasePatchStore
    from ismgr_automation.engines.database.runs import DatabaseRunLedger

BUSY_SECONDS = 10.0
PLACEHOLDER = "{secret}"
IMMEDIATE = "ismgr_immediate"
LONGEST = 40

POSTGRESQL_DEFAULTS: Mapping[str, str] = {
    "application_name": "ismgr",
    "connect_timeout": "10",
    # a server that vanished is noticed well before a lease's time is over
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    # of several hosts in the URL the primary is meant; a standby cannot arbitrate
    "target_session_attrs": "read-write",
}
"""Options of libpq where the URL says nothing else."""

SESSION = """\
SET statement_timeout = '20s';
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '60s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Nothing hangs for ever; and what was committed outlives a crash of the server, whatever its settings say: a lease
that was forgotten would be given out again, under the same token."""


_WRITERS: dict[Path, threading.Lock] = {}
"""The files of this process."""


class Database:
    """One database. Its parts are values over it; each of their calls is a transaction of its own, safe in threads."""

    def __init__(
        self,
        engine: sa.Engine,
        kind: Kind,
        place: str,
        *,
        path: Path | None,
        schema_name: str | None,
        redactor: Redactor,
    ) -> None:
        self.kind = kind
        self.place = place
        """The file, or host and database: for people, without a password."""
        self.path = path
        self.schema = schema_name
        self._engine = engine
        self._redactor = redactor
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._writing = engine.execution_options(**{IMMEDIATE: True})
        self._close = weakref.finalize(self, engine.dispose)

    def __repr__(self) -> str:
        return f"<database {self.place}>"

    def close(self) -> None:
        """Close its connections. Safe to call twice."""
        self._close()

    @property
    def absent(self) -> bool:
        """Whether there is nothing to read yet: looking does not make the file."""
        return self.path is not None and not self.path.exists()

    def ledger(self, environment: str) -> DatabaseLedger:
        """What was applied in one environment."""
        from ismgr_automation.engines.database.applied import DatabaseLedger

        return DatabaseLedger(self, environment)

    def patches(self, environment: str) -> DatabasePatchStore:
        """What is remembered between the patch runs of one environment."""
        from ismgr_automation.engines.database.patching import DatabasePatchStore

        return DatabasePatchStore(self, environment)

    def drills(self, environment: str) -> DatabaseDrillStore:
        """The results of the drills of one environment."""
        from ismgr_automation.engines.database.drills import DatabaseDrillStore

        return DatabaseDrillStore(self, environment)

    @cached_property
    def leases(self) -> DatabaseLeaseStore:
        """Who may touch what."""
        from ismgr_automation.engines.database.leases import DatabaseLeaseStore

        return DatabaseLeaseStore(self)

    @cached_property
    def runs(self) -> DatabaseRunLedger:
        """Runs."""
        from ismgr_automation.engines.database.runs import DatabaseRunLedger

        return DatabaseRunLedger(self)

    @cached_property
    def journal(self) -> DatabaseStepJournal:
        """Their rounds and steps."""
        from ismgr_automation.engines.database.journal import DatabaseStepJournal

        return DatabaseStepJournal(self)

    @cached_property
    def executors(self) -> DatabaseExecutors:
        """Who executes units now."""
        from ismgr_automation.engines.database.executors import DatabaseExecutors

        return DatabaseExecutors(self)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads. Raises ``EngineError``."""
        with self._told():
            self._prepare()
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes; of SQLite's there is one at a time. Raises ``EngineError``; then nothing of it is
        there, unless the reply to its commit was lost."""
        with self._told():
            self._prepare()
            with self._turn(), self._writing.begin() as connection:
                yield connection

    def moment(self) -> Moment:
        """Now. Of SQLite's transactions: ask when the transaction has begun, so that waiting for it counts."""
        return ServerMoment() if self.kind is Kind.POSTGRESQL else MachineMoment.now()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """SQLite has one writer at a time, and is not fair: the threads of a process queue here and not there, so that
        a renewal is not kept from its turn by steps that end one after the other."""
        if self.path is None:
            yield
            return
        lock = _WRITERS.setdefault(self.path.absolute(), threading.Lock())
        if not lock.acquire(timeout=BUSY_SECONDS):
            raise busy(self.place)
        try:
            yield
        finally:
            lock.release()

    def _prepare(self) -> None:
        """Make or upgrade the tables, once."""
        if self._ready.is_set():
            return
        with self._lock:
            if self._ready.is_set():
                return
            if self.path is not None and not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch()
            with self._engine.begin() as connection:
                found = schema.version(connection, self.schema)
            schema.refuse_newer(found, self.place)
            if found < schema.VERSION:
                with self._writing.begin() as connection:
                    schema.upgrade(connection, self.schema, self.place)
            self._ready.set()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as problem:
            # not `from problem`: the library's errors hold statements and their values
            raise told(problem, self.kind, self.place, self._redactor.clean) from None


def open_database(url: str, password: Secret | None = None, *, estate: str = "") -> Database:
    """The database at ``sqlite:///PATH`` or ``postgresql://USER:{secret}@HOST/NAME``; nothing is connected to yet.

    ``password`` stands in for ``{secret}``. Options after ``?`` are libpq's, such as ``sslmode=verify-full`` and
    ``sslrootcert``. In PostgreSQL each estate has a schema of its own. Raises ``SettingsError`` for a URL that cannot
    be used; it never repeats it, because somebody may have written a password into it.
    """
    if url.startswith("sqlite:"):
        return _sqlite(url)
    if url.partition(":")[0] in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _postgresql(url, password, f"ismgr_{_identifier(estate)}" if estate else "ismgr")
    raise SettingsError(
        f"The {url.partition(':')[0]} database is not supported.",
        next_step="Write sqlite:///PATH or postgresql://USER:{secret}@HOST/NAME into `database` of the environment.",
    )


def _sqlite(url: str) -> Database:
    """One file. It is opened for each transaction: nothing is held between two, and no other file lies beside it."""
    name = url.removeprefix("sqlite:///")
    if name == url or not name or name == ":memory:":
        raise SettingsError(
            "The SQLite database has no file.",
            next_step="Write sqlite:///PATH, relative to the estate, or sqlite:////PATH.",
        )
    path = Path(name).expanduser()

    def connect() -> sqlite3.Connection:
        # mode=rw: a file that vanished is not made anew by whoever holds a lease in it
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        # a commit outlives a power cut: a token that came back would be given out twice
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return Database(engine, Kind.SQLITE, str(path), path=path, schema_name=None, redactor=Redactor())


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(IMMEDIATE) else "BEGIN")


def _postgresql(url: str, password: Secret | None, schema_name: str) -> Database:
    parsed = _parse(url)
    wanted = parsed.password is not None
    if (wanted and parsed.password != PLACEHOLDER) or {"password", "sslpassword"} & set(parsed.query):
        raise SettingsError(
            "The postgresql URL of the database holds a password.",
            next_step="Write {secret} in its place, and name the secret in `database_password`. Change that password: "
            "it is in Git now.",
        )
    if wanted and password is None:
        raise SettingsError(
            "The postgresql URL of the database says {secret}, and the environment names none.",
            next_step="Name it in `database_password: {secret: BACKEND:PATH}`.",
        )
    redactor = Redactor()
    place = f"{parsed.host or parsed.query.get('host', 'local')}/{parsed.database or ''}"
    bare = parsed.set(drivername="postgresql+psycopg", password=None)
    engine = sa.create_engine(
        bare,
        connect_args={**{key: value for key, value in POSTGRESQL_DEFAULTS.items() if key not in parsed.query}}
        # a pooler between us and the server may give each transaction another connection
        | {"prepare_threshold": None},
        pool_size=2,
        max_overflow=8,
        pool_timeout=20,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        execution_options={"schema_translate_map": {None: schema_name}},
    )

    def connecting(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        if password is not None:
            options["password"] = redactor.learn(password).reveal()

    def connected(connection: Any, _record: Any) -> None:
        connection.execute(SESSION)
        connection.commit()

    sa.event.listen(engine, "do_connect", connecting)
    sa.event.listen(engine, "connect", connected)
    return Database(engine, Kind.POSTGRESQL, place, path=None, schema_name=schema_name, redactor=redactor)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise SettingsError(
            "The postgresql URL of the database is not understood.",
            next_step="Write postgresql://USER:{secret}@HOST:PORT/NAME?sslmode=verify-full.",
        ) from None


def _identifier(estate: str) -> str:
    """A schema's name for an estate: two estates never share one, and it fits into 63 bytes."""
    plain = estate.replace("-", "_").replace(".", "$")
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}_{sha256(estate.encode()).hexdigest()[:8]}"
