"""`ismgr drift`: what somebody changed since it was applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Excludes, Ref, Targets, Worktree
from ismgr_automation.cli.plan import opened, planned
from ismgr_automation.core.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.planning.plan import Plan

EPILOG = """Examples:

  ismgr drift                       stacks and hosts

  ismgr drift -t group/databases    one host group and what depends on it

Exit codes: 0 no drift, 2 drift found, 4 part of the world could not be looked at.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("drift", epilog=EPILOG)(drift)


def drift(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Targets = None,
    exclude: Excludes = None,
) -> int:
    """Show how the world differs from what was applied, over stacks and hosts. Touches nothing."""
    from ismgr_automation.planning.plan import drift_json, finding_json

    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        plan = planned(face, estate, target, exclude)
    code = ExitCode.ENGINE if plan.errored else ExitCode.CHANGES if plan.drift else ExitCode.DONE
    face.result(
        {
            "type": "drift",
            "exit_code": int(code),
            "drift": [drift_json(one) for one in plan.drift],
            "pending_changes": len(plan.changes) + len(plan.deferred),
            "findings": [finding_json(one) for one in plan.findings],
        },
        lambda console: _show(plan, console),
    )
    return int(code)


def _show(plan: Plan, console: Console) -> None:
    from ismgr_automation.cli.view import show_drift, show_findings

    show_drift(plan.drift, console)
    show_findings(plan.findings, console)
    found = f"{len(plan.drift)} drifted." if plan.drift else "[green]No drift.[/]"
    pending = len(plan.changes) + len(plan.deferred)
    console.print(f"{found}{f' Changes pending: {pending}, see `ismgr plan`.' if pending else ''}")
