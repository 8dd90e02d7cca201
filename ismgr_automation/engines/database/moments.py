"""What time it is where leases are kept. PostgreSQL: the server's clock, read inside the statement. SQLite: this
machine's, by boot time where it can be, because wall clocks are set. Nothing here sleeps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from ismgr_automation.core.spans import microseconds
from ismgr_automation.engines.database.schema import Large

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SET_US = 1_000_000
"""By how much the two clocks must disagree before somebody set one: they are not read in the same instant."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def since_epoch(moment: datetime) -> int:
    """A moment as microseconds since the epoch."""
    return microseconds(moment - _EPOCH)


def moment(since: int) -> datetime:
    """Microseconds since the epoch as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=since)


class Moment(Protocol):
    """Now, as one transaction sees it. Columns: ``expires_us`` (wall clock), ``boot`` and ``boot_us`` (SQLite only)."""

    @property
    def now_us(self) -> sa.ColumnElement[int]:
        """The wall clock."""
        ...

    def ends_after(self, ttl_us: int) -> dict[str, sa.ColumnElement[Any]]:
        """What to write into a row whose time begins now."""
        ...

    def over(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Whether the time of a row is over."""
        ...

    def until(self, row: sa.Row[Any]) -> datetime:
        """When the time of a row ends, by the wall clock."""
        ...


@dataclass(frozen=True, slots=True)
class ServerMoment:
    """The clock of a PostgreSQL server: ``clock_timestamp()``, which moves on inside a transaction, so that a statement
    that had to wait for a row's lock judges by the time when it got it."""

    @property
    def now_us(self) -> sa.ColumnElement[int]:
        """The server's wall clock."""
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, Large)

    def ends_after(self, ttl_us: int) -> dict[str, sa.ColumnElement[Any]]:
        """Wall time alone."""
        return {"expires_us": self.now_us + sa.literal(ttl_us, Large)}

    def over(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """By the server's wall clock."""
        return table.c.expires_us <= self.now_us

    def until(self, row: sa.Row[Any]) -> datetime:
        """As it stands there."""
        return moment(row.expires_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMoment:
    """This machine's clocks, read once the database was ours. A row of this boot is judged by ``CLOCK_BOOTTIME``, which
    no one sets and which counts on in sleep; a row of another boot by the wall clock."""

    wall_us: int
    boot: str
    boot_us: int

    @classmethod
    def now(cls) -> MachineMoment:
        """Read them."""
        return cls(
            wall_us=time.time_ns() // 1000, boot=boot_id(), boot_us=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        )

    @property
    def now_us(self) -> sa.ColumnElement[int]:
        """This machine's wall clock."""
        return sa.literal(self.wall_us, Large)

    def ends_after(self, ttl_us: int) -> dict[str, sa.ColumnElement[Any]]:
        """Both clocks."""
        return {
            "expires_us": sa.literal(self.wall_us + ttl_us, Large),
            "boot": sa.literal(self.boot),
            "boot_us": sa.literal(self.boot_us + ttl_us, Large),
        }

    def over(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """By the boot's clock where it is the same boot."""
        return sa.case((table.c.boot == self.boot, table.c.boot_us), else_=table.c.expires_us) <= sa.case(
            (table.c.boot == self.boot, self.boot_us), else_=self.wall_us
        )

    def until(self, row: sa.Row[Any]) -> datetime:
        """By today's wall clock, also when it was set since."""
        today = self.wall_us + row.boot_us - self.boot_us
        was_set = row.boot == self.boot and abs(today - row.expires_us) >= SET_US
        return moment(today if was_set else row.expires_us)

    def adopted(self, table: sa.Table) -> dict[str, sa.ColumnElement[Any]]:
        """What a row of another boot becomes when it is first seen in this one. What is left of its time is at most
        what it was given: a wall clock that was set back during a reboot must not keep it for hours."""
        left = table.c.expires_us - self.wall_us
        capped = sa.case((left > table.c.ttl_us, table.c.ttl_us), else_=left)
        return {"boot": sa.literal(self.boot), "boot_us": self.boot_us + capped}


@cache
def boot_id() -> str:
    """The id of this boot; empty where the kernel tells none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
