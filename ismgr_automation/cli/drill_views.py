"""Drills for people: what a client saw, where its time went, what was lost, and each step. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ismgr_automation.cli.backup_views import show_restore
from ismgr_automation.cli.drill_isolated_view import show_isolation
from ismgr_automation.converge.drill_leftovers import Leftovers
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.recovery import Manners
from ismgr_automation.recovery.clauses import Case
from ismgr_automation.recovery.coverage import coverage
from ismgr_automation.recovery.result import DrillResult, FaultTold, Outage, Verdict, Writes
from ismgr_automation.recovery.result import Table as PaperTable
from ismgr_automation.recovery.waterfall import LIMIT

COLORS: Mapping[Verdict, str] = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "red",
    Verdict.INVALID: "magenta",
    Verdict.ABORTED: "yellow",
    Verdict.SKIPPED: "yellow",
}
MOVING = frozenset({DrillMode.SWITCHOVER, DrillMode.FAILOVER, DrillMode.RETURN})
"""The modes that cost a service its redundancy for a time."""
BAR = 40
"""Characters of the longest bar of a waterfall."""


def show_result(result: DrillResult, console: Console) -> None:
    """One drill: the verdict first, then what it rests on."""
    color = COLORS[result.verdict]
    console.print(
        f"\n[bold {color}]{result.verdict}[/] {result.mode} of [bold]{escape(result.plan)}[/]: "
        f"{escape(' → '.join(_way(result)))}"
    )
    for part, verdict in result.verdicts.items():
        console.print(f"  {part:<9} [{COLORS[verdict]}]{verdict}[/]")
    for one in result.reasons:
        console.print(f"  [red]{escape(one)}[/]")
    _show_parts(result, console)
    if result.writes is not None:
        console.print(f"\n{_writes(result.writes)}", markup=False)
    if result.mode in MOVING and result.tasks:
        alone = result.without_redundancy_s
        words = f"Without redundancy for {alone:.1f} s." if alone is not None else "Without redundancy: not measured."
        console.print(words, markup=False)
    console.print(f"[dim]{_goals(result)}; {_load(result)}[/]")
    console.print(f"[dim]run {result.run}, {result.began_at:%Y-%m-%d %H:%M:%S} UTC, commit {result.commit[:12]}[/]")


def _way(result: DrillResult) -> tuple[str, ...]:
    """Where it went."""
    if result.verdict is Verdict.SKIPPED:
        return ("not begun",)
    if result.isolation is not None:
        return (result.isolation.source, f"a clone on {result.isolation.spare}")
    return ("a backup",) if result.mode is DrillMode.RESTORE else (result.home, result.away, result.home)


def _show_parts(result: DrillResult, console: Console) -> None:
    """What only some kinds of drills have."""
    if result.fault is not None:
        console.print(f"\n{_fault(result.fault)}", markup=False)
    if result.table is not None:
        _show_table(result, result.table, console)
    for outage in result.outages:
        _show_outage(outage, console)
    if result.isolation is not None:
        show_isolation(result.isolation, result.tasks, console)
    if result.restore is not None:
        show_restore(result.restore, console)


def _show_table(result: DrillResult, table: PaperTable, console: Console) -> None:
    """A paper run: what was said of each step, by whom, and how long they took."""
    console.print(f"  on paper: {table.rehearsed}, by {', '.join(table.people)}", markup=False)
    took = {f"{one.leg}/{one.name}": (one.ended_ms - one.began_ms) / 1000 for one in result.tasks}
    for one in table.seats:
        words = f"  {one.step:<28} {one.answer:<12} {took.get(one.step, 0):>6.0f} s  {one.person}"
        console.print(f"{words}  {one.remark}".rstrip(), markup=False)


def show_case(case: Case, written: Sequence[Path], console: Console, *, brief: bool = False) -> None:
    """One drill with what is said of it; ``brief`` without what standards ask for."""
    show_result(case.result, console)
    for number, one in enumerate(case.trend.words):
        color = "bold red" if case.trend.worse and not number else "dim"
        console.print(f"[{color}]{escape(one)}[/]")
    if brief:
        return
    _show_standards(case, console)
    for note in case.findings:
        due = f"due {note.due:%Y-%m-%d}"
        console.print(f"[yellow]finding[/] {escape(note.text)} [dim]({escape(note.owner)}, {due})[/]")
    for said in case.statements:
        console.print(f"{said.topic}: {escape(said.text)} [dim]({escape(said.person)})[/]")
    for signed_off in case.sign_offs:
        mark = "[red]void[/] " if signed_off.void else ""
        why = f": {signed_off.void}" if signed_off.void else ""
        words = f"{signed_off.person}, as {signed_off.sign_off.role}, {signed_off.sign_off.at:%Y-%m-%d}{why}"
        console.print(f"{mark}[green]signed off[/] by {escape(words)}")
    proof = "in the chain of evidence" if case.seal.recorded else "not proven by evidence"
    signed = f", signed by {case.seal.signed_by}" if case.seal.signed_by else ""
    why = f": {case.seal.trouble}" if case.seal.trouble else "."
    console.print(f"The result is {proof}{escape(signed)}{escape(why)}")
    for path in written:
        console.print(f"Wrote {path}.", markup=False)


def _show_standards(case: Case, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("standard", "mark", "fields", "missing"):
        table.add_column(name, overflow="fold")
    for one in coverage(case):
        mark = "[green]complete[/]" if one.complete else "[yellow]withheld[/]"
        whole = len(one.covered) + len(one.missing)
        missing = "; ".join(", ".join(each.missing) for each in one.missing)
        table.add_row(str(one.standard), mark, f"{len(one.covered)} of {whole}", escape(missing))
    console.print()
    console.print(table)


def _show_outage(outage: Outage, console: Console) -> None:
    console.print(f"\n[bold]{escape(outage.leg)}[/]: clients waited [bold]{outage.figure}[/]")
    # the journal is written between all steps: what stands on the page piece by piece is one line of each kind here
    longest = max(outage.by_name.values(), default=0.0)
    for name, took_ms in outage.by_name.items():
        bar = "█" * max(1, round(BAR * took_ms / longest)) if longest else ""
        console.print(f"  {escape(name):<14} {took_ms:>8.1f} ms  [cyan]{bar}[/]")
    if outage.waterfall:
        whole = sum(one.took_ms for one in outage.waterfall)
        added = f"adds up to {whole:.1f} of {outage.outage_ms:.1f} ms, {outage.unaccounted_ms:.1f} ms unexplained"
        within = "within" if outage.explained else "MORE than"
        console.print(f"  [{'dim' if outage.explained else 'yellow'}]{added}: {within} {LIMIT:.0%}[/]")
    if outage.interruptions > 1:
        console.print(f"  [yellow]service was interrupted {outage.interruptions} times[/]")


def _fault(fault: FaultTold) -> str:
    """In the order in which it went: broken, seen to bite, noticed, gone."""
    moments = (("bitten", fault.bitten_ms), ("detected", fault.detected_ms), ("lifted", fault.lifted_ms))
    told = [f"{name} after {at - (fault.began_ms or 0.0):.0f} ms" for name, at in moments if at is not None]
    looks = f"{fault.looks} looks of the detector" if fault.looks else ""
    gap = f"clients waited {fault.gap_ms:.0f} ms at most" if fault.gap_ms is not None else ""
    taken = f"a stale primary took {fault.taken} writes" if fault.taken is not None else ""
    otherwise = "the client that measured was such a one" if fault.kind in set(Manners) else "not done"
    return f"fault {fault.name} ({fault.kind}): " + ("; ".join(filter(None, [*told, looks, gap, taken])) or otherwise)


def show_leftovers(found: Sequence[Leftovers], console: Console) -> None:
    """What is left on the hosts of each plan."""
    for one in found:
        console.print(
            f"[bold]{escape(one.plan)}[/]: " + ("nothing is left" if not one.left else f"{len(one.left)} left")
        )
        for words in one.lifted:
            console.print(f"  [green]lifted[/] {escape(words)}")
        for words in one.kept:
            console.print(f"  [red]not lifted[/] {escape(words)}")
        for words in one.left:
            console.print(f"  [yellow]{escape(words)}[/]")
    if not found:
        console.print("No RecoveryPlan has a fault.", markup=False)


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
