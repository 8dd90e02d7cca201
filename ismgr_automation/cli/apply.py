"""`ismgr apply`: plan, ask, apply, verify - or exactly what a plan file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Excludes, Ref, Targets, Worktree, Yes
from ismgr_automation.cli.plan import exit_code, opened, planned
from ismgr_automation.core.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.report import Report
    from ismgr_automation.planning.plan import Plan

EPILOG = """Examples:

  ismgr apply                  plan HEAD, show it, ask, apply, verify

  ismgr apply --yes            the same without asking

  ismgr apply plan.json        exactly this plan, or a refusal that names what moved

Exit codes: 0 done or nothing to do, 3 refused before any effect, 4 an engine failed before any effect,
5 stopped with part of it applied.
"""

PlanFile = Annotated[
    Path | None, typer.Argument(metavar="PLAN", help="A file from `ismgr plan --out`.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("apply", epilog=EPILOG)(apply)


def apply(
    ctx: typer.Context,
    plan_file: PlanFile = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Targets = None,
    exclude: Excludes = None,
    yes: Yes = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the checks as JUnit XML.")
    ] = None,
) -> int:
    """Make the world as Git asks: stacks and hosts, wave by wave, verified."""
    face: Face = ctx.obj
    if plan_file is not None:
        if worktree or target or exclude or ref != "HEAD":
            raise SettingsError(
                "A plan file says itself what is read and what is covered.",
                next_step="Leave out --ref, --worktree, --target and --exclude, or make a new plan with them.",
            )
        report = _from_file(face, plan_file, yes=yes)
    else:
        with opened(face, ref, worktree=worktree) as estate:
            report = _from_now(face, estate, planned(face, estate, target, exclude), yes=yes)
    if report is None:
        return int(ExitCode.DONE)
    return finish(face, report, junit)


def _from_now(face: Face, estate: Estate, plan: Plan, *, yes: bool) -> Report | None:
    from ismgr_automation.cli.plan import body
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.cli.view import show_plan

    face.result(body(plan), lambda console: show_plan(plan, console))
    if plan.empty and not plan.errored:
        return None
    if exit_code(plan) is ExitCode.CHANGES:
        confirm(face, "Apply this plan?", yes=yes)
    with progress(face):
        return estate.apply_now(plan)


def _from_file(face: Face, path: Path, *, yes: bool) -> Report | None:
    from ismgr_automation.api import read_plan
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.cli.view import show_plan

    plan = read_plan(path)
    if face.environment not in (None, plan.environment):
        raise SettingsError(
            f"The plan is for environment {plan.environment}, not {face.environment}.",
            next_step=f"Leave out -e, or plan again with -e {face.environment}.",
        )
    face.environment = plan.environment
    if not face.json:
        show_plan(plan, face.console)
    if plan.applicable:
        confirm(face, "Apply this plan?", yes=yes)
    with opened(face, plan.beside.commit, worktree=plan.beside.worktree) as estate, progress(face):
        return estate.apply(plan)


def confirm(face: Face, question: str, *, yes: bool) -> None:
    """Ask a person; a pipeline has nobody to ask and must say --yes."""
    if yes:
        return
    if face.json or not face.console.is_terminal:
        raise SettingsError("There is nobody to ask here.", next_step="Say --yes to go on without asking.")
    face.asking = True
    try:
        typer.confirm(question, abort=True, err=True)
    finally:
        face.asking = False


def finish(face: Face, report: Report, junit: Path | None) -> int:
    """Print a report and give its exit code."""
    from ismgr_automation.cli.verify import write_junit
    from ismgr_automation.cli.view import show_report
    from ismgr_automation.converge.report import report_json

    if junit is not None:
        write_junit(report.checks, junit)
    face.result(report_json(report), lambda console: show_report(report, console))
    return int(report.exit_code)
