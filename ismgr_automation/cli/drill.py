"""`ismgr drill`: rehearse the loss of a site on the live service, measured as a client sees it, and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.apply import finish, from_now, held, planner, waiting
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Full, PlanOut, Ref, Urgent, Wait, Worktree, Yes
from ismgr_automation.cli.plan import looked_up, needed, opened, save, told
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import ExitCode, SettingsError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.report import Report
    from ismgr_automation.recovery.result import DrillResult

EPILOG = """Examples:

  ismgr drill plan records --mode failover          which steps, in which order, how long clients may wait

  ismgr drill run records --mode switchover         a planned move to the other site and back

  ismgr drill run records --mode failover           the site is declared lost: fence, promote, switch, and back

  ismgr drill report 20261127T081500-3f9a           what was measured: outage, lost writes, each step

  ismgr drill return records                        home again after a drill that was broken off

  ismgr drill run records --mode restore            the newest backup is restored beside the service, and asked
"""

RUNNING = """Examples:

  ismgr drill run records --mode switchover         plan it, show it, ask, move there and back

  ismgr drill run records --mode failover --yes     for a scheduler

Exit codes: 0 passed, 3 refused before any effect, 4 an engine failed before any effect, 5 stopped with part of it done,
6 an objective was missed, or the drill proves nothing. One that was killed goes on with `ismgr resume RUN`.
"""

Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The name of a RecoveryPlan.")]
SomePlan = Annotated[str, typer.Argument(metavar="[PLAN]", help="Drills of this one alone.", show_default=False)]
RunName = Annotated[str, typer.Argument(metavar="[RUN]", help="A drill's run; else the last.", show_default=False)]
Mode = Annotated[DrillMode, typer.Option("--mode", help="What is rehearsed.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")]


def register(app: typer.Typer) -> None:
    """Add `ismgr drill`."""
    topic = typer.Typer(
        help="Rehearse the loss of a site, measured, and come back.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.command("plan", epilog=EPILOG)(plan)
    topic.command("run", epilog=RUNNING)(run)
    topic.command("return", epilog=RUNNING)(return_)
    topic.command("report", epilog=EPILOG)(report)
    topic.command("history", epilog=EPILOG)(history)
    app.add_typer(topic, name="drill")


def plan(
    ctx: typer.Context,
    name: Plan,
    mode: Mode = DrillMode.FAILOVER,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    urgent: Urgent = "",
    out: PlanOut = None,
    full: Full = False,
) -> int:
    """Show what a drill would do, step by step, and what stands against it. The cluster is looked at, nothing is
    changed."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        with progress(face):
            composed = estate.plan_drill(name, mode, urgent=urgent)
        needs = needed(face, estate, composed)
    if out is not None:
        save(composed, out)
    return told(face, composed, needs, full=full)


def run(
    ctx: typer.Context,
    name: Plan,
    mode: Mode = DrillMode.SWITCHOVER,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    urgent: Urgent = "",
    yes: Yes = False,
    wait: Wait = None,
) -> int:
    """Move the live service to the other site and back under the lease, while a client measures what it sees."""
    return _performed(ctx.obj, name, mode, (ref, worktree), urgent=urgent, yes=yes, wait=wait)


def return_(
    ctx: typer.Context,
    name: Plan,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    urgent: Urgent = "",
    yes: Yes = False,
    wait: Wait = None,
) -> int:
    """Bring a service home after a drill or a recovery that was broken off: redundancy first, then the move."""
    return _performed(ctx.obj, name, DrillMode.RETURN, (ref, worktree), urgent=urgent, yes=yes, wait=wait)


def _performed(
    face: Face, name: str, mode: DrillMode, where: tuple[str, bool], *, urgent: str, yes: bool, wait: str | None
) -> int:
    ref, worktree = where
    with opened(face, ref, worktree=worktree) as estate:
        with held(face, estate, f"drill {name}", waiting(wait)) as lease:
            with progress(face):
                composed = lease.plan_drill(name, mode, urgent=urgent)
            done = from_now(face, lease, composed, yes=yes)
        if done is None:
            return int(ExitCode.DONE)
        code = finish(face, done, None, again=planner(composed))
        return _told(face, estate, done, code)


def _told(face: Face, estate: Estate, done: Report, code: int) -> int:
    """What was measured, after what was done; a missed objective is the exit code of a run that went well."""
    from ismgr_automation.cli.drill_views import show_result
    from ismgr_automation.recovery.result import Verdict, result_json

    found = estate.drill(done.run)
    if found is None:
        return code
    face.result(result_json(found), lambda console: show_result(found, console))
    return code or int(ExitCode.DONE if found.verdict is Verdict.PASSED else ExitCode.OBJECTIVE_MISSED)


def report(ctx: typer.Context, run_name: RunName = "", ref: Ref = "HEAD") -> int:
    """Show what a drill measured: the client's outage with its waterfall, lost writes, steps, verdicts."""
    from ismgr_automation.cli.drill_views import show_result
    from ismgr_automation.recovery.result import result_json

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        found = _chosen(estate, run_name)
    face.result(result_json(found), lambda console: show_result(found, console))
    return int(ExitCode.DONE)


def history(ctx: typer.Context, name: SomePlan = "", limit: Limit = 20, ref: Ref = "HEAD") -> int:
    """List drills, newest first, with what each measured."""
    from ismgr_automation.cli.drill_views import show_history
    from ismgr_automation.recovery.result import result_json

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        found = estate.drills(name, limit)
    body: JsonObject = {"type": "drills", "drills": [result_json(one) for one in found]}
    face.result(body, lambda console: show_history(found, console))
    return int(ExitCode.DONE)


def _chosen(estate: Estate, run_name: str) -> DrillResult:
    found = estate.drill(run_name) if run_name else next(iter(estate.drills(limit=1)), None)
    if found is None:
        raise SettingsError(
            f"There is no drill {run_name}." if run_name else "There was no drill yet.",
            next_step="`ismgr drill history` lists them.",
        )
    return found
