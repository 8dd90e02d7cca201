"""`ismgr drill runbook`: a recovery plan on paper, for the day when nothing of ours runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Worktree
from ismgr_automation.cli.plan import opened
from ismgr_automation.core.errors import EngineFailed, ExitCode, SettingsError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.recovery.runbook import Runbook
    from ismgr_automation.reports.runbook import Mark

EPILOG = """Examples:

  ismgr drill runbook records > runbook.md          what people do by hand when a site is lost

  ismgr drill runbook records --out runbook.html    the same as a page to print

  ismgr drill runbook --check runbook.html          whether one that was printed is out of date

Exit codes: 0 done, or up to date; 2 out of date; 1 no such plan, or no runbook.
"""

SomePlan = Annotated[str, typer.Argument(metavar="[PLAN]", help="The name of a RecoveryPlan.", show_default=False)]
Mode = Annotated[DrillMode, typer.Option("--mode", help="What is to be done.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Write it there; as a page where the name ends with .html.", dir_okay=False
    ),
]
Check = Annotated[
    Path | None,
    typer.Option(
        "--check", metavar="FILE", help="Compare one that was written with what it would be now.", dir_okay=False
    ),
]


def runbook(
    ctx: typer.Context,
    name: SomePlan = "",
    mode: Mode = DrillMode.FAILOVER,
    out: Out = None,
    check: Check = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Write the paper procedure of a recovery plan: who is called, which commands, what must be seen, and what then.
    No host is asked, and no secret is on it."""
    face: Face = ctx.obj
    if check is not None:
        if name or out is not None:
            raise SettingsError("A runbook says itself what it is of.", next_step="Leave out PLAN and --out.")
        return _checked(face, check, ref, worktree=worktree)
    if not name:
        raise SettingsError("No RecoveryPlan is named.", next_step="`ismgr drill runbook PLAN`, or --check FILE.")
    with opened(face, ref, worktree=worktree) as estate:
        book = estate.runbook(name, mode)
    _given(face, book, out)
    return int(ExitCode.DONE)


def _given(face: Face, book: Runbook, out: Path | None) -> None:
    from ismgr_automation.reports.runbook import html, markdown

    text = html(book) if out is not None and out.suffix in {".html", ".htm"} else markdown(book)
    if out is not None:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as problem:
            raise EngineFailed(
                f"The runbook cannot be written to {out}: {problem.strerror}.",
                engine="this machine",
                next_step="Name another file with --out.",
            ) from problem
    body: JsonObject = {
        "type": "runbook",
        "plan": book.head.plan,
        "mode": str(book.head.mode),
        "commit": book.head.commit,
        "digest": book.head.digest,
        "content": book.content,
        "file": str(out) if out is not None else None,
        "text": text if out is None else None,
    }

    def show(console: Console) -> None:
        if out is None:
            # as it is: a console would fold lines that are commands
            typer.echo(text, nl=False)
        else:
            console.print(f"Written to {out}: {len(book.steps)} steps, digest {book.content[7:19]}.", markup=False)

    face.result(body, show)


def _checked(face: Face, file: Path, ref: str, *, worktree: bool) -> int:
    from ismgr_automation.reports.runbook import read_mark

    try:
        mark = read_mark(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"{file} cannot be read: {problem.strerror}.", next_step="Name a runbook.") from problem
    except ValueError as problem:
        raise SettingsError(
            f"{file} is no runbook: {problem}.", next_step="Name one of `ismgr drill runbook`."
        ) from problem
    with opened(face, ref, worktree=worktree) as estate:
        book = estate.runbook(mark.plan, mark.mode)
    same = book.content == mark.content
    body: JsonObject = {
        "type": "runbook-check",
        "plan": mark.plan,
        "mode": str(mark.mode),
        "up_to_date": same,
        "written": {"commit": mark.commit, "content": mark.content},
        "now": {"commit": book.head.commit, "content": book.content},
    }
    face.result(body, lambda console: console.print(_verdict(mark, book, same=same), markup=False))
    return int(ExitCode.DONE if same else ExitCode.CHANGES)


def _verdict(mark: Mark, book: Runbook, *, same: bool) -> str:
    if same:
        return f"It is up to date: commit {book.head.commit[:12]} says the same as {mark.commit[:12]} did."
    again = f"ismgr drill runbook {mark.plan} --mode {mark.mode} --out FILE"
    return f"It is out of date: it was written at commit {mark.commit[:12]}. `{again}` writes it anew."
