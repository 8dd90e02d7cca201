"""`ismgr resume`: go on with a run whose process died."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ismgr_automation.cli.apply import approvals_beside, finish, planner, waiting
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Junit, Wait
from ismgr_automation.cli.plan import looked_up, opened
from ismgr_automation.cli.progress import progress

EPILOG = """Examples:

  ismgr runs                              which runs there are; unfinished ones say so

  ismgr resume 20261122T081500-3f9a       go on with one

  ismgr resume 20261122T081500-3f9a --plan plan.json   with approvals beside its plan

What had landed is not done again. What had begun is looked at first: done, to do, or unknown, which stops the run and
says what to look at. Inputs, lease and approvals must hold as they did; approvals that are over are given anew:
`ismgr runs show RUN --plan FILE` writes the plan, `ismgr approve FILE` signs it.

Exit codes are those of `ismgr apply`.
"""


PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="The run's plan: approvals beside it count as well.", dir_okay=False),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run of `ismgr runs` that is unfinished.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("resume", epilog=EPILOG)(resume)


def resume(ctx: typer.Context, run: RunId, plan_file: PlanFile = None, wait: Wait = None, junit: Junit = None) -> int:
    """Go on with a run whose process died, from what the journal and the world say."""
    from ismgr_automation.planning.planfile import read

    face: Face = ctx.obj
    # where runs are recorded is said at HEAD; what the run does, at its own commit
    with looked_up(face, "HEAD") as estate:
        known = estate.run(run)
    plan = read(known.plan, f"run {run}")
    approvals = approvals_beside(plan_file, known.digest) if plan_file is not None else ()
    face.environment = known.environment
    with opened(face, plan.beside.commit, worktree=plan.beside.worktree) as estate, progress(face):
        report = estate.resume(known.id, wait=waiting(wait), approvals=approvals)
    return finish(face, report, junit, plan_file, again=planner(plan))
