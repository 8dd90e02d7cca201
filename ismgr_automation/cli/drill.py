"""`ismgr drill`: rehearse the loss of a site on the live service, measured as a client sees it, and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli import drill_due, drill_paper, drill_runs, drill_table
from ismgr_automation.cli.apply import finish, from_now, held, planner, waiting
from ismgr_automation.cli.drill_report import add as add_reports
from ismgr_automation.cli.drill_report import code_of
from ismgr_automation.cli.drill_sign import add as add_sign_off
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Full, PlanOut, Ref, Urgent, Wait, Worktree, Yes
from ismgr_automation.cli.plan import looked_up, needed, opened, save, told
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.report import Report

EPILOG = """Examples:

  ismgr drill plan records --mode failover          which steps, in which order, how long clients may wait

  ismgr drill run records --mode switchover         a planned move to the other site and back

  ismgr drill run records --mode failover           the site is declared lost: fence, promote, switch, and back

  ismgr drill run records --mode failover --fault cut    break something first, and see who notices

  ismgr drill report 20261127T081500-3f9a           what was measured: outage, lost writes, each step

  ismgr drill return records                        home again after a drill that was broken off

  ismgr drill run records --mode restore            the newest backup is restored beside the service, and asked

  ismgr drill due --run                             what the calendar asks for now, for cron and systemd timers
"""

FAULTS = """Examples:

  ismgr drill faults                                what faults of any run have left on the hosts of the estate

  ismgr drill faults records --lift                 take it away, by what hosts and journals know

What keeps an old primary down stays while the other site may have taken the role: then it says what to do first. Exit
codes: 0 nothing is left, 2 something is.
"""

RUNNING = """Examples:

  ismgr drill run records --mode switchover         plan it, show it, ask, move there and back

  ismgr drill run records --mode failover --yes     for a scheduler

Exit codes: 0 passed, 3 refused before any effect, 4 an engine failed before any effect, 5 stopped with part of it done,
6 an objective was missed, the drill proves nothing, or clients waited longer than in the drills before, by a quarter
and by more than chance explains, 130 stopped on request. One that was killed goes on with `ismgr resume RUN`.
"""

Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The name of a RecoveryPlan.")]
SomePlan = Annotated[str, typer.Argument(metavar="[PLAN]", help="Drills of this one alone.", show_default=False)]
Mode = Annotated[DrillMode, typer.Option("--mode", help="What is rehearsed.")]
Broken = Annotated[
    str, typer.Option("--fault", metavar="NAME", help="Break this first, a fault of the plan.", show_default=False)
]
Lift = Annotated[bool, typer.Option("--lift", help="Take away what is left.")]
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
    topic.command("faults", epilog=FAULTS)(faults)
    add_reports(topic)
    add_sign_off(topic)
    topic.command("history", epilog=EPILOG)(history)
    drill_due.register(topic)
    topic.command("abort", epilog=drill_runs.ABORTING)(drill_runs.abort)
    topic.command("resume", epilog=drill_runs.RESUMING)(drill_runs.resume)
    topic.command("tabletop", epilog=drill_table.EPILOG)(drill_table.tabletop)
    topic.command("runbook", epilog=drill_paper.EPILOG)(drill_paper.runbook)
    app.add_typer(topic, name="drill")


def plan(
    ctx: typer.Context,
    name: Plan,
    mode: Mode = DrillMode.FAILOVER,
    fault: Broken = "",
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
            composed = estate.plan_drill(name, mode, urgent=urgent, fault=fault)
        needs = needed(face, estate, composed)
    if out is not None:
        save(composed, out)
    return told(face, composed, needs, full=full)


def run(
    ctx: typer.Context,
    name: Plan,
    mode: Mode = DrillMode.SWITCHOVER,
    fault: Broken = "",
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    urgent: Urgent = "",
    yes: Yes = False,
    wait: Wait = None,
) -> int:
    """Move the live service to the other site and back under the lease, while a client measures what it sees."""
    return _performed(ctx.obj, name, mode, (ref, worktree), urgent=urgent, fault=fault, yes=yes, wait=wait)


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
    face: Face,
    name: str,
    mode: DrillMode,
    where: tuple[str, bool],
    *,
    urgent: str,
    yes: bool,
    wait: str | None,
    fault: str = "",
) -> int:
    ref, worktree = where
    with opened(face, ref, worktree=worktree) as estate:
        with held(face, estate, f"drill {name}", waiting(wait)) as lease:
            with progress(face):
                composed = lease.plan_drill(name, mode, urgent=urgent, fault=fault)
            done = from_now(face, lease, composed, yes=yes)
        if done is None:
            return int(ExitCode.DONE)
        code = finish(face, done, None, again=planner(composed))
        return measured(face, estate, done, code)


def measured(face: Face, estate: Estate, done: Report, code: int) -> int:
    """What was measured, after what was done; a missed objective is the exit code of a run that went well."""
    from ismgr_automation.cli.drill_views import show_case
    from ismgr_automation.recovery.clauses import Seal
    from ismgr_automation.recovery.result import result_json
    from ismgr_automation.recovery.trend import trend_json

    found = estate.drill(done.run)
    if found is None:
        return code
    case = estate.drill_case(found, Seal())
    body: JsonObject = {**result_json(found), "trend": trend_json(case.trend)}
    face.result(body, lambda console: show_case(case, (), console, brief=True))
    return code or code_of(case)


def faults(ctx: typer.Context, name: SomePlan = "", lift: Lift = False, ref: Ref = "HEAD", wait: Wait = None) -> int:
    """Say what faults of drills have left on hosts, from whatever run, and take it away."""
    from dataclasses import asdict

    from ismgr_automation.cli.drill_views import show_leftovers

    face: Face = ctx.obj
    with opened(face, ref, worktree=False) as estate, progress(face):
        found = estate.drill_faults(name, lift=lift, wait=waiting(wait))
    body: JsonObject = {"type": "faults", "plans": [asdict(one) for one in found]}
    face.result(body, lambda console: show_leftovers(found, console))
    clean = not any(one.left or one.kept for one in found)
    return int(ExitCode.DONE if clean else ExitCode.CHANGES)


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
