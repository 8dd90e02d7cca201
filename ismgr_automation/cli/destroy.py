"""`ismgr destroy`: delete stacks, what depends on them first."""

from __future__ import annotations

import typer

from ismgr_automation.cli.apply import confirm, finish, held, waiting
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Excludes, PlanOut, Ref, Targets, Wait, Worktree, Yes
from ismgr_automation.cli.plan import opened, save
from ismgr_automation.core.errors import ExitCode

EPILOG = """Examples:

  ismgr destroy                      everything, the last in need first

  ismgr destroy -t stack/names       one stack and what depends on it

  ismgr destroy --out gone.json      only plan it; `ismgr apply gone.json` does it
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("destroy", epilog=EPILOG)(destroy)


def destroy(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Targets = None,
    exclude: Excludes = None,
    out: PlanOut = None,
    yes: Yes = False,
    wait: Wait = None,
) -> int:
    """Delete the resources of stacks, in reverse order of their needs."""
    from ismgr_automation.cli.plan import body, exit_code
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.cli.view import show_plan

    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        if out is not None:
            plan = estate.plan_destroy(target or (), exclude or ())
            face.result(body(plan), lambda console: show_plan(plan, console))
            save(plan, out)
            return int(exit_code(plan))
        with held(face, estate, "destroy", waiting(wait)) as lease:
            doomed = lease.plan_destroy(target or (), exclude or ())
            face.result(body(doomed), lambda console: show_plan(doomed, console))
            if doomed.empty:
                return int(ExitCode.DONE)
            confirm(face, "Delete all of this?", yes=yes)
            with progress(face):
                report = lease.apply(doomed)
    return finish(face, report, None)
