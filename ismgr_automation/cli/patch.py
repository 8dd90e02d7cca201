"""`ismgr patch`: bring hosts to approved versions of packages and firmware, and back. What only looks is next door, in
``patch_looks``, and what is shared with other machines in ``patch_ledger``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli import patch_ledger
from ismgr_automation.cli import patch_looks as looks
from ismgr_automation.cli.apply import finish, from_now, held, planner, waiting
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Full, Hosts, Junit, NotHosts, PlanOut, Ref, Urgent, Wait, Worktree, Yes
from ismgr_automation.cli.plan import needed, opened, save, told
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.address import Kind
from ismgr_automation.core.errors import ExitCode, OutsideWindow
from ismgr_automation.core.json import JsonObject
from ismgr_automation.planning.change import Level

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.report import Report
    from ismgr_automation.planning.plan import Plan

EPILOG = """Examples:

  ismgr patch status                             what is due where, and by when

  ismgr patch plan --out patches.json            which versions would go where; `ismgr apply patches.json` does it

  ismgr patch apply -t baseline/web-servers      plan, ask, patch wave by wave

  ismgr patch rollback 20261122T081500-3f9a      back to the versions of before

  ismgr patch catch-up --yes                     for a timer: hosts that were away, once they answer
"""

PLANNING = """Examples:

  ismgr patch plan                              what is approved, for all hosts with a baseline

  ismgr patch plan -t host/db1.dc1 --full       one host, every line

  ismgr patch plan --out patches.json           for `ismgr approve` and `ismgr apply patches.json`

Exit codes: 0 nothing to do, 2 something would change, 3 a rule is against it, 4 part of the world could not be looked
at.
"""

APPLYING = """Examples:

  ismgr patch apply                             plan, show it, ask, patch ring by ring, verify

  ismgr patch apply -t group/webs --yes         one group, without asking

  ismgr patch apply --urgent "CVE-2026-1234"    now, whatever windows and freezes say; needs an approval rule for it

Exit codes: 0 done or nothing to do, 3 refused before any effect (closed windows and missing approvals too), 4 an engine
failed before any effect, 5 stopped with part of it applied. A run that was killed goes on with `ismgr resume`.
"""

BACK = """Examples:

  ismgr patch rollback 20261122T081500-3f9a                        all that the run installed

  ismgr patch rollback 20261122T081500-3f9a -t host/db1.dc1        on one host

  ismgr patch rollback 20261122T081500-3f9a --out back.json        only plan it; `ismgr apply back.json` does it

Exit codes: as `ismgr patch apply`; with --out as `ismgr patch plan`.
"""

CATCHING_UP = """Examples:

  ismgr patch catch-up --yes                       from a timer, every ten minutes

  ismgr patch catch-up --yes --out missed.json     where approvals are asked: the plan to be approved

Exit codes: 0 also when nobody waits, nobody answers, or no window is open; all others as `ismgr patch apply`.
"""

RULES = frozenset({Kind.WINDOW, Kind.FREEZE})
"""What says when hosts may be patched."""

RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run to undo, as `ismgr patch history` lists it.")]


def register(app: typer.Typer) -> None:
    """Add `ismgr patch`."""
    topic = typer.Typer(
        help="Bring hosts to approved versions of packages and firmware, prove it, and go back.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.command("status", epilog=looks.STATUS)(looks.status)
    topic.command("facts", epilog=looks.FACTS)(looks.facts)
    topic.command("plan", epilog=PLANNING)(plan)
    topic.command("apply", epilog=APPLYING)(apply)
    topic.command("rollback", epilog=BACK)(rollback)
    topic.command("history", epilog=looks.HISTORY)(looks.history)
    topic.command("queue", epilog=looks.QUEUE)(looks.queue)
    topic.command("catch-up", epilog=CATCHING_UP)(catch_up)
    topic.command("vex", epilog=looks.VEX)(looks.vex)
    patch_ledger.register(topic)
    app.add_typer(topic, name="patch")


def plan(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Hosts = None,
    exclude: NotHosts = None,
    urgent: Urgent = "",
    out: PlanOut = None,
    full: Full = False,
) -> int:
    """Show which packages and firmware would go to which exact versions, why, and in which wave.

    Hosts are read and asked what they would do; nothing is changed there.
    """
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        with progress(face):
            composed = estate.plan_patch(target or (), exclude or (), urgent=urgent)
        needs = needed(face, estate, composed)
    if out is not None:
        save(composed, out)
    return told(face, composed, needs, full=full)


def apply(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Hosts = None,
    exclude: NotHosts = None,
    urgent: Urgent = "",
    yes: Yes = False,
    wait: Wait = None,
    junit: Junit = None,
) -> int:
    """Plan patches under the lease, show them, ask, and apply them wave by wave, verified.

    A plan from a file is applied by `ismgr apply FILE`.
    """
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate, held(face, estate, "patch", waiting(wait)) as lease:
        with progress(face):
            composed = lease.plan_patch(target or (), exclude or (), urgent=urgent)
        report = from_now(face, lease, composed, yes=yes)
        if report is None and composed.absent:
            # nothing else is done, and those that were away have missed their turn all the same
            report = lease.apply(composed)
    return _finished(face, composed, report, junit)


def rollback(
    ctx: typer.Context,
    run: RunName,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Hosts = None,
    exclude: NotHosts = None,
    urgent: Urgent = "",
    out: PlanOut = None,
    yes: Yes = False,
    wait: Wait = None,
    junit: Junit = None,
) -> int:
    """Bring back the exact versions that were there before a run, from kept files or a repository."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        if out is not None:
            with progress(face):
                back = estate.plan_rollback(run, target or (), exclude or (), urgent=urgent)
            save(back, out)
            return told(face, back, needed(face, estate, back), full=False)
        with held(face, estate, f"roll back {run}", waiting(wait)) as lease:
            with progress(face):
                back = lease.plan_rollback(run, target or (), exclude or (), urgent=urgent)
            report = from_now(face, lease, back, yes=yes)
    return _finished(face, back, report, junit)


def catch_up(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    out: PlanOut = None,
    yes: Yes = False,
    wait: Wait = None,
    junit: Junit = None,
) -> int:
    """Patch the hosts that were away when it was their turn, as far as they answer now and a window is open."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        due = _due(estate)
        if not due:
            return _nothing(face, due, "Nobody waits to be patched.")
        with held(face, estate, "catch up", waiting(wait)) as lease:
            with progress(face):
                composed = lease.plan_patch([f"host/{name}" for name in due])
            estate.leave_queue(_done(due, composed))
            if out is not None and not composed.empty:
                save(composed, out)
            why = _why_not_now(due, composed)
            if why:
                return _nothing(face, due, why)
            try:
                report = from_now(face, lease, composed, yes=yes)
            except OutsideWindow as closed:
                return _nothing(face, due, closed.summary)
    return _finished(face, composed, report, junit)


def _due(estate: Estate) -> list[str]:
    """Who waits and may still be caught up; hosts that are in the estate no more just expire."""
    now = datetime.now(UTC)
    names = [one.host for one in estate.waiting() if one.expires_at > now]
    known = {one.name for one in estate.fleet().hosts} if names else set()
    return [name for name in names if name in known]


def _done(due: Sequence[str], composed: Plan) -> list[str]:
    """Those that answered and have nothing left to do, and of which no finding says that they were left out."""
    if composed.errored:
        return []
    busy = {step.target for change in composed.changes for step in change.steps}
    named = {word.strip(",;:") for one in composed.findings for word in one.summary.split()}
    return [name for name in due if name not in {*busy, *named, *composed.absent}]


def _why_not_now(due: Sequence[str], composed: Plan) -> str:
    """Why there is nothing to apply now, in words; empty when there is something."""
    if composed.errored:
        return ""
    if composed.empty:
        left = sorted(set(due) - set(_done(due, composed)))
        why = "; ".join(one.summary for one in composed.findings if one.level is not Level.ADVISE)
        return f"{', '.join(left)} must wait: {why}." if left else "Nothing is left to do on hosts that waited."
    # a timer that comes every ten minutes need not be told the whole plan each time
    closed = [one.summary for one in composed.findings if one.level is Level.ADVISE and one.subject.kind in RULES]
    return f"{', '.join(due)} must wait: {'; '.join(closed)}." if closed else ""


def _nothing(face: Face, due: Sequence[str], words: str) -> int:
    body: JsonObject = {"type": "patch-catch-up", "waiting": list(due), "summary": words}
    face.result(body, lambda console: console.print(words, markup=False))
    return int(ExitCode.DONE)


def _finished(face: Face, composed: Plan, report: Report | None, junit: Path | None) -> int:
    if report is None:
        return int(ExitCode.DONE)
    return finish(face, report, junit, again=planner(composed))
