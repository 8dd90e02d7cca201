"""Backups for people: what there is and how old it is, and what a restore of it proved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.table import Table

from ismgr_automation.recovery.restore_told import RestoreTold

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.converge.backups import BackupStatus

MEBI = 1 << 20


def show_restore(told: RestoreTold, console: Console) -> None:
    """What was restored, each step, what must hold of it."""
    if told.label:
        taken = f" of {told.taken_at:%Y-%m-%d %H:%M} UTC" if told.taken_at is not None else ""
        size, way = f"{told.size_bytes / MEBI:.1f} MB", f"from {escape(told.repository)} to {escape(told.host)}"
        cipher = f", {escape(told.cipher)}" if told.cipher else ""
        console.print(f"\n[bold]{escape(told.label)}[/]{taken}, {size}, {way}{cipher}")
    if told.rto_ms is not None:
        console.print(f"  it answered [bold]{told.rto_ms / 1000:.2f} s[/] after the loss was declared")
    if told.age_s is not None:
        own = f", write {told.newest_number} of this drill" if told.newest_number is not None else ""
        console.print(f"  its newest write was [bold]{told.age_s:.1f} s[/] old then{own}")
    for step in told.steps:
        mark = "[green]ok[/]" if step.ok else f"[red]{escape(step.words or 'failed')}[/]"
        console.print(f"  {escape(step.name):<14} {step.took_ms:>9.1f} ms  {mark}")
    for one in told.invariants:
        mark = "[green]holds[/]" if one.ok else f"[red]{escape(one.words or 'does not hold')}[/]"
        console.print(f"  {escape(one.name):<14} {mark}")
    for files in told.files:
        mark = f"{files.files} files, {files.same} the same in use" if files.ok else f"[red]{escape(files.words)}[/]"
        console.print(f"  files {escape(files.name):<8} {mark}")


def show_status(found: Sequence[BackupStatus], console: Console) -> None:
    """A line for each backup that there should be; ``age`` is that of the newest write in it."""
    if not found:
        console.print("No RecoveryPlan says anything about backups.", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("plan", "what", "host", "full", "last", "age", "allowed", "size", "state"):
        side: Literal["left", "right"] = "right" if name in {"age", "allowed", "size"} else "left"
        # on a narrow screen it is the words that wrap
        table.add_column(name, justify=side, no_wrap=name != "state", overflow="fold")
    for one in found:
        table.add_row(
            escape(one.plan),
            escape(one.what),
            escape(one.host),
            f"{one.full_at:%m-%d}" if one.full_at is not None else "-",
            _moment(one.last_at),
            _span(one.age) if one.age is not None else "-",
            _span(one.allowed),
            f"{one.stored_bytes / MEBI:.1f} MB" if one.stored_bytes else "-",
            f"[red]{escape(one.trouble)}[/]" if one.trouble else "[green]ok[/]",
        )
    console.print(table)


def _moment(value: datetime | None) -> str:
    return f"{value:%m-%d %H:%M}" if value is not None else "-"


def _span(value: timedelta) -> str:
    """In a unit of which there are not too many.

    >>> _span(timedelta(seconds=61)), _span(timedelta(minutes=15)), _span(timedelta(hours=26, minutes=5))
    ('61 s', '15 min', '26 h')
    """
    seconds = round(value.total_seconds())
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
