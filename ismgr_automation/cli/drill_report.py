"""`ismgr drill report | finding | state`: what a drill measured, for people who were not there, and what they write
down about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.kept import kept
from ismgr_automation.cli.options import Ref
from ismgr_automation.cli.plan import looked_up
from ismgr_automation.core.errors import ExitCode, InputError, IsmgrError, SettingsError
from ismgr_automation.recovery.topics import Topic

if TYPE_CHECKING:
    from datetime import date, datetime

    from ismgr_automation.api import Estate
    from ismgr_automation.core.json import JsonObject
    from ismgr_automation.recovery.clauses import Case, Seal
    from ismgr_automation.recovery.particulars import Note
    from ismgr_automation.recovery.result import DrillResult
    from ismgr_automation.reports.drill_page import Told

EPILOG = """Examples:

  ismgr drill report                                                the last drill

  ismgr drill report 20261127T081500-3f9a --html drill.html         one page, with charts

  ismgr drill report 20261127T081500-3f9a --pdf drill.pdf           the same on paper

  ismgr --json drill report --gate                                  for pipelines

Exit codes: 0; with --gate 6 when an objective was missed, the drill proves nothing, or clients waited longer than in
the drills before, by a quarter and by more than chance explains.
"""

FINDING = """Examples:

  ismgr drill finding 20261127T081500-3f9a --text "The runbook names a host that is gone" --owner "Ada" --due 2026-12-24

It is kept beside the result and shown in each report of it. Nothing that was written down is changed later.
"""

STATE = """Examples:

  ismgr drill state 20261127T081500-3f9a observers --text "Eve of internal audit, on site" --person "Ada"

  ismgr drill state 20261127T081500-3f9a backups --text "newest is of 02:10 UTC, 6 h old" --person "Ada"

What no machine can know, and standards ask for. A report shows who stated it.
"""

RunName = Annotated[str, typer.Argument(metavar="[RUN]", help="A drill's run; else the last.", show_default=False)]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A drill's run.")]
Text = Annotated[str, typer.Option("--text", metavar="TEXT", help="What there is to say.")]
Person = Annotated[str, typer.Option("--person", metavar="NAME", help="Who states it, as a Team document names them.")]


def add(topic: typer.Typer) -> None:
    """Add the commands to `ismgr drill`."""
    topic.command("report", epilog=EPILOG)(report)
    topic.command("finding", epilog=FINDING)(finding)
    topic.command("state", epilog=STATE)(state)


def report(
    ctx: typer.Context,
    run_name: RunName = "",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as one HTML page.", dir_okay=False)
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", metavar="FILE", help="Write it as a PDF.", dir_okay=False)
    ] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 6 for a drill that a pipeline must stop at.")] = False,
    ref: Ref = "HEAD",
) -> int:
    """Show what a drill measured: the client's outage with its waterfall, lost writes, verdicts, how it stands to the
    drills before, and what standards ask for."""
    from ismgr_automation.cli.drill_views import show_case
    from ismgr_automation.reports import drill_html, drill_pdf
    from ismgr_automation.reports.drill_page import compose

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        found = chosen(estate, run_name)
        seal, body = sealed(face, ref, found)
        case = estate.drill_case(found, seal)
        page = compose(_told(estate, case, body)) if html or pdf else None
    written: list[Path] = []
    if html is not None and page is not None:
        written.append(_write(html, drill_html.render(page).encode()))
    if pdf is not None and page is not None:
        written.append(_write(pdf, drill_pdf.render(page, found.ended_at)))
    face.result(
        {**_case_body(case), "written": list(map(str, written))}, lambda console: show_case(case, written, console)
    )
    return code_of(case) if gate else int(ExitCode.DONE)


def finding(
    ctx: typer.Context,
    run_name: Run,
    text: Text,
    owner: Annotated[str, typer.Option("--owner", metavar="NAME", help="Who mends it, as a Team document names them.")],
    due: Annotated[str, typer.Option("--due", metavar="DATE", help="Until when, as 2026-12-24.")],
    cause: Annotated[str, typer.Option("--cause", metavar="TEXT", help="The root cause.")] = "",
    ref: Ref = "HEAD",
) -> int:
    """Write down what a drill showed is to be made better, who does it, and until when."""
    from ismgr_automation.recovery.particulars import Finding

    at, by = here()
    note = Finding(run=run_name, at=at, by=by, text=_said(text), owner=owner, due=_date(due), cause=cause)
    return keep(ctx.obj, ref, note)


def state(
    ctx: typer.Context,
    run_name: Run,
    topic: Annotated[Topic, typer.Argument(metavar="TOPIC", help=f"About what: {', '.join(Topic)}.")],
    text: Text,
    person: Person,
    ref: Ref = "HEAD",
) -> int:
    """Write down what no machine can know of a drill: who observed it, who was called when, how old backups were."""
    from ismgr_automation.recovery.particulars import Statement

    at, by = here()
    return keep(ctx.obj, ref, Statement(run=run_name, at=at, by=by, topic=topic, text=_said(text), person=person))


def write_page(face: Face, estate: Estate, found: DrillResult, path: Path) -> None:
    """Write a drill of the last commit as one HTML page."""
    from ismgr_automation.reports import drill_html
    from ismgr_automation.reports.drill_page import compose

    seal, body = sealed(face, "HEAD", found)
    page = compose(_told(estate, estate.drill_case(found, seal), body))
    _write(path, drill_html.render(page).encode())


def code_of(case: Case) -> int:
    """What a drill is for an exit code: a missed objective, no proof, or an outage that became worse are no success."""
    from ismgr_automation.recovery.result import Verdict

    good = case.result.verdict is Verdict.PASSED and not case.trend.worse
    return int(ExitCode.DONE if good else ExitCode.OBJECTIVE_MISSED)


def chosen(estate: Estate, run_name: str) -> DrillResult:
    """A drill by its run, or the last. Raises ``SettingsError`` where there is none."""
    found = estate.drill(run_name) if run_name else next(iter(estate.drills(limit=1)), None)
    if found is None:
        raise SettingsError(
            f"There is no drill {run_name}." if run_name else "There was no drill yet.",
            next_step="`ismgr drill history` lists them.",
        )
    return found


def _case_body(case: Case) -> JsonObject:
    """A drill for pipelines: its result, and beside it what is said of it."""
    from ismgr_automation.cli.drill_case import case_json
    from ismgr_automation.recovery.result import result_json

    return {**result_json(case.result), **case_json(case)}


def sealed(face: Face, ref: str, found: DrillResult) -> tuple[Seal, JsonObject]:
    """What the evidence says of a drill, and its result as it is kept. Where the evidence cannot be asked a report is
    worth having all the same, and says so."""
    from ismgr_automation.cli.drill_case import seal_of
    from ismgr_automation.recovery.clauses import Seal
    from ismgr_automation.recovery.result import result_json

    body = result_json(found)
    try:
        with kept(face, ref) as records:
            body = records.drills.result(found.run) or body
            return seal_of(records, list(records.log.read()), found.run, body), body
    except IsmgrError as problem:
        return Seal(trouble=problem.summary), body


def _told(estate: Estate, case: Case, body: JsonObject) -> Told:
    from datetime import UTC, datetime

    from ismgr_automation.cli.drill_case import told

    return told(case, estate.drill_attempts(case.result.run), body, datetime.now(UTC))


def _write(path: Path, data: bytes) -> Path:
    try:
        path.write_bytes(data)
    except OSError as problem:
        raise SettingsError(
            f"The report {path} cannot be written: {problem.strerror}.", next_step="Name another file."
        ) from None
    return path


def keep(face: Face, ref: str, note: Note) -> int:
    """Put a note with its drill and into the evidence, under the lease, and say so."""
    from ismgr_automation.cli.apply import held
    from ismgr_automation.recovery.particulars import note_json

    with looked_up(face, ref) as estate, held(face, estate, "drill note", None):
        note = estate.note_drill(note)
    face.result(note_json(note), lambda console: console.print(f"Kept with drill {note.run}.", markup=False))
    return int(ExitCode.DONE)


def here() -> tuple[datetime, str]:
    """Now, and who types."""
    from datetime import UTC, datetime

    from ismgr_automation.runs.keeper import this_process

    who = this_process("drill")
    return datetime.now(UTC).replace(microsecond=0), f"{who.user}@{who.host}"


def _said(text: str) -> str:
    if not text.strip():
        raise InputError("There is nothing in --text.", next_step="Say what there is to say.")
    return text.strip()


def _date(text: str) -> date:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date.", next_step="Write it as 2026-12-24.") from None
