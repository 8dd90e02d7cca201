"""The tables, and how an older database becomes one of today. Of rows it
knows the version's, and those whose new columns an upgrade fills in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from ismgr_automation.core.errors import EngineFailed

VERSION = 7
"""1 is the foundation's file: the table ``applied`` alone, without a version. 2 has leases, runs and their steps too, 3
what is remembered between patch runs, 4 to which snapshots hosts were put back, 5 the results of drills, 6 what
people wrote down about them, 7 which runs applied everything that their commit asked."""

LOCK = 0x69736D6772
"""The advisory lock of PostgreSQL under which tables are made."""

Large = BigInteger().with_variant(Integer(), "sqlite")

METADATA = MetaData()

VERSIONS = Table(
    "schema_version", METADATA, Column("version", Integer, primary_key=True), Column("at", Text), sqlite_strict=True
)

APPLIED = Table(
    "applied",
    METADATA,
    Column("environment", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("inputs", Text, nullable=False),
    Column("commit_id", Text, nullable=False),
    Column("at", Text, nullable=False),
    sqlite_strict=True,
)

LEASES = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    # the row stays when the lease is given back or broken: the token must never be used again
    Column("token", Large, nullable=False),
    Column("held", Integer, nullable=False),
    Column("holder", Text, nullable=False),
    Column("ttl_us", Large, nullable=False),
    Column("acquired_us", Large, nullable=False),
    Column("expires_us", Large, nullable=False),
    # SQLite only: the moment of expiry by a clock that nobody sets, and the boot that it counts from
    Column("boot", Text, nullable=False, server_default=""),
    Column("boot_us", Large, nullable=False, server_default="0"),
    sqlite_strict=True,
)

RUNS = Table(
    "runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("estate", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("commit_id", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("token", Large, nullable=False),
    Column("holder", Text, nullable=False),
    Column("started_us", Large, nullable=False),
    Column("state", Text, nullable=False),
    Column("finished_us", Large),
    Column("report", Text),
    Column("rest", Text, nullable=False),
    Column("whole", Integer, nullable=False, server_default="0"),
    Index("runs_newest", "environment", "started_us"),
    # whoever looks for the few that are not ended, or for the last that was whole, reads no other plans
    Index("runs_of_state", "state", "whole", "environment", "started_us"),
    sqlite_strict=True,
)

NONCES = Table(
    "nonces",
    METADATA,
    Column("nonce", Text, primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    sqlite_strict=True,
)

ROUNDS = Table(
    "rounds",
    METADATA,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("changes", Text, nullable=False),
    Column("waves", Text, nullable=False),
    sqlite_strict=True,
)

STEPS = Table(
    "steps",
    METADATA,
    Column("ordinal", Large, primary_key=True, autoincrement=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("executor", Text, nullable=False),
    Column("token", Large, nullable=False),
    Column("started_us", Large, nullable=False),
    Column("finished_us", Large),
    Column("outcome", Text),
    Column("post_state", Text, nullable=False, server_default=""),
    UniqueConstraint("run", "round", "key", "attempt"),
    sqlite_strict=True,
)

EXECUTORS = Table(
    "executors",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_us", Large, nullable=False),
    Column("boot", Text, nullable=False, server_default=""),
    Column("boot_us", Large, nullable=False, server_default="0"),
    sqlite_strict=True,
)


FACTS = Table(
    "facts",
    METADATA,
    Column("environment", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("read_us", Large, nullable=False),
    # JSON of a format that names itself, compressed
    Column("body", LargeBinary, nullable=False),
    sqlite_strict=True,
)

WAITING = Table(
    "waiting",
    METADATA,
    Column("environment", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("baseline", Text, nullable=False),
    Column("since_us", Large, nullable=False),
    Column("expires_us", Large, nullable=False),
    Column("run", Text, nullable=False),
    sqlite_strict=True,
)

PATCHED = Table(
    "patched",
    METADATA,
    Column("environment", Text, primary_key=True),
    # no reference: what a host had before is kept longer than the runs
    Column("run", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("at_us", Large, nullable=False),
    Column("moves", Text, nullable=False),
    Column("took_us", Large, nullable=False),
    Column("rebooted", Integer, nullable=False),
    Column("restart_us", Large),
    Column("rolled_back", Text, nullable=False),
    Column("snapshot", Text, nullable=False, server_default=""),
    Index("patched_newest", "environment", "at_us"),
    Index("patched_newest_of_host", "environment", "host", "at_us"),
    sqlite_strict=True,
)

DRILLS = Table(
    "drills",
    METADATA,
    Column("environment", Text, primary_key=True),
    # no reference: results are kept longer than the runs
    Column("run", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    # JSON of a format that names itself
    Column("result", Text, nullable=False),
    Index("drills_of_plan", "environment", "plan", "run"),
    sqlite_strict=True,
)

DRILL_NOTES = Table(
    "drill_notes",
    METADATA,
    Column("number", Large, primary_key=True, autoincrement=True),
    Column("environment", Text, nullable=False),
    Column("run", Text, nullable=False),
    # JSON of a format that names itself; rows are only ever added
    Column("note", Text, nullable=False),
    Index("drill_notes_of_run", "environment", "run"),
    sqlite_strict=True,
)


def version(connection: sa.Connection, schema: str | None) -> int:
    """The version of the tables that are there: 0 for none, 1 for those of the foundation."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(VERSIONS.name, schema=schema):
        return 1 if inspector.has_table(APPLIED.name, schema=schema) else 0
    return int(connection.execute(sa.select(sa.func.max(VERSIONS.c.version))).scalar_one() or 0)


def refuse_newer(found: int, place: str) -> None:
    """Raises ``EngineFailed`` for tables of a later ismgr."""
    if found > VERSION:
        raise EngineFailed(
            f"The database {place} was written by a newer ismgr: its tables have version {found}, and this one knows "
            f"{VERSION}.",
            engine="database",
            subject=place,
            untouched="Nothing was touched.",
            next_step="Use the newer ismgr on this machine as well.",
        )


def upgrade(connection: sa.Connection, schema: str | None, place: str) -> None:
    """Make what is missing, in the transaction of the caller, which nobody else can be in. Rows stay."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        if schema is not None and not sa.inspect(connection).has_schema(schema):
            connection.execute(sa.schema.CreateSchema(schema))
    found = version(connection, schema)
    refuse_newer(found, place)
    if found < VERSION:
        METADATA.create_all(connection)
        _add_columns(connection, schema)
        connection.execute(sa.insert(VERSIONS).values(version=VERSION, at=datetime.now(UTC).isoformat()))


def _add_columns(connection: sa.Connection, schema: str | None) -> None:
    """Columns that tables of before have not; each has a value for the rows that are there."""
    if _lacks(connection, PATCHED.c.snapshot, schema):
        _add(connection, PATCHED.c.snapshot, "TEXT NOT NULL DEFAULT ''", schema)
    if _lacks(connection, RUNS.c.whole, schema):
        _add(connection, RUNS.c.whole, "INTEGER NOT NULL DEFAULT 0", schema)
        _mark_whole(connection)
    for index in RUNS.indexes:
        index.create(connection, checkfirst=True)


def _lacks(connection: sa.Connection, column: sa.Column[Any], schema: str | None) -> bool:
    there = sa.inspect(connection).get_columns(column.table.name, schema=schema)
    return column.name not in {one["name"] for one in there}


def _add(connection: sa.Connection, column: sa.Column[Any], kind: str, schema: str | None) -> None:
    quote = connection.dialect.identifier_preparer.quote
    place = ".".join(quote(part) for part in (schema, column.table.name) if part)
    connection.execute(sa.text(f"ALTER TABLE {place} ADD COLUMN {column.name} {kind}"))


def _mark_whole(connection: sa.Connection) -> None:
    """Runs of before say in their plans whether they applied everything. Of those that ended the newest is enough."""
    known = sa.select(RUNS.c.id, RUNS.c.estate, RUNS.c.environment, RUNS.c.state).where(
        RUNS.c.purpose == "apply", RUNS.c.state.in_(("done", "running"))
    )
    found: set[tuple[str, str]] = set()
    for row in connection.execute(known.order_by(RUNS.c.started_us.desc(), RUNS.c.id.desc())).all():
        place = (row.estate, row.environment)
        if row.state == "done" and place in found:
            continue
        plan = connection.execute(sa.select(RUNS.c.plan).where(RUNS.c.id == row.id)).scalar_one()
        if _whole(plan):
            connection.execute(sa.update(RUNS).where(RUNS.c.id == row.id).values(whole=1))
            if row.state == "done":
                found.add(place)


def _whole(plan: str) -> bool:
    """What ``planning.plan.Plan.whole`` says, of a plan file of those days."""
    try:
        read = json.loads(plan)
        intent, beside = read["intent"], read["beside"]
        changes = intent["changes"] or intent["deferred"]
        return bool(changes) and not intent["inputs"]["selection"] and not beside["worktree"]
    except (KeyError, TypeError, ValueError):
        return False
