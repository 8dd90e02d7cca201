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


def steps_url(database: str) -> str:
    """Where the steps are kept for an estate's database: in a file beside it, or in a schema of the same one.

    >>> steps_url("sqlite:////srv/infra/.ismgr/ismgr.db")
    'sqlite:////srv/infra/.ismgr/ismgr-steps.db'
    """
    if not database.startswith("sqlite:///"):
        return database
    path = Path(database.removeprefix("sqlite:///"))
    return f"sqlite:///{path.with_name(f'{path.stem}-steps{path.suffix}')}"


def queue_of(run: str) -> str:
    """The queue of a run. While it is there the run takes work; whoever deletes it stops the run everywhere."""
    return f"ismgr/{run}"


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
    """The rows of one database. ``url`` holds ``{secret}`` where ``password`` goes. Raises ``EngineFailed``."""

    def __init__(self, url: str, password: Secret | None = None) -> None:
        self.url = url
        self._password = password
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
                dbos_system_schema=SCHEMA,
                serializer=DBOSPortableJSONSerializer(),
                application_name=APPLICATION,
                retry_connection_errors=False,
                lazy=True,
            )
            try:
                client.check_connection()
                DBOS.migrate(self.secret_url, schema=SCHEMA)
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

    def taken_by(self, executor: str) -> tuple[str, ...]:
        """The units that an executor has in hand."""
        with self.failing("be read"):
            found = self._open.list_workflows(
                executor_id=executor, status="PENDING", load_input=False, load_output=False
            )
        return tuple(one.workflow_id for one in found)

    def waiting(self, run: str) -> int:
        """How many units of a run are queued or in somebody's hand."""
        with self.failing("be read"):
            found = self._open.list_workflows(
                queue_name=queue_of(run), status=["ENQUEUED", "PENDING"], load_input=False, load_output=False
            )
        return len(found)

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
