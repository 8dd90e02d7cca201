"""`ismgr demo-drill`: the demo's third act - a site is declared lost, its database moves to the other one and comes
back, and a client of its own says how long that was felt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.demo_stage import curtain, first_act, opened, say, still_answers
from ismgr_automation.cli.face import Face
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode

if TYPE_CHECKING:
    from ismgr_automation.planning.plan import Plan

PLAN = "records"
"""The RecoveryPlan of the example."""

EPILOG = """Examples:

  ismgr demo-drill               makes the first act if there is none, then loses a site and comes back
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo-drill", epilog=EPILOG)(demo_drill)


def demo_drill(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the demo's estate is.")] = Path("build/demo"),
) -> int:
    """Lose the demo's first site and come back: fenced, promoted, switched, failed back, measured by a client."""
    from ismgr_automation.cli.drill_report import write_page
    from ismgr_automation.cli.drill_views import show_result
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.lab import Lab
    from ismgr_automation.recovery.result import Verdict, result_json

    face: Face = ctx.obj
    code = first_act(ctx, folder)
    if code:
        return code
    face.directory = folder
    began = time.monotonic()
    with opened(face, folder) as estate:
        with progress(face), estate.hold("demo-drill") as held:
            planned = held.plan_drill(PLAN, DrillMode.FAILOVER)
            _announce(face, planned)
            done = held.apply(planned)
        found = estate.drill(done.run)
        page = folder.parent / "drill.html"
        if found is not None:
            write_page(face, estate, found, page)
    if found is None:
        say(face, f"[red]Nothing was begun[/]: {done.stopped}")
        return int(ExitCode.ENGINE)
    if not face.json and not face.quiet:
        show_result(found, face.errors)
    still_answers(Lab.find("demo"), f"`ismgr -C {folder} drill return {PLAN}` brings the service home.")
    seconds = time.monotonic() - began
    passed = done.ok and found.verdict is Verdict.PASSED
    body: JsonObject = {
        "type": "demo-drill",
        "exit_code": 0 if passed else int(ExitCode.OBJECTIVE_MISSED),
        "folder": str(folder),
        "drill": result_json(found),
        "page": str(page),
        "seconds": seconds,
    }
    first = found.outages[0].figure if found.outages else "for a time that nobody measured"
    words = f"A site was lost and came back in {seconds:.0f} s: {found.verdict}. Clients waited {first}."
    words += f"\n{page} has it as one page, with charts."
    tips = (
        f"ismgr -C {folder} drill report             what was measured",
        f"ismgr -C {folder} drill history            all drills",
        f"ismgr -C {folder} audit verify             that nobody altered the record of it",
        "ismgr lab down                               take it all away",
    )
    face.result(body, lambda console: curtain(console, words, tips))
    return 0 if passed else int(ExitCode.OBJECTIVE_MISSED)


def _announce(face: Face, planned: Plan) -> None:
    """Which steps come, and how long clients may wait."""
    say(face, f"\n[bold]dc1 is declared lost[/]: {len(planned.changes[0].steps) if planned.changes else 0} steps.")
    for one in planned.findings:
        say(face, f"  {one.summary}")
