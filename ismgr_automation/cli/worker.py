"""`ismgr worker`: carry out units of runs that others coordinate, and take over runs whose coordinator is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref
from ismgr_automation.core.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from datetime import timedelta

    from ismgr_automation.ports.runs import Run
    from ismgr_automation.ports.sequencer import Work
    from ismgr_automation.runs.desk import Desk, Seat, Serving, Tally
    from ismgr_automation.wiring_records import Records

EPILOG = """Examples:

  ismgr worker                                work for every run of the environment until you stop it

  ismgr worker --once                         do what there is to do now, and end

  ismgr worker --for 20261122T081500-3f9a     work for one run only

  ismgr -e production worker --concurrency 8  at most eight units at once here

A worker needs a clone of the estate that holds the run's commit, the environment's database (PostgreSQL when it is on
another machine) and the same secrets. Ctrl-C or SIGTERM: nothing new begins, and units in hand may end within --grace;
those that do not are stopped, and whoever coordinates the run looks at the world and goes on. Once more: at once.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("worker", epilog=EPILOG)(worker)


def worker(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to do.")] = False,
    only: Annotated[str, typer.Option("--for", metavar="RUN", help="Work for this run only.", show_default=False)] = "",
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", metavar="N", min=1, max=64, help="So many units at once; one per processor."),
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long units in hand may go on after Ctrl-C.")
    ] = "10m",
) -> int:
    """Carry out units of runs that other processes coordinate; take over runs whose coordinator died."""
    import tempfile

    from ismgr_automation.cli.kept import kept
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.runs.desk import Orders
    from ismgr_automation.runs.worker import Worker

    face: Face = ctx.obj
    with kept(face, ref) as records, tempfile.TemporaryDirectory(prefix="ismgr-worker-") as folder, progress(face):
        # before the loop: a worker that could not open any run would be waiting for nothing
        records.check_steps()
        orders = Orders(environment=records.chosen.name, once=once, only=only, grace=_time(grace))
        at_once = concurrency or max(2, os.cpu_count() or 2)
        tally = Worker(desk(face, records, Path(folder), at_once), orders).run(face.cancelled)
    face.result(
        {
            "type": "worker",
            "exit_code": int(ExitCode.DONE),
            "done": tally.done,
            "given_up": list(tally.given_up),
            "resumed": list(tally.resumed),
        },
        lambda console: console.print(_words(tally), markup=False),
    )
    return int(ExitCode.DONE)


def desk(face: Face, records: Records, folder: Path, at_once: int) -> Desk:
    """What a worker of this invocation works with."""
    from ismgr_automation.runs.desk import Desk

    serving: Serving = partial(records.serving, at_once=at_once)
    return Desk(
        runs=records.runs,
        leases=records.leases,
        serving=serving,
        open=partial(_opened, face),
        resume=partial(_resumed, face),
        folder=folder,
        emit=face.emit,
    )


@contextmanager
def _opened(face: Face, run: Run, seat: Seat) -> Iterator[Work]:
    """The estate at the run's commit, for its units."""
    from ismgr_automation.api import Estate
    from ismgr_automation.planning.planfile import read

    planned = read(run.plan, f"run {run.id}")
    with Estate.open(
        face.directory, ref=planned.beside.commit, environment=run.environment, emit=face.emit, wiring=face.wiring
    ) as estate:
        estate.cancelled = seat.cancelled
        yield estate.work_for(run.id, executor=seat.executor, leash=seat.leash, ours=seat.ours)


def _resumed(face: Face, run: Run) -> str:
    """Go on with a run to its end, as `ismgr resume` does."""
    from ismgr_automation.api import Estate
    from ismgr_automation.converge.report import Fate
    from ismgr_automation.planning.planfile import read

    planned = read(run.plan, f"run {run.id}")
    if planned.beside.worktree:
        raise SettingsError(
            "It was planned from files that were not committed, which only its own machine has.",
            next_step=f"Run `ismgr resume {run.id}` there.",
        )
    with Estate.open(
        face.directory, ref=planned.beside.commit, environment=run.environment, emit=face.emit, wiring=face.wiring
    ) as estate:
        estate.cancelled = face.cancelled
        report = estate.resume(run.id)
    landed = f"{len(report.of(Fate.LANDED))} of {len(report.outcomes)} changes landed"
    return f"{landed}; {report.stopped}" if report.stopped else landed


def _time(text: str) -> timedelta:
    from ismgr_automation.estate.resolve import duration

    try:
        return duration(text)
    except (KeyError, ValueError):
        raise SettingsError(
            f"{text!r} is no time.", next_step="Write a number and s, m or h, such as 30s or 10m."
        ) from None


def _words(tally: Tally) -> str:
    parts = [
        f"{tally.done} unit{'s' * (tally.done != 1)} ended here",
        *([f"given up for others: {', '.join(tally.given_up)}"] if tally.given_up else []),
        *([f"taken over: {', '.join(tally.resumed)}"] if tally.resumed else []),
    ]
    return "; ".join(parts) + "."
