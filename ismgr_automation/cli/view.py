"""Plans, reports and checks for people: what changes, why, in which wave. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from difflib import unified_diff
from itertools import groupby, islice
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ismgr_automation.cli.foretold import forecast_lines, whole_time
from ismgr_automation.cli.moves import counted, move_lines, moves_packages
from ismgr_automation.converge.report import Fate, Queued, Report, failed_checks
from ismgr_automation.core.json import Json
from ismgr_automation.planning.change import Action, Certainty, Change, Deferred, Drift, Finding, Level, Reason, Step
from ismgr_automation.planning.plan import PATCHING, Plan
from ismgr_automation.ports.verification import CheckResult, Verdict

SIGNS = {
    Action.CREATE: "[green]+[/]",
    Action.UPDATE: "[yellow]~[/]",
    Action.REPLACE: "[magenta]±[/]",
    Action.DELETE: "[red]-[/]",
    Action.CONFIGURE: "[yellow]~[/]",
}

REASONS = {
    Reason.NEW: "new",
    Reason.INPUTS: "Git asks for something else than was applied",
    Reason.DRIFT: "the world has moved",
    Reason.RELEASED: "was deferred",
    Reason.ASKED: "you asked for it",
    Reason.DUE: "approved updates",
}

STEPS_SHOWN = 12
DIFF_LINES = 8
VALUE_LENGTH = 60
MESSAGE_LINES = 6
MESSAGE_WIDTH = 240


def show_plan(plan: Plan, console: Console, *, everything: bool = False) -> None:
    """The whole plan: waves, deferred, drift, findings, and one line that sums it up."""
    revision = f"{plan.beside.commit[:12]}{' + working tree' if plan.beside.worktree else f' ({plan.beside.ref})'}"
    console.print(f"[bold]{escape(plan.estate)}[/] / {escape(plan.environment)} at {escape(revision)}")
    for line in _about(plan):
        console.print(line)
    _waves(plan, console, None if everything else STEPS_SHOWN)
    if plan.deferred:
        console.print("\n[bold]deferred[/] (runs in a later round, inside these bounds)")
        for one in plan.deferred:
            _deferred(one, console)
    if plan.drift:
        console.print("\n[bold]drift[/] (changed by somebody else since it was applied)")
        show_drift(plan.drift, console)
    show_findings(plan.findings, console)
    console.print(f"\n{_sum(plan)}")
    if time := whole_time(plan):
        console.print(f"[dim]{time}[/]")
    console.print(f"[dim]digest {plan.digest}[/]")
    if plan.beside.expires_at is not None and plan.applicable:
        console.print(f"[dim]can be applied until {plan.beside.expires_at:%Y-%m-%d %H:%M} UTC[/]")


def _waves(plan: Plan, console: Console, most: int | None) -> None:
    forecasts = plan.beside.forecasts
    for number, keys in enumerate(plan.waves, start=1):
        console.print(f"\n[bold]wave {number}[/]")
        for key in keys:
            _change(plan.change(key), console, most)
            for line in forecast_lines(forecasts[key]) if key in forecasts else ():
                console.print(f"    {line}")


def _about(plan: Plan) -> Iterable[str]:
    """What plans of packages say besides: what for, counted from which day, who is not in it."""
    if plan.undoes:
        yield f"back to what was there before run [bold]{escape(plan.undoes)}[/]"
    elif plan.day:
        yield f"[dim]ages and due dates as of {escape(plan.day)}[/]"
    if plan.urgent:
        yield f"[yellow]urgent[/] {escape(plan.urgent)}"
    if plan.absent:
        yield f"[yellow]not in it[/] {escape(', '.join(plan.absent))}: could not be reached"


def _change(change: Change, console: Console, most: int | None) -> None:
    if moves_packages(change):
        _moves(change, console, most)
        return
    hosts = f" on {len(change.targets)} host{'s' * (len(change.targets) != 1)}" if change.targets else ""
    hosts += f" (batch {change.batch})" if change.batch else ""
    unit = "task" if change.targets else "resource"
    count = f"{len(change.steps)} {unit}{'s' * (len(change.steps) != 1)}{hosts}"
    console.print(f"{SIGNS[change.action]} [bold]{escape(change.key)}[/] {change.action}: {count} - {_why(change)}")
    for step in islice(change.steps, most):
        _step(step, console)
    if most is not None and len(change.steps) > most:
        console.print(f"    [dim]and {len(change.steps) - most} more; --full shows all[/]")


def _moves(change: Change, console: Console, most: int | None) -> None:
    batch = f" (batch {change.batch})" if change.batch else ""
    sign = SIGNS[change.action]
    console.print(f"{sign} [bold]{escape(change.key)}[/] {change.action}: {counted([change])}{batch} - {_why(change)}")
    for line in move_lines(change, most):
        console.print(f"    {line}")


def _why(change: Change) -> str:
    return REASONS[change.reason]


def _step(step: Step, console: Console) -> None:
    unsure = f" [dim]unpredictable: {escape(step.why)}[/]" if step.certainty is Certainty.UNPREDICTABLE else ""
    where = f" [dim]{escape(step.where)}[/]" if step.where else ""
    console.print(f"    {SIGNS[step.action]} {escape(step.target)}  {escape(step.what)}{unsure}{where}")
    _show_difference(step.before, step.after, console)


def _show_difference(before: Json, after: Json, console: Console) -> None:
    lines = list(_difference(before, after))
    for line in lines[:DIFF_LINES]:
        console.print(f"        {line}")
    if len(lines) > DIFF_LINES:
        console.print(f"        [dim]and {len(lines) - DIFF_LINES} more lines; the JSON has all[/]")


def _difference(before: Json, after: Json) -> Iterable[str]:
    if isinstance(before, str) or isinstance(after, str):
        old = before.splitlines() if isinstance(before, str) else []
        new = after.splitlines() if isinstance(after, str) else []
        marks = {"-": "red", "+": "green"}
        for line in islice(unified_diff(old, new, n=0, lineterm=""), 2, None):
            if line[0] in marks:
                yield f"[{marks[line[0]]}]{line[0]} {escape(line[1:])}[/]"
        return
    if not isinstance(before, dict | None) or not isinstance(after, dict | None):
        yield f"{_value(before)} -> {_value(after)}"
        return
    old_map, new_map = before or {}, after or {}
    for key in sorted({*old_map, *new_map}):
        if before is None:
            yield f"{escape(key)}: {_value(new_map[key])}"
        elif old_map.get(key) != new_map.get(key):
            yield f"{escape(key)}: {_value(old_map.get(key))} -> {_value(new_map.get(key))}"


def _value(value: Json) -> str:
    text = json.dumps(value)
    return escape(text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 3] + "...")


def _deferred(one: Deferred, console: Console) -> None:
    most = one.envelope.at_most
    bound = f"at most {most} target{'s' * (most != 1)}; " if most else "no bound; "
    allowed = " or ".join(one.envelope.actions)
    console.print(f"[cyan]>[/] [bold]{one.address}[/] {escape(one.why)} [dim]({bound}may {allowed})[/]")
    if one.expected:
        console.print(f"    [dim]{', '.join(target.name for target in one.expected)}[/]")


def show_drift(drift: Sequence[Drift], console: Console) -> None:
    """What somebody changed, one line each with the difference below."""
    for one in drift:
        console.print(f"[yellow]![/] [bold]{one.address}[/] {escape(one.target)}  {escape(one.what)}")
        _show_difference(one.before, one.after, console)


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """What was noticed while looking, with what to do."""
    if findings:
        console.print("\n[bold]findings[/]")
    for one in findings:
        color = {Level.ADVISE: "dim", Level.WARN: "yellow", Level.DENY: "red"}[one.level]
        console.print(f"[{color}]{one.level}[/] [bold]{one.subject}[/] {escape(one.summary)}")
        if one.next_step:
            console.print(f"    [dim]{escape(one.next_step)}[/]")


def _sum(plan: Plan) -> str:
    patches = plan.purpose in PATCHING
    if plan.empty and plan.absent and not plan.errored:
        return "[yellow]Nothing to do[/] on the hosts that could be reached."
    if plan.empty and not plan.errored:
        why = "No update is approved that is not there." if patches else "The world is as Git asks."
        return f"[green]Nothing to do.[/] {why}"
    if patches:
        return f"{counted(plan.changes)}{', [red]with errors: cannot be applied[/]' if plan.errored else ''}."
    counts: dict[Action, int] = {}
    for one in plan.changes:
        for step in one.steps:
            counts[step.action] = counts.get(step.action, 0) + 1
    parts = [f"{count} to {action}" for action, count in sorted(counts.items())]
    parts += [f"{len(plan.deferred)} deferred"] if plan.deferred else []
    unsure = sum(step.certainty is Certainty.UNPREDICTABLE for one in plan.changes for step in one.steps)
    parts += [f"{unsure} of them unpredictable"] if unsure else []
    parts += ["[red]with errors: cannot be applied[/]"] if plan.errored else []
    return ", ".join(parts) + "."


def show_report(report: Report, console: Console, *, rest: Path | None = None, again: str = "ismgr plan") -> None:
    """What an apply did: what did not land, checks that did not pass, one line that sums it up. ``again`` is the
    command that tells what is left."""
    for one in report.outcomes:
        if one.fate is not Fate.LANDED:
            console.print(f"[red]{one.fate}[/] [bold]{escape(one.key)}[/] {escape(one.summary)}")
            for line in one.detail.splitlines():
                console.print(f"    {escape(line)}", style="dim")
    if report.stopped and not any(one.summary and one.summary in report.stopped for one in report.outcomes):
        console.print(f"[red]stopped[/] {escape(report.stopped)}")
    show_failures(failed_checks(report.checks), console)
    changed = sum(one.changed for one in report.outcomes)
    passed = sum(one.verdict is Verdict.PASSED for one in report.checks)
    checks = f", {passed} of {len(report.checks)} checks passed" if report.checks else ""
    landed = len(report.of(Fate.LANDED))
    if not report.outcomes and report.ok and (report.queued or not report.rounds):
        console.print(f"Nothing was to be done{' on hosts that answer' if report.queued else ''}.")
        _show_queued(report.queued, console)
        return
    word = "[green]Applied[/]" if report.ok else "[red]Cancelled[/]" if report.cancelled else "[red]Stopped[/]"
    rounds, things = f"round{'s' * (report.rounds != 1)}", f"thing{'s' * (changed != 1)}"
    console.print(
        f"{word}: {landed} of {len(report.outcomes)} changes landed in {report.rounds} {rounds}, "
        f"{changed} {things} changed{checks}, {report.seconds:.1f} s."
    )
    _show_queued(report.queued, console)
    for waiting in report.waiting:
        console.print(f"  [dim]not begun: {waiting.address} {escape(waiting.why)}[/]")
    _show_besides(report, console)
    if rest is not None:
        console.print(f"  What landed stays. What is left to do is planned in {rest}.", markup=False)
    elif not report.ok:
        console.print(f"  What landed stays. `{again}` shows what is left to do.", markup=False)
    if report.run:
        console.print(f"  [dim]run {report.run}[/]")


def _show_queued(queued: Sequence[Queued], console: Console) -> None:
    """Who was away, those together that wait equally long."""
    until: dict[str, list[str]] = {}
    for one in queued:
        until.setdefault(f"{one.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC", []).append(one.host)
    for when, hosts in sorted(until.items()):
        who = "1 host was away and waits" if len(hosts) == 1 else f"{len(hosts)} hosts were away and wait"
        console.print(f"{who} in the queue until {when}: {', '.join(hosts)}.", markup=False)


def _show_besides(report: Report, console: Console) -> None:
    """What may still run on hosts, and what went wrong beside the run."""
    for line in (line for one in report.outcomes for line in one.leftovers):
        console.print(f"  [red]still running[/] {escape(line)}")
    for line in report.warnings:
        console.print(f"  [yellow]warning[/] {escape(line)}")


def show_checks(checks: Sequence[CheckResult], console: Console) -> None:
    """Checks by host: how many passed, and each that did not with its words."""
    for host, mine in groupby(sorted(checks, key=lambda one: one.host), key=lambda one: one.host):
        here = list(mine)
        passed = sum(one.verdict is Verdict.PASSED for one in here)
        skipped = sum(one.verdict is Verdict.SKIPPED for one in here)
        bad = len(here) - passed - skipped
        color = "red" if bad else "green"
        console.print(
            f"[{color}]{'failed' if bad else 'passed'}[/] [bold]{escape(host):<16}[/] {passed} of {len(here)} checks"
            f"{f', {skipped} skipped' if skipped else ''} [dim]{sum(one.seconds for one in here):.1f} s[/]"
        )
        show_failures(here, console)


def show_failures(checks: Sequence[CheckResult], console: Console) -> None:
    """Each check that did not pass, with where it is written and what it said."""
    for one in checks:
        if one.verdict is Verdict.PASSED:
            continue
        color = "yellow" if one.verdict is Verdict.SKIPPED else "red"
        console.print(
            f"  [{color}]{one.verdict}[/] {escape(one.host)}  {escape(one.check)}  [dim]{escape(one.suite)}[/]"
        )
        for line in islice(one.message.strip().splitlines(), MESSAGE_LINES):
            console.print(f"      {escape(line[:MESSAGE_WIDTH])}", style="dim")
