"""`ismgr apply`: plan, ask, apply, verify - or exactly what a plan file says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Excludes, Junit, Ref, Targets, Urgent, Wait, Worktree, Yes
from ismgr_automation.cli.plan import exit_code, opened
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.held import Held
    from ismgr_automation.converge.report import Report
    from ismgr_automation.planning.plan import Plan
    from ismgr_automation.ports.approvals import Approval

EPILOG = """Examples:

  ismgr apply                  plan HEAD, show it, ask, apply, verify

  ismgr apply --yes            the same without asking

  ismgr apply plan.json        exactly this plan, or a refusal that names what moved

  ismgr apply --wait 10m       wait for whoever is applying now

Exit codes: 0 done or nothing to do, 3 refused before any effect, 4 an engine failed before any effect,
5 stopped with part of it applied. A run that was killed goes on with `ismgr resume`.
"""

PlanFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="PLAN", help="A file from `ismgr plan --out` or `ismgr patch plan --out`.", show_default=False
    ),
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
    urgent: Urgent = "",
    yes: Yes = False,
    wait: Wait = None,
    junit: Junit = None,
) -> int:
    """Make the world as Git asks: stacks and hosts, wave by wave, verified."""
    from ismgr_automation.api import read_plan

    face: Face = ctx.obj
    if plan_file is not None:
        if worktree or target or exclude or urgent or ref != "HEAD":
            raise SettingsError(
                "A plan file says itself what is read and what is covered.",
                next_step="Leave out --ref, --worktree, -t, -x and --urgent, or make a new plan with them.",
            )
        plan = read_plan(plan_file)
        report = _from_file(face, plan, plan_file, yes=yes, wait=waiting(wait))
    else:
        with opened(face, ref, worktree=worktree) as estate, held(face, estate, "apply", waiting(wait)) as lease:
            with progress(face):
                plan = lease.plan(target or (), exclude or (), urgent=urgent)
            report = from_now(face, lease, plan, yes=yes)
    if report is None:
        return int(ExitCode.DONE)
    return finish(face, report, junit, plan_file, again=planner(plan))


def from_now(face: Face, lease: Held, plan: Plan, *, yes: bool) -> Report | None:
    """Show a plan that was made under a lease, ask, and apply it. None: there is nothing to do."""
    from ismgr_automation.cli.plan import body
    from ismgr_automation.cli.view import show_plan

    face.result(body(plan), lambda console: show_plan(plan, console))
    if plan.empty and not plan.errored:
        return None
    if exit_code(plan) is ExitCode.CHANGES:
        confirm(face, "Apply this plan?", yes=yes)
    with progress(face):
        return lease.apply(plan)


def _from_file(face: Face, plan: Plan, path: Path, *, yes: bool, wait: timedelta | None) -> Report | None:
    from ismgr_automation.cli.view import show_plan

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
        return estate.apply(plan, wait=wait, approvals=approvals_beside(path, plan.digest))


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


@contextmanager
def held(face: Face, estate: Estate, purpose: str, wait: timedelta | None) -> Iterator[Held]:
    """The environment's lease; waiting for it is shown."""
    with ExitStack() as stack:
        with progress(face):
            lease = stack.enter_context(estate.hold(purpose, wait=wait))
        yield lease


def approvals_beside(path: Path, digest: str) -> tuple[Approval, ...]:
    """Approvals in the folder beside a file with the plan of this digest. Raises ``SettingsError`` for another plan."""
    from ismgr_automation.api import read_approvals, read_plan

    found = read_plan(path).digest
    if found != digest:
        raise SettingsError(
            f"{path} holds another plan, of digest {found}.", next_step=f"Name the file of the plan {digest}."
        )
    return read_approvals(path)


def waiting(text: str | None) -> timedelta | None:
    """How long to wait, as it was given."""
    if text is None:
        return None
    from ismgr_automation.estate.resolve import duration

    try:
        return duration(text)
    except (KeyError, ValueError):
        raise SettingsError(
            f"{text!r} is no time to wait.", next_step="Write a number and s, m or h, such as 30s or 10m."
        ) from None


def planner(plan: Plan) -> str:
    """The command that tells what is left to do of a plan."""
    from ismgr_automation.converge.drill import name_of
    from ismgr_automation.planning.plan import Purpose

    match plan.purpose:
        case Purpose.APPLY | Purpose.DESTROY:
            return "ismgr plan"
        case Purpose.PATCH:
            return "ismgr patch plan"
        case Purpose.ROLLBACK:
            return f"ismgr patch rollback {plan.undoes} --out FILE"
        case Purpose.DRILL:
            return f"ismgr drill plan {name_of(plan)} --mode return"


def finish(
    face: Face, report: Report, junit: Path | None, plan_file: Path | None = None, *, again: str = "ismgr plan"
) -> int:
    """Print a report, write down the plan of what is left, and give the exit code."""
    from ismgr_automation.cli.verify import write_junit
    from ismgr_automation.cli.view import show_report
    from ismgr_automation.converge.report import report_json

    if junit is not None:
        write_junit(report.checks, junit)
    rest = _write_rest(report, face, plan_file)
    body = {**report_json(report), "rest": str(rest) if rest is not None else None}
    face.result(body, lambda console: show_report(report, console, rest=rest, again=again))
    return int(report.exit_code)


def _write_rest(report: Report, face: Face, plan_file: Path | None) -> Path | None:
    """Where the plan of what is left was written; None when there is none."""
    if not report.rest:
        return None
    folder = plan_file.parent if plan_file is not None else face.directory
    path = folder / f"{plan_file.stem if plan_file is not None else 'plan'}.rest-{report.run}.json"
    try:
        path.write_text(report.rest, encoding="utf-8")
    except OSError:
        return None  # the run's record holds it as well: ismgr runs show RUN --rest
    return path
