"""`ismgr plan`: what would change, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Excludes, Full, PlanOut, Ref, Targets, Urgent, Worktree
from ismgr_automation.core.errors import ExitCode, IsmgrError, SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.api import Estate
    from ismgr_automation.planning.plan import Plan

EPILOG = """Examples:

  ismgr plan                               the commit that HEAD points at

  ismgr plan --ref main --out plan.json    for `ismgr apply plan.json`

  ismgr plan -t stack/dc1-servers          a stack and what depends on it

  ismgr --json plan | jq .                 for pipelines

Exit codes: 0 nothing to do, 2 something would change, 4 part of the world could not be looked at.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan", epilog=EPILOG)(plan)


def plan(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Targets = None,
    exclude: Excludes = None,
    urgent: Urgent = "",
    out: PlanOut = None,
    full: Full = False,
) -> int:
    """Show what would change, why, and in which wave. Touches nothing."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        composed = planned(face, estate, target, exclude, urgent=urgent)
        needs = needed(face, estate, composed)
    if out is not None:
        save(composed, out)
    return told(face, composed, needs, full=full)


def told(face: Face, composed: Plan, needs: tuple[str, ...], *, full: bool) -> int:
    """Print a plan and which approvals it needs, and give the exit code."""
    from ismgr_automation.cli.view import show_plan

    def show(console: Console) -> None:
        show_plan(composed, console, everything=full)
        for line in needs:
            console.print(f"  {line}", markup=False)

    face.result(body(composed), show)
    return int(exit_code(composed))


def needed(face: Face, estate: Estate, composed: Plan) -> tuple[str, ...]:
    """Which approvals are missing, for people. Whoever plans may be on a machine that cannot tell; `ismgr apply` will
    refuse there, and it is no reason not to show a plan."""
    if face.json or not composed.applicable:
        return ()
    try:
        missing = estate.approvals(composed).missing
    except IsmgrError as problem:
        missing = (problem.summary, problem.next_step)
    return tuple(f"needs approval: {one}" if at == 0 else one for at, one in enumerate(missing) if one)


def opened(face: Face, ref: str, *, worktree: bool) -> Estate:
    """The estate of this invocation; Ctrl-C reaches it."""
    from ismgr_automation.api import Estate
    from ismgr_automation.cli.progress import progress

    with progress(face):
        estate = Estate.open(
            face.directory, ref=ref, worktree=worktree, environment=face.environment, emit=face.emit, wiring=face.wiring
        )
    estate.cancelled = face.cancelled
    return estate


def looked_up(face: Face, ref: str) -> Estate:
    """The estate, for a command that only looks something up: its answer is all that a person is told."""
    from ismgr_automation.api import Estate

    estate = Estate.open(face.directory, ref=ref, environment=face.environment, emit=face.emit, wiring=face.wiring)
    estate.cancelled = face.cancelled
    return estate


def planned(
    face: Face, estate: Estate, target: list[str] | None, exclude: list[str] | None, *, urgent: str = ""
) -> Plan:
    """Plan with progress."""
    from ismgr_automation.cli.progress import progress

    with progress(face):
        return estate.plan(target or (), exclude or (), urgent=urgent)


def save(composed: Plan, path: Path) -> None:
    """Write a plan file."""
    from ismgr_automation.planning.planfile import write

    try:
        path.write_text(write(composed), encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"The plan file {path} cannot be written: {error.strerror}.", next_step="Name another file with --out."
        ) from None


def body(composed: Plan) -> JsonObject:
    """A plan as a result."""
    from ismgr_automation.planning.planfile import encode

    return {"type": "plan", "exit_code": int(exit_code(composed)), "plan": encode(composed)}


def exit_code(composed: Plan) -> ExitCode:
    """What a pipeline reads."""
    if composed.refused:
        return ExitCode.REFUSED
    if composed.errored:
        return ExitCode.ENGINE
    return ExitCode.DONE if composed.empty else ExitCode.CHANGES
