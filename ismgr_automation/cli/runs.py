"""`ismgr runs`: what was begun here, and what became of it. Reads the ledger; touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref
from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.core.json import Json, JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.ports.runs import Round, Run, StepRecord
    from ismgr_automation.wiring_records import Records

EPILOG = """Examples:

  ismgr runs                                             the newest first

  ismgr runs show 20261122T081500-3f9a                   what it did, round by round

  ismgr runs show 20261122T081500-3f9a --rest rest.json  the plan of what it left to do

  ismgr runs show 20261122T081500-3f9a --plan plan.json  its own plan, to approve it anew

  ismgr resume 20261122T081500-3f9a                      go on with one that is unfinished
"""

Working = Mapping[str, int]
"""Tokens of leases that are held now, by environment."""

TITLES = ("run", "state", "environment", "started (UTC)", "by", "changes", "plan")

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run, as `ismgr runs` lists it.")]


def register(app: typer.Typer) -> None:
    """Add `ismgr runs`."""
    topic = typer.Typer(
        help="What was begun here, and what became of it.",
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.callback(epilog=EPILOG)(runs)
    topic.command("show", epilog=EPILOG)(show)
    app.add_typer(topic, name="runs")


def runs(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="So many at most.")] = 20,
) -> int:
    """List the newest runs: when, by whom, what landed. Those that nobody ended say how to go on."""
    from ismgr_automation.cli.kept import kept

    if ctx.invoked_subcommand is not None:
        return 0
    face: Face = ctx.obj
    with kept(face, ref) as records:
        found = records.runs.runs(face.environment, limit)
        now = _working(records, found)
    face.result(
        {"type": "runs", "runs": [_summary(one, now) for one in found]}, lambda console: _list(found, now, console)
    )
    return 0


def show(
    ctx: typer.Context,
    run: RunName,
    ref: Ref = "HEAD",
    rest: Annotated[
        Path | None,
        typer.Option("--rest", metavar="FILE", help="Write the plan of what was left to this file.", dir_okay=False),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Write the plan that it carries out to this file.", dir_okay=False),
    ] = None,
) -> int:
    """Show one run: its changes by round, what became of each, and what was left."""
    from ismgr_automation.cli.kept import kept

    face: Face = ctx.obj
    with kept(face, ref) as records:
        known = records.runs.run(run)
        rounds, steps = records.journal.rounds(run), records.journal.steps(run)
        nonces, now = records.runs.nonces(run), _working(records, [known])
    if rest is not None:
        _write(_left(known), rest, "--rest")
    if plan is not None:
        _write(known.plan, plan, "--plan")
    body: JsonObject = {
        "type": "run",
        **_summary(known, now),
        "finished_at": known.finished_at.isoformat() if known.finished_at is not None else None,
        "purpose": known.purpose,
        "commit": known.commit,
        "token": known.token,
        "approvals": len(nonces),
        "rounds": [{"number": one.number, "waves": [list(wave) for wave in one.waves]} for one in rounds],
        "steps": [_step(one) for one in steps],
        "report": known.report,
        "rest": bool(known.rest),
    }
    face.result(body, lambda console: _one(known, rounds, steps, now, console))
    return 0


def _working(records: Records, runs: Sequence[Run]) -> Working:
    """The tokens of whoever holds the lease of each environment now."""
    held = {
        name: records.leases.look(f"{records.estate.document.name}/{name}") for name in {r.environment for r in runs}
    }
    return {name: lease.token for name, lease in held.items() if lease is not None and not lease.expired}


def _unfinished(run: Run, now: Working) -> bool:
    from ismgr_automation.ports.runs import RunState

    return run.state is RunState.RUNNING and run.token != now.get(run.environment)


def _left(run: Run) -> str:
    if not run.rest:
        raise InputError(f"Run {run.id} left no plan.", next_step="`ismgr plan` shows what is left to do.")
    return run.rest


def _write(plan: str, file: Path, option: str) -> None:
    try:
        file.write_text(plan, encoding="utf-8")
    except OSError as problem:
        raise EngineFailed(
            f"The plan cannot be written to {file}: {problem.strerror}.",
            engine="this machine",
            next_step=f"Name another file with {option}.",
        ) from problem


def _summary(run: Run, now: Working) -> JsonObject:
    return {
        "run": run.id,
        "state": str(run.state),
        "unfinished": _unfinished(run, now),
        "environment": run.environment,
        "digest": run.digest,
        "started_at": run.started_at.isoformat(),
        "by": f"{run.holder.user}@{run.holder.host}",
        "fates": dict(sorted(_fates(run).items())),
    }


def _step(step: StepRecord) -> JsonObject:
    return {
        "round": step.unit.round,
        "key": step.unit.key,
        "attempt": step.unit.attempt,
        "executor": step.executor,
        "token": step.token,
        "started_at": step.started_at.isoformat(),
        "finished_at": step.finished_at.isoformat() if step.finished_at is not None else None,
        "fate": _text(step.outcome, "fate"),
    }


def _fates(run: Run) -> Mapping[str, int]:
    """How many changes landed, failed, ..., as the report counts them."""
    counts: dict[str, int] = {}
    for one in _outcomes(run):
        fate = _text(one, "fate")
        counts[fate] = counts.get(fate, 0) + 1
    return counts


def _outcomes(run: Run) -> Sequence[JsonObject]:
    found = run.report.get("outcomes") if run.report is not None else None
    if not isinstance(found, Sequence) or isinstance(found, str):
        return ()
    return [one for one in found if isinstance(one, Mapping)]


def _text(body: JsonObject | None, key: str) -> str:
    found: Json = body.get(key) if body is not None else None
    return str(found) if found is not None else ""


def _list(found: Sequence[Run], now: Working, console: Console) -> None:
    from rich.markup import escape

    if not found:
        console.print("No runs yet: nothing was applied here.")
        return
    rows = [_row(run, now) for run in found]
    # not a table of the library: it would fold words where no terminal says how wide it is
    widths = [max(map(len, column)) for column in zip(TITLES, *rows, strict=True)]
    console.print(_line(TITLES, widths), style="bold")
    for row in rows:
        line, state, at = _line(row, widths), row[1], widths[0] + 2
        color = {"done": "green", "running": "yellow"}.get(state, "red")
        console.print(f"{escape(line[:at])}[{color}]{state}[/]{escape(line[at + len(state) :])}")
    for run in found:
        if _unfinished(run, now):
            console.print(f"{run.id} is unfinished: `ismgr resume {run.id}`", markup=False)


def _row(run: Run, now: Working) -> tuple[str, ...]:
    return (
        run.id,
        "unfinished" if _unfinished(run, now) else str(run.state),
        run.environment,
        f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        f"{run.holder.user}@{run.holder.host}",
        ", ".join(f"{count} {fate}" for fate, count in sorted(_fates(run).items())) or "-",
        run.digest.removeprefix("sha256:")[:12],
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _one(run: Run, rounds: Sequence[Round], steps: Sequence[StepRecord], now: Working, console: Console) -> None:
    from rich.markup import escape

    ended = f", ended {run.finished_at:%H:%M:%S}" if run.finished_at is not None else ""
    console.print(f"[bold]{escape(run.id)}[/] {run.state}: {escape(run.purpose)} in {escape(run.environment)}")
    console.print(f"  began {run.started_at:%Y-%m-%d %H:%M:%S} UTC{ended}, by {escape(str(run.holder))}")
    console.print(f"  commit {run.commit[:12]}, token {run.token}\n  [dim]plan {run.digest}[/]")
    told = {_text(one, "key"): one for one in _outcomes(run)}
    began = {(one.unit.round, one.unit.key): one for one in steps}
    for one in rounds:
        console.print(f"\n[bold]round {one.number}[/]")
        for key in (key for wave in one.waves for key in wave):
            step = began.get((one.number, key))
            outcome = told.get(key) or (step.outcome if step is not None else None)
            fate = _text(outcome, "fate") or ("begun, not ended" if step is not None else "not begun")
            color = "green" if fate == "landed" else "yellow" if outcome is None else "red"
            console.print(f"  [{color}]{fate:<16}[/] {escape(key)}  {escape(_text(outcome, 'summary'))}")
    stopped = _text(run.report, "stopped")
    if stopped:
        console.print(f"\n[red]stopped[/] {escape(stopped)}")
    if run.rest:
        console.print(f"\nIt left a plan: `ismgr runs show {run.id} --rest FILE` writes it.", markup=False)
    if _unfinished(run, now):
        console.print(f"\nIt is unfinished: `ismgr resume {run.id}`", markup=False)
