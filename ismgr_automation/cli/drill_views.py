"""Drills for people: what a client saw, where its time went, what was lost, and each step. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ismgr_automation.cli.backup_views import show_restore
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.recovery.result import DrillResult, Outage, Verdict, Writes

COLORS: Mapping[Verdict, str] = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "red",
    Verdict.INVALID: "magenta",
    Verdict.ABORTED: "yellow",
    Verdict.SKIPPED: "yellow",
}
BAR = 40
"""Characters of the longest bar of a waterfall."""


def show_result(result: DrillResult, console: Console) -> None:
    """One drill: the verdict first, then what it rests on."""
    color = COLORS[result.verdict]
    console.print(
        f"\n[bold {color}]{result.verdict}[/] {result.mode} of [bold]{escape(result.plan)}[/]: "
        + (
            f"{escape(result.home)} → {escape(result.away)} → {escape(result.home)}"
            if result.mode is not DrillMode.RESTORE
            else "a backup"
        )
    )
    for part, verdict in result.verdicts.items():
        console.print(f"  {part:<9} [{COLORS[verdict]}]{verdict}[/]")
    for one in result.reasons:
        console.print(f"  [red]{escape(one)}[/]")
    for outage in result.outages:
        _show_outage(outage, console)
    if result.restore is not None:
        show_restore(result.restore, console)
    if result.writes is not None:
        console.print(f"\n{_writes(result.writes)}", markup=False)
    if result.without_redundancy_s is not None:
        console.print(f"Without redundancy for {result.without_redundancy_s:.1f} s.", markup=False)
    console.print(f"[dim]{_goals(result)}; {_load(result)}[/]")
    console.print(f"[dim]run {result.run}, {result.began_at:%Y-%m-%d %H:%M:%S} UTC, commit {result.commit[:12]}[/]")


def _show_outage(outage: Outage, console: Console) -> None:
    console.print(f"\n[bold]{escape(outage.leg)}[/]: clients waited [bold]{outage.figure}[/]")
    longest = max((one.took_ms for one in outage.waterfall), default=0.0)
    for one in outage.waterfall:
        bar = "█" * max(1, round(BAR * one.took_ms / longest)) if longest else ""
        console.print(f"  {escape(one.name):<14} {one.took_ms:>8.1f} ms  [cyan]{bar}[/]")
    if outage.interruptions > 1:
        console.print(f"  [yellow]service was interrupted {outage.interruptions} times[/]")


def _writes(writes: Writes) -> str:
    lost = f"{writes.lost} lost" + (f" (within {writes.lost_span_ms:.0f} ms)" if writes.lost else "")
    unknown = writes.unknown_held + writes.unknown_gone
    return (
        f"{writes.written} writes: {writes.acked} acknowledged, of these {lost}; {writes.failed} refused; {unknown} of "
        f"unknown outcome, {writes.unknown_held} of them there."
    )


def _goals(result: DrillResult) -> str:
    goals = result.goals
    named = (("RTO", goals.rto), ("RPO", goals.rpo), ("MTD", goals.mtd))
    return "objectives: " + (", ".join(f"{name} {value:g} s" for name, value in named if value is not None) or "none")


def _load(result: DrillResult) -> str:
    return f"load {result.load_average[0]:.1f} when it began" if result.load_average else "load not read"


def show_history(results: Sequence[DrillResult], console: Console) -> None:
    """A line for each drill."""
    if not results:
        console.print("There was no drill yet.", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("run", "plan", "mode", "verdict", "outage", "lost", "alone", "load"):
        table.add_column(name, justify="right" if name in {"outage", "lost", "alone", "load"} else "left")
    for one in results:
        table.add_row(
            one.run,
            escape(one.plan),
            str(one.mode),
            f"[{COLORS[one.verdict]}]{one.verdict}[/]",
            _outage(one),
            str(one.writes.lost) if one.writes is not None else "-",
            f"{one.without_redundancy_s:.1f} s" if one.without_redundancy_s is not None else "-",
            f"{one.load_average[0]:.1f}" if one.load_average is not None else "-",
        )
    console.print(table)


def _outage(one: DrillResult) -> str:
    """What a client waited for, or how long it took until a backup answered."""
    if one.restore is not None:
        return f"{one.restore.rto_ms / 1000:.1f} s" if one.restore.rto_ms is not None else "-"
    first = one.outages[0] if one.outages else None
    return f"{first.outage_ms:.0f} ± {max(1.0, first.resolution_ms):.0f} ms" if first is not None else "-"
