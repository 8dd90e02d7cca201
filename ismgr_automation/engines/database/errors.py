"""What SQLite and PostgreSQL can say, as our errors: one table for each. No row's content and no secret is repeated."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from ismgr_automation.core.errors import CredentialRejected, EngineError, EngineFailed, Throttled, Unreachable
from ismgr_automation.engines.database.lockers import lockers
from ismgr_automation.ports.hosts import Reach


class Kind(StrEnum):
    """Which database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class Row:
    """What one kind of error means, and what to do."""

    means: str
    next_step: str
    cause: Reach | None = None
    error: type[EngineError] = EngineFailed


REPORT = "Please report this with the words of the database."
MEND = "Mend the file or its folder; where only `applied` is lost, the next plan looks at everything again."
LOCKED = Row("somebody else has it locked", "Look who works with it (`fuser FILE`), and try again.")

SQLITE: Mapping[str, Row] = {
    "SQLITE_FULL": Row("the disk is full", "Make room where it lies, and run the command again."),
    "SQLITE_READONLY": Row("it may only be read", "Give this user the right to write the file and its folder."),
    "SQLITE_CANTOPEN": Row("it cannot be opened", "Give this user the right to its folder, or correct `database`."),
    "SQLITE_PERM": Row("this user has no right to it", "Give this user the right to write the file and its folder."),
    "SQLITE_AUTH": Row("this user has no right to it", "Give this user the right to write the file and its folder."),
    "SQLITE_BUSY": LOCKED,
    "SQLITE_LOCKED": LOCKED,
    "SQLITE_PROTOCOL": Row("locks do not work there", "Keep it on a local disk: a network share has no usable locks."),
    "SQLITE_NOLFS": Row("files there cannot be large", "Keep it on a local disk."),
    "SQLITE_IOERR": Row("the disk failed", "Look at the disk (`dmesg`), mend it, and run the command again."),
    "SQLITE_CORRUPT": Row("the file is damaged", MEND),
    "SQLITE_NOTADB": Row("the file is no database", MEND),
    "SQLITE_FORMAT": Row("the file is no database", MEND),
    "SQLITE_EMPTY": Row("the file is no database", MEND),
    "SQLITE_NOTFOUND": Row("the file is damaged", MEND),
    "SQLITE_NOMEM": Row("this machine has no memory left", "Free memory, and run the command again."),
    "SQLITE_TOOBIG": Row("a value is too large for it", "Split the plan with --target."),
    "SQLITE_INTERRUPT": Row("it was interrupted", "Run the command again."),
    "SQLITE_ABORT": Row("it gave up", "Run the command again."),
    "SQLITE_CONSTRAINT": Row("a rule of its tables was broken", REPORT),
    "SQLITE_ERROR": Row("its tables are not what they should be", MEND),
    "SQLITE_SCHEMA": Row("its tables changed meanwhile", "Run the command again."),
    "SQLITE_INTERNAL": Row("it failed inside", REPORT),
    "SQLITE_MISMATCH": Row("a value has a wrong type", REPORT),
    "SQLITE_MISUSE": Row("it was used wrongly", REPORT),
    "SQLITE_RANGE": Row("it was used wrongly", REPORT),
    "SQLITE_NOTICE": Row("it only noticed something", REPORT),
    "SQLITE_WARNING": Row("it only warned", REPORT),
}
"""By the primary result code."""

SYSTEM: Mapping[int, str] = {
    errno.ENOSPC: "SQLITE_FULL",
    errno.EDQUOT: "SQLITE_FULL",
    errno.EROFS: "SQLITE_READONLY",
    errno.EACCES: "SQLITE_PERM",
    errno.EPERM: "SQLITE_PERM",
    errno.EIO: "SQLITE_IOERR",
}
"""What the system says when folder and file are made."""

RIGHTS = Row(
    "this user may not do that there",
    "Let the user own a schema of the estate, or give it CREATE on the database.",
)
LATER = "Try again in a moment."
OURS = Row("it did not understand us", REPORT)
WRONG = "00 01 02 03 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 2B 2D 2F 34 38 39 3B 42 44 HV P0"
"""Classes of SQLSTATE that mean that we asked wrongly."""

POSTGRESQL: Mapping[str, Row] = {
    "08": Row("the connection broke", "See whether the server is up, then run the command again.", Reach.TIMEOUT),
    "25006": Row("it may only be read: this is a standby", "Name the primary, or all servers, in the URL."),
    "28": Row("it does not accept who we say we are", "Correct user or `database_password`.", error=CredentialRejected),
    "3D": Row("there is no such database", "Make it (`createdb NAME`), or correct `database`."),
    "3F": Row("its schema is gone", REPORT),
    "40": Row("two transactions crossed", LATER),
    "42501": RIGHTS,
    "53100": Row("the server's disk is full", "Make room there, and run the command again."),
    "53300": Row("it has no connection left", "Raise max_connections, or end idle clients.", error=Throttled),
    "53": Row("it has no resources left", "Free memory or disk on the server.", error=Throttled),
    "54": Row("a value is too large for it", "Split the plan with --target."),
    "55": Row("somebody else has it locked", LATER),
    "57014": Row("it took too long", "Look at the server's load and locks, and try again."),
    "57": Row("the server is starting or stopping", LATER, error=Throttled),
    "58": Row("the server's disk or system failed", "Look at the server's log."),
    "XX": Row("it failed inside", "Look at the server's log."),
    "F0": Row("its configuration is wrong", "Look at the server's log."),
    "72": Row("its snapshot is too old", LATER),
    **dict.fromkeys(WRONG.split(), OURS),
}
"""By SQLSTATE or its class, the longest match counts."""

CONNECTING: Mapping[str, Row] = {
    "failed to resolve host": Row("its name does not resolve", "Correct the URL, or the name service.", Reach.DNS),
    "Connection refused": Row("nobody listens there", "Start the server, or correct the URL.", Reach.REFUSED),
    "No such file or directory": Row("nobody listens there", "Start the server, or correct the URL.", Reach.REFUSED),
    "timeout expired": Row("it does not answer", "See whether a firewall is in between.", Reach.TIMEOUT),
    "connection timeout": Row("it does not answer", "See whether a firewall is in between.", Reach.TIMEOUT),
    "No route to host": Row("there is no way to it", "Look at the network.", Reach.TIMEOUT),
    "Network is unreachable": Row("there is no way to it", "Look at the network.", Reach.TIMEOUT),
    "authentication failed": POSTGRESQL["28"],
    "no password supplied": Row(
        "it wants a password",
        "Write `postgresql://USER:{secret}@...` and name the secret in `database_password`.",
        error=CredentialRejected,
    ),
    "pg_hba.conf": Row("it does not let us in from here", "Allow it in pg_hba.conf.", error=CredentialRejected),
    "role": Row("it does not know this user", "Make the role, or correct the URL.", error=CredentialRejected),
    "session is read-only": POSTGRESQL["25006"],
    "too many clients": POSTGRESQL["53300"],
    "connection slots": POSTGRESQL["53300"],
    "the database system is": POSTGRESQL["57"],
    "certificate": Row("its certificate is not trusted", "Name the authority with sslrootcert=FILE in the URL."),
    "SSL": Row("TLS could not be agreed on", "Set up TLS at the server, or correct sslmode in the URL."),
    "database": POSTGRESQL["3D"],
    "invalid connection option": Row("the URL has an unknown option", "Correct `database` in estate.yaml."),
    "invalid": Row("the URL is not understood", "Correct `database` in estate.yaml."),
}
"""By words, in this order: before a connection is there, the library gives no code."""

BROKEN = POSTGRESQL["08"]
UNKNOWN = Row("it failed", "Look at its own words and at the server's log.")


def told(problem: Exception, kind: Kind, place: str, clean: Callable[[str], str]) -> EngineError:
    """The error for what a database said. ``clean`` takes secrets out of its words."""
    origin = problem.orig if isinstance(problem, sa.exc.DBAPIError) and problem.orig is not None else problem
    words = clean(" ".join(str(origin).split()))
    row = _of_sqlite(origin) if kind is Kind.SQLITE else _of_postgresql(origin, words)
    summary = f"The {'file' if kind is Kind.SQLITE else 'server'} of the database {place}: {row.means}."
    if row.cause is not None:
        told_ = Unreachable(summary, engine=kind, subject=place, cause=row.cause, next_step=row.next_step)
        told_.detail = words
        return told_
    if row is LOCKED:
        return busy(place, words)
    return row.error(summary, engine=kind, subject=place, next_step=row.next_step, detail=words)


def busy(place: str, words: str = "") -> EngineError:
    """The error for a file that was never free: who has it locked, where the kernel tells."""
    found = lockers(Path(place))
    who = " and ".join(map(str, found)) or "somebody else"
    next_step = LOCKED.next_step
    if stopped := [one.pid for one in found if one.stopped]:
        numbers = " ".join(map(str, stopped))
        next_step = (
            f"Let it go on (`kill -CONT {numbers}`), or end it (`kill -KILL {numbers}`): `ismgr resume` then goes on "
            "with what it had in hand."
        )
    summary = f"The file of the database {place}: {LOCKED.means.replace('somebody else', who)}."
    return LOCKED.error(summary, engine=Kind.SQLITE, subject=place, next_step=next_step, detail=words)


def _of_sqlite(origin: BaseException) -> Row:
    if isinstance(origin, OSError):
        return SQLITE[SYSTEM.get(origin.errno or 0, "SQLITE_CANTOPEN")]
    name: str = getattr(origin, "sqlite_errorname", "")
    return sqlite_row(name) if name else UNKNOWN


def _of_postgresql(origin: BaseException, words: str) -> Row:
    import psycopg

    if isinstance(origin, sa.exc.TimeoutError):
        return POSTGRESQL["53300"]
    if isinstance(origin, psycopg.Error) and origin.sqlstate:
        return sqlstate_row(origin.sqlstate)
    if words.startswith(("connection", "failed to resolve", "invalid")):
        found = next((row for said, row in CONNECTING.items() if said in words), None)
        if found is not None:
            return found
    return BROKEN if isinstance(origin, psycopg.OperationalError | psycopg.InterfaceError) else UNKNOWN


def sqlite_row(name: str) -> Row:
    """The row of a result code, extended ones by their primary one: ``SQLITE_IOERR_WRITE`` by ``SQLITE_IOERR``."""
    primary = "_".join(name.split("_")[:2])
    return SQLITE.get(primary, UNKNOWN)


def sqlstate_row(state: str) -> Row:
    """The row of an SQLSTATE."""
    return POSTGRESQL.get(state) or POSTGRESQL.get(state[:2]) or UNKNOWN
