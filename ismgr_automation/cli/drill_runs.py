"""`ismgr drill abort` and `ismgr drill resume`: a drill that another process runs, or ran until it died."""

from __future__ import annotations

import getpass
import socket
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.apply import finish, planner, waiting
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Wait, Yes
from ismgr_automation.cli.plan import looked_up, opened
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import Cancelled, ExitCode, InputError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from ismgr_automation.api import Estate
    from ismgr_automation.planning.plan import Plan
    from ismgr_automation.ports.runs import Run

ABORTING = """Examples:

  ismgr drill abort                                 ask the drill that runs now to stop

  ismgr drill abort --return --yes                  and bring the service home afterwards

It is asked in its own folder, so that this works from the same checkout only. Within a second nothing new begins; a leg
that clients wait for is always ended first.

Exit codes: 0 it has stopped (with --return then those of `ismgr drill return`), 1 there is none that has not ended,
4 it did not stop in time.
"""

RESUMING = """Examples:

  ismgr drill resume                                go on with the last drill whose process died

  ismgr drill resume 20261127T081500-3f9a           with this one

Exit codes: 1 there is none that has not ended; all others as `ismgr drill run`.
"""

SomeRun = Annotated[str, typer.Argument(metavar="[RUN]", help="A drill's run; else the last that has not ended.")]
Return = Annotated[bool, typer.Option("--return", help="Bring the service home when it has stopped.")]

MANY = 200
PATIENCE = timedelta(minutes=10)
POLL_SECONDS = 0.2


def abort(
    ctx: typer.Context,
    run_name: SomeRun = "",
    back: Return = False,
    ref: Ref = "HEAD",
    yes: Yes = False,
    wait: Wait = None,
) -> int:
    """Ask a drill that runs in another process to stop, wait until it has, and say how the service comes home."""
    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        known = _unfinished(estate, run_name)
        estate.stop_drill(known.id, f"{getpass.getuser()}@{socket.gethostname()}")
        stopped = _waited(face, estate, known, waiting(wait) or PATIENCE)
        found = estate.drill(known.id)
    plan = _plan_of(known)
    home = f"ismgr drill return {_name(plan)}"
    body: JsonObject = {
        "type": "drill-abort",
        "run": known.id,
        "stopped": stopped,
        "verdict": str(found.verdict) if found is not None else None,
        "next_step": home if stopped else f"ismgr drill resume {known.id}",
    }
    words = (
        f"{known.id} has stopped: {found.verdict if found is not None else 'nothing was measured'}. `{home}` brings "
        "the service home."
        if stopped
        else f"{known.id} was asked to stop, and has not. Where its process is dead, "
        f"`ismgr drill resume {known.id}` ends it."
    )
    face.result(body, lambda console: console.print(words, markup=False))
    if not stopped:
        return int(ExitCode.ENGINE)
    if not back:
        return int(ExitCode.DONE)
    from ismgr_automation.cli.drill import return_

    return return_(ctx, _name(plan), ref=ref, yes=yes, wait=wait)


def resume(ctx: typer.Context, run_name: SomeRun = "", wait: Wait = None) -> int:
    """Go on with a drill whose process died, from what its journal and the world say, and show what was measured."""
    from ismgr_automation.cli.drill import measured

    face: Face = ctx.obj
    with looked_up(face, "HEAD") as estate:
        known = _unfinished(estate, run_name)
    plan = _plan_of(known)
    face.environment = known.environment
    with opened(face, plan.beside.commit, worktree=plan.beside.worktree) as estate:
        with progress(face):
            report = estate.resume(known.id, wait=waiting(wait))
        code = finish(face, report, None, again=planner(plan))
        return measured(face, estate, report, code)


def _unfinished(estate: Estate, run_name: str) -> Run:
    """The drill that is meant; the newest that has not ended where none is named."""
    from ismgr_automation.planning.plan import Purpose
    from ismgr_automation.ports.runs import RunState

    listing = "`ismgr drill history` and `ismgr runs` list what there was."
    if run_name:
        known = estate.run(run_name)
        if known.purpose != Purpose.DRILL:
            raise InputError(f"The run {known.id} is no drill: {known.purpose}.", next_step=listing)
        if known.state is not RunState.RUNNING:
            raise InputError(f"The drill {known.id} has ended: it is {known.state}.", next_step=listing)
        return known
    found = (one for one in estate.runs(MANY) if one.purpose == Purpose.DRILL and one.state is RunState.RUNNING)
    last = next(found, None)
    if last is None:
        raise InputError("There is no drill that has not ended.", next_step=listing)
    return last


def _waited(face: Face, estate: Estate, known: Run, longest: timedelta) -> bool:
    """Wait until the run is closed; whether it was. Nobody needs to wait for a process that is dead."""
    from ismgr_automation.ports.runs import RunState
    from ismgr_automation.runs.keeper import alive

    end = monotonic() + longest.total_seconds()
    while estate.run(known.id).state is RunState.RUNNING:
        if monotonic() >= end or alive(known.holder) is False:
            return estate.run(known.id).state is not RunState.RUNNING
        if face.cancelled.wait(POLL_SECONDS):
            raise Cancelled("Stopped waiting.", untouched="The drill was asked to stop all the same.")
    return True


def _plan_of(known: Run) -> Plan:
    from ismgr_automation.planning.planfile import read

    return read(known.plan, f"run {known.id}")


def _name(plan: Plan) -> str:
    from ismgr_automation.converge.drill import name_of

    return name_of(plan)
