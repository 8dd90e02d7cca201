"""The rows of units in DBOS's own tables, through its client: queued, looked at, taken back. Launches nothing."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ismgr_automation.core.errors import EngineFailed, InternalError
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.steps import fitness
from ismgr_automation.engines.steps.letters import Letter, read
from ismgr_automation.ports.runs import Unit

if TYPE_CHECKING:
    from dbos import DBOSClient, WorkflowStatus

PROTOCOL = "ismgr-units-1"
"""What DBOS calls the application's version: it says how units stand in rows, not which ismgr wrote them."""
APPLICATION = "ismgr"
SCHEMA = "ismgr_steps"
WORKFLOW = "ismgr.unit"
POLL_S = 0.1
SELDOM_S = 3600.0
PASSWORD = "{secret}"  # noqa: S105  where the password goes

RowState = Literal["queued", "taken", "ended", "dropped"]

STATES: dict[str, RowState] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "taken",
    "SUCCESS": "ended",
    "ERROR": "dropped",
    "CANCELLED": "dropped",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "dropped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A unit as it stands. ``queued``: nobody has it; ``taken``: an executor has it in hand; ``ended``: with a letter;
    ``dropped``: it was called off, and nobody will carry it out under this id."""

    state: RowState
    executor: str
    ours: bool
    """Whether it was written by this version of the protocol."""
    letter: Letter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where units stand: a SQLite file of their own, or a schema of a PostgreSQL database. ``url`` holds ``{secret}``
    where ``password`` goes."""

    url: str
    password: Secret | None = None
    schema: str = SCHEMA


def beside(database: str, password: Secret | None = None, schema: str | None = None) -> Place:
    """The place for an estate's database: a file beside it, or in the same one a schema beside its own.

    >>> beside("sqlite:////srv/infra/.ismgr/ismgr.db").url
    'sqlite:////srv/infra/.ismgr/ismgr-steps.db'
    >>> beside("postgresql://ismgr@db/infra", schema="ismgr_infra").schema
    'ismgr_infra_steps'
    """
    if not database.startswith("sqlite:///"):
        return Place(url=database, password=password, schema=f"{schema}_steps" if schema else SCHEMA)
    path = Path(database.removeprefix("sqlite:///"))
    return Place(url=f"sqlite:///{path.with_name(f'{path.stem}-steps{path.suffix}')}")


def queue_of(run: str) -> str:
    """The queue of a run. While it is there the run takes work; whoever deletes it stops the run everywhere."""
    return f"ismgr/{run}"


def unit_of(id_: str) -> Unit:
    """The unit with this id.

    >>> unit_of("run-1/1/group/webs#2/1").key
    'group/webs#2'
    """
    run, round_, rest = id_.split("/", 2)
    key, _, attempt = rest.rpartition("/")
    return Unit(run=run, round=int(round_), key=key, attempt=int(attempt))


def _cancelled(run: str) -> str:
    """A queue that nobody listens to: it being there is the sign."""
    return f"{queue_of(run)}/cancelled"


class Notes(logging.Handler):
    """Keeps DBOS's last warnings away from people's screens, for the detail of an error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=20)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        words = record.getMessage().splitlines()
        cause = record.exc_info[1] if record.exc_info else None
        self.lines.append(f"{words[0] if words else ''}{f' {type(cause).__name__}: {cause}' if cause else ''}")


NOTES = Notes()


class Rows:
    """The rows of one place. Raises ``EngineFailed``."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = place.url
        self._password = place.password
        self._client: DBOSClient | None = None

    @property
    def secret_url(self) -> str:
        """The URL with the password in it. For DBOS alone."""
        if self._password is None:
            return self.url
        from urllib.parse import quote

        return self.url.replace(PASSWORD, quote(self._password.reveal(), safe=""))

    def open(self) -> None:
        """Connect, and make or update the tables. Raises ``EngineMissing`` where SQLite is too old."""
        if self._client is not None:
            return
        fitness.check(self.url)
        from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

        hush()
        with self.failing("be opened"):
            self._prepare()
            client = DBOSClient(
                system_database_url=self.secret_url,
                dbos_system_schema=self.place.schema,
                serializer=DBOSPortableJSONSerializer(),
                application_name=APPLICATION,
                retry_connection_errors=False,
                lazy=True,
            )
            try:
                client.check_connection()
                DBOS.migrate(self.secret_url, schema=self.place.schema)
            except BaseException:
                client.destroy()
                raise
            self._client = client

    def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            self._client.destroy()
            self._client = None

    def open_queue(self, run: str, at_once: int) -> None:
        """The run takes work from now on; each executor takes ``at_once`` units at once."""
        with self.failing("be written"):
            self._open.register_queue(queue_of(run), worker_concurrency=at_once, polling_interval_sec=POLL_S)

    def close_queue(self, run: str) -> None:
        """The run takes no more work: nothing of it is begun anywhere."""
        with self.failing("be written"):
            self._open.delete_queue(queue_of(run))

    def mark_cancelled(self, run: str) -> None:
        """Tell every worker to stop what it has in hand of this run."""
        with self.failing("be written"):
            self._open.register_queue(_cancelled(run), worker_concurrency=1, polling_interval_sec=SELDOM_S)

    def unmark_cancelled(self, run: str) -> None:
        """Nobody wants the run stopped any more."""
        with self.failing("be written"):
            self._open.delete_queue(_cancelled(run))

    def is_cancelled(self, run: str) -> bool:
        """Whether somebody wants the run stopped."""
        with self.failing("be read"):
            return self._open.retrieve_queue(_cancelled(run)) is not None

    def queue_is_open(self, run: str) -> bool:
        """Whether the run takes work."""
        with self.failing("be read"):
            return self._open.retrieve_queue(queue_of(run)) is not None

    def add(self, unit: Unit) -> None:
        """Queue a unit; nothing happens when its id is there already."""
        from dbos import WorkflowSerializationFormat

        with self.failing("be written"):
            self._open.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": queue_of(unit.run),
                    "workflow_id": unit.id,
                    "app_version": PROTOCOL,
                    "serialization_type": WorkflowSerializationFormat.PORTABLE,
                },
                unit.run,
                unit.round,
                unit.key,
                unit.attempt,
            )

    def look(self, ids: Sequence[str]) -> dict[str, Row]:
        """The rows by id; what is not there is left out."""
        with self.failing("be read"):
            found = self._open.list_workflows(workflow_ids=list(ids), load_input=False) if ids else []
        return {one.workflow_id: _row(one) for one in found}

    def taken_by(self, executor: str) -> tuple[Unit, ...]:
        """The units that an executor has in hand."""
        with self.failing("be read"):
            found = self._open.list_workflows(
                executor_id=executor, status="PENDING", load_input=False, load_output=False
            )
        return tuple(unit_of(one.workflow_id) for one in found)

    def waiting(self, run: str) -> int:
        """How many units of a run are queued or in somebody's hand."""
        with self.failing("be read"):
            found = self._open.list_workflows(
                queue_name=queue_of(run), status=["ENQUEUED", "PENDING"], load_input=False, load_output=False
            )
        return len(found)

    def put_back(self, unit: Unit) -> None:
        """Let somebody else take a unit that is in hand here and was not begun."""
        with self.failing("be written"):
            self._open.resume_workflow(unit.id, queue_name=queue_of(unit.run))

    def drop(self, ids: Sequence[str]) -> None:
        """Call units off: whoever has one in hand cannot end it any more. What has ended stays as it is."""
        if ids:
            with self.failing("be written"):
                self._open.cancel_workflows(list(ids))

    def forget(self, ids: Sequence[str]) -> None:
        """Remove rows, so that their ids can be queued again."""
        if ids:
            with self.failing("be written"):
                self._open.delete_workflows(list(ids))

    @property
    def _open(self) -> DBOSClient:
        if self._client is None:
            raise InternalError("The rows of steps were used before they were opened.")
        return self._client

    def _prepare(self) -> None:
        """A SQLite file with a write-ahead log: a claim then costs one write to disk, and readers never wait."""
        if not self.url.startswith("sqlite:///"):
            return
        path = Path(self.url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn what the libraries raise into ``EngineFailed``."""
        from dbos import error as dbos_error
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, dbos_error.DBOSException, sqlite3.Error, OSError) as error:
            words = str(getattr(error, "orig", None) or error)
            raise EngineFailed(
                f"The steps of runs in {self.url} cannot {what}: {words.splitlines()[0] if words else error!r}.",
                engine="dbos",
                subject=self.url,
                next_step="See that the database is there and may be written, then `ismgr resume` goes on.",
                detail=self._masked("\n".join([words, *NOTES.lines])),
            ) from error

    def _masked(self, text: str) -> str:
        return text.replace(self._password.reveal(), "***") if self._password is not None else text


def hush() -> None:
    """Send DBOS's words to ``NOTES`` before it sets up a handler of its own that writes to stderr."""
    logger = logging.getLogger("dbos")
    logger.propagate = False
    if NOTES not in logger.handlers:
        logger.addHandler(NOTES)


def _row(status: WorkflowStatus) -> Row:
    state = STATES.get(status.status, "dropped")
    return Row(
        state=state,
        executor=status.executor_id or "",
        ours=status.app_version == PROTOCOL,
        letter=read(status.output) if state == "ended" else None,
    )
