"""`ismgr secrets`: whether every secret that the estate names can be opened. No value is ever printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Worktree
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.api import Estate
    from ismgr_automation.converge.secrets import Looked

EPILOG = """Examples:

  ismgr secrets check                     as a plan would open them, and as an apply would

  ismgr -e production secrets check       those of another environment

  ismgr --json secrets check | jq .       for pipelines

Exit codes: 0 all can be opened, 1 one cannot, 4 a server did not answer or refused us.
"""


def register(app: typer.Typer) -> None:
    """Add `ismgr secrets`."""
    topic = typer.Typer(
        no_args_is_help=True,
        help="Whether every secret that the estate names can be opened.",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.callback()(_topic)
    topic.command("check", epilog=EPILOG)(check)
    app.add_typer(topic, name="secrets")


def _topic() -> None:
    """Whether every secret that the estate names can be opened."""


def check(ctx: typer.Context, ref: Ref = "HEAD", worktree: Worktree = False) -> int:
    """Open every secret that the estate names, with the credentials of a plan and with those of an apply.

    Says which can be opened, and what is wrong with the others. No value is printed, and nothing is written.
    """
    from ismgr_automation.cli.plan import opened

    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        name, looked = _look(estate, face.environment)
    code = _exit_code([one for found in looked.values() for one in found])
    face.result(
        {
            "type": "secrets",
            "exit_code": int(code),
            "environment": name,
            "secrets": [_json(mode, one) for mode, found in looked.items() for one in found],
        },
        lambda console: _show(name, looked, console),
    )
    return int(code)


def _look(estate: Estate, environment: str | None) -> tuple[str, Mapping[str, Sequence[Looked]]]:
    """What was found with the credentials of each mode; without plan credentials both are the same."""
    from ismgr_automation.converge import secrets
    from ismgr_automation.engines.secrets import Backends
    from ismgr_automation.estate.resolve import environment as choose
    from ismgr_automation.estate.resolve import secret_backends

    documents = estate.documents
    chosen = choose(documents.document, environment)
    credentials = chosen.environment.plan_credentials
    modes = {"plan": credentials, "apply": None} if credentials is not None else {"plan and apply": None}
    found = {}
    for mode, given in modes.items():
        described = secret_backends(documents.document, estate.directory, given, tree=estate.tree.root)
        found[mode] = secrets.check(documents, chosen.environment, given, Backends.from_json(described))
    return chosen.name, found


def _exit_code(looked: Sequence[Looked]) -> ExitCode:
    wrong = [one for one in looked if one.problem and not one.counted]
    if any(one.reason not in {"input-error", "settings-error"} for one in wrong):
        return ExitCode.ENGINE
    return ExitCode.INPUT if wrong else ExitCode.DONE


def _json(mode: str, one: Looked) -> JsonObject:
    return {
        "reference": str(one.reference),
        "for": one.purpose,
        "credentials": mode,
        "ok": not one.problem,
        "version_only": one.counted,
        "problem": one.problem,
        "reason": one.reason,
        "next_step": one.next_step,
    }


def _show(name: str, looked: Mapping[str, Sequence[Looked]], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    for mode, found in looked.items():
        table = Table(title=f"{name}, to {mode}", title_justify="left", box=None, pad_edge=False)
        for column in ("secret", "for", ""):
            table.add_column(column, overflow="fold")
        for one in found:
            table.add_row(Text(str(one.reference)), Text(one.purpose), _word(one))
        console.print(table if found else f"{name} names no secret.")
        for one in found:
            if one.problem:
                console.print(f"\n{one.problem} {one.next_step}".rstrip(), markup=False)
        console.print()


def _word(one: Looked) -> str:
    if not one.problem:
        return "[green]ok[/]"
    return "[yellow]version only[/]" if one.counted else "[red]no[/]"
