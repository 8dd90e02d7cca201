"""`ismgr report`: one run as one HTML page, for people who were not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.kept import audited, kept
from ismgr_automation.cli.options import Ref
from ismgr_automation.core.errors import ExitCode, PlanFileError, SettingsError

if TYPE_CHECKING:
    from ismgr_automation.planning.plan import Plan
    from ismgr_automation.reports.story import Proof, Story
    from ismgr_automation.wiring_records import Records

EPILOG = """Examples:

  ismgr report                                            the newest run, as report-RUN.html

  ismgr report 20261122T081500-3f9a --out report.html     one run, to this file

The page needs no network and no script: send it by mail, keep it with a ticket, print it.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=EPILOG)(report)


def report(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run; the newest otherwise.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where to write the page.", dir_okay=False)
    ] = None,
    ref: Ref = "HEAD",
) -> int:
    """Write one HTML page about a run: how it ended, what happened when, differences, approvals, what is left."""
    from ismgr_automation.reports.html import render
    from ismgr_automation.reports.page import compose

    face: Face = ctx.obj
    with kept(face, ref) as records:
        story = _story(records, run if run is not None else _newest(records))
    path = out if out is not None else Path(f"report-{story.run.id}.html")
    try:
        path.write_text(render(story), encoding="utf-8")
    except OSError as problem:
        raise SettingsError(
            f"The report {path} cannot be written: {problem.strerror}.", next_step="Name another file with --out."
        ) from None
    verdict = compose(story).verdict
    face.result(
        {"type": "run-report", "run": story.run.id, "out": str(path), "verdict": verdict},
        lambda console: console.print(f"{verdict}. The report of run {story.run.id} is in {path}.", markup=False),
    )
    return int(ExitCode.DONE)


def _newest(records: Records) -> str:
    found = records.runs.runs(records.chosen.name, 1)
    if not found:
        raise SettingsError(
            f"There is no run in environment {records.chosen.name} yet.",
            next_step="`ismgr apply` makes one; name another environment with -e.",
        )
    return found[0].id


def _story(records: Records, run: str) -> Story:
    from datetime import UTC, datetime

    from ismgr_automation.evidence.chain import Record, parse
    from ismgr_automation.reports.story import Story

    known = records.runs.run(run)
    found: list[Record] = []
    for line in records.log.read(run):
        try:
            found.append(parse(line))
        except ValueError:
            continue  # the audit says so, and the page shows what it says
    return Story(
        run=known,
        plan=_plan(known.plan, run),
        rounds=records.journal.rounds(run),
        steps=records.journal.steps(run),
        records=tuple(found),
        proof=_proof(records, run),
        now=datetime.now(UTC),
    )


def _plan(text: str, run: str) -> Plan | None:
    from ismgr_automation.planning.planfile import read

    try:
        return read(text, f"run {run}")
    except PlanFileError:
        return None  # of a format that nobody reads any more: the rest of the page is worth having


def _proof(records: Records, run: str) -> Proof:
    from ismgr_automation.evidence.audit import Doubt
    from ismgr_automation.reports.story import Proof

    audit = audited(records, list(records.log.read()))
    mine = next((one for one in audit.runs if one.run == run), None)
    told = {Doubt.UNFINISHED, Doubt.TORN}
    return Proof(
        whole=audit.ok and mine is not None,
        closed=mine is not None and mine.closed,
        signed_by=mine.signed_by if mine is not None else "",
        anchored=mine is not None and 0 < mine.last <= audit.proven,
        head=audit.head.digest,
        problems=tuple(one.summary for one in audit.problems)
        if mine is not None
        else ("There is no evidence of this run.",),
        remarks=tuple(one.summary for one in audit.remarks if one.doubt in told and one.run in {"", run}),
    )
