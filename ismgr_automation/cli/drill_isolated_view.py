"""A drill in isolation for people: what the gateways counted, what the clone was asked, and what production noticed.
Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from ismgr_automation.recovery.isolated import IsolationTold
from ismgr_automation.recovery.isolated_verdict import effects
from ismgr_automation.recovery.result import TaskResult


def show_isolation(told: IsolationTold, tasks: Sequence[TaskResult], console: Console) -> None:
    """The walls, the clone, its checks, and production meanwhile."""
    size = f", {told.database_bytes / 1e6:.0f} MB" if told.database_bytes else ""
    took = f" in {told.took_ms:.0f} ms" if told.took_ms is not None else ""
    console.print(f"\n[bold]a clone on {escape(told.spare)}[/]{size}{took}")
    for one in tasks:
        found = " [dim](done already)[/]" if one.found else ""
        console.print(f"  {escape(one.name):<14} {one.ended_ms - one.began_ms:>8.1f} ms{found}")
    for line in _lines(told):
        console.print(f"  {line}", markup=False)
    for check in told.checks:
        word = "[green]passed[/]" if check.ok else "[red]failed[/]"
        console.print(f"  check {escape(check.name):<8} {word}")
    for effect in effects(told):
        console.print(f"  [yellow]{escape(effect)}[/]")


def _lines(told: IsolationTold) -> Iterator[str]:
    gateways = ", ".join(told.gateways)
    if told.passed_out is None:
        yield f"{gateways}: the counters are not of one piece"
    else:
        yield (
            f"{gateways}: {told.passed_out} packets out, {told.passed_in} in; {told.dropped_out} dropped on their way "
            f"out, {told.knocked} of them tries to reach production"
        )
    if told.held_rows is not None:
        yield f"{told.held_rows} of {told.expected_rows} writes acknowledged before the copy are in the clone"
    if told.longest_gap_ms is not None:
        gap = f"production meanwhile: longest time without a write {told.longest_gap_ms:.0f} ms"
        yield f"{gap}, {told.errors} writes that did not go well"
