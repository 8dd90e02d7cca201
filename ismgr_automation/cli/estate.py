"""`ismgr init | validate | schema`: begin an estate, check its documents, tell editors about them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face, diagnostic_json
from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.core.diagnostic import Diagnostic
    from ismgr_automation.estate.model import Estate

INIT_EPILOG = """Examples:

  ismgr init infra                 a new folder

  ismgr init                       here

Files that are there already are never overwritten: the command refuses, and writes nothing.
"""

VALIDATE_EPILOG = """Examples:

  ismgr validate                   the files as they lie here, before they are committed

  ismgr validate --ref main        a commit, as `ismgr plan` reads it

  ismgr --json validate            for pipelines: every mistake with path, line and column

Exit codes: 0 sound (there may be warnings), 1 mistakes.
"""

SCHEMA_EPILOG = """Examples:

  ismgr schema HostGroup           print the JSON Schema of one kind

  ismgr schema --write .schemas    write them all, and say how to point an editor at them

  ismgr schema --format evidence   what ismgr itself writes: plan, event, result, report, evidence, approval
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init", epilog=INIT_EPILOG)(init)
    app.command("validate", epilog=VALIDATE_EPILOG)(validate)
    app.command("schema", epilog=SCHEMA_EPILOG)(schema)


def init(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is not there.")] = Path(),
) -> None:
    """Write a small, valid estate to start from, and make it a Git repository."""
    from ismgr_automation.engines.git import start
    from ismgr_automation.estate.starter import name_for, starter

    face: Face = ctx.obj
    folder = (face.directory / directory).resolve()
    files = starter(name_for(folder.name))
    _refuse_to_overwrite(folder, sorted(files))
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"Cannot write {error.filename}: {error.strerror}.",
            untouched="Files written before stay.",
            next_step="Name a folder that you may write to.",
        ) from None
    made = start(folder)
    shown = os.path.relpath(folder)
    body: JsonObject = {"type": "init", "directory": str(folder), "files": sorted(files), "repository_made": made}
    face.result(body, lambda console: _begun(console, shown, sorted(files), made=made))


def validate(
    ctx: typer.Context,
    ref: Annotated[
        str | None, typer.Option("--ref", metavar="REF", help="Read this commit instead of the files as they lie here.")
    ] = None,
) -> None:
    """Check every document and what they say about each other; all mistakes at once, each with its place.

    Reads the working tree, committed or not: this is what one runs before committing. Touches nothing.
    """
    from ismgr_automation.core.errors import EstateError

    face: Face = ctx.obj
    estate, diagnostics = _load(face.directory, ref)
    if estate is None:
        errors = sum(1 for one in diagnostics if one.severity == "error")
        count = f"{errors} mistake{'s' if errors != 1 else ''}"
        raise EstateError(f"The estate has {count}.", diagnostics=diagnostics)
    face.result(_summary(estate, diagnostics), lambda console: _sound(console, estate, diagnostics))


def schema(
    ctx: typer.Context,
    kind: Annotated[
        str, typer.Argument(metavar="[KIND]", help="Estate, Stack, ...; the schema that takes any kind otherwise.")
    ] = "Document",
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write every schema there.", file_okay=False)
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="A format that ismgr writes, instead of a kind.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of document or of a format, or write those of all kinds for editors."""
    from ismgr_automation.estate import schema as schemas

    face: Face = ctx.obj
    if format_ is not None:
        _format(face, format_)
        return
    if write is None:
        body = schemas.schema(kind)
        face.result(
            {"type": "schema", "kind": kind, "schema": body},
            lambda console: console.print(schemas.text(body), end="", markup=False),
        )
        return
    folder = face.directory / write
    written: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, one in schemas.schemas().items():
            path = folder / f"{name}.schema.json"
            path.write_text(schemas.text(one), encoding="utf-8")
            written.append(str(path))
    except OSError as error:
        raise SettingsError(
            f"Cannot write {error.filename}: {error.strerror}.", next_step="Name a folder that you may write to."
        ) from None
    face.result({"type": "schema", "files": written}, lambda console: _editors(console, written, write))


def _format(face: Face, name: str) -> None:
    from ismgr_automation.estate.schema import text
    from ismgr_automation.reports.formats import schema as schema_of

    body = schema_of(name)
    face.result(
        {"type": "schema", "format_of": name, "schema": body},
        lambda console: console.print(text(body), end="", markup=False),
    )


def _load(directory: Path, ref: str | None) -> tuple[Estate | None, Sequence[Diagnostic]]:
    from ismgr_automation.estate.checks.names import ROOT_FILE
    from ismgr_automation.estate.load import files_below, load

    folder = directory.resolve()
    if not folder.is_dir():
        raise InputError(f"There is no folder {directory}.", next_step="Name the estate's folder with -C.")
    if ref is None and not any((one / ".git").exists() for one in (folder, *folder.parents)):
        # an estate that is not in Git yet can be checked all the same; a home folder is not read through in vain
        if not (folder / ROOT_FILE).is_file():
            raise InputError(
                f"There is no {ROOT_FILE} in {folder}: this is not an estate.",
                next_step="Name the estate's folder with -C; `ismgr init DIR` writes a new one.",
            )
        return load(folder, files_below(folder))
    from ismgr_automation.wiring import source

    with tempfile.TemporaryDirectory(prefix="ismgr-") as work:
        tree = source(folder).checkout(ref, Path(work) / "tree")
        return load(tree.root, tree.objects)


def _refuse_to_overwrite(folder: Path, names: Sequence[str]) -> None:
    there = [name for name in names if os.path.lexists(folder / name)]
    if there:
        raise SettingsError(
            f"{folder} already has {', '.join(there)}.",
            next_step="Name a new folder: ismgr init DIR.",
        )


def _begun(console: Console, shown: str, files: Sequence[str], *, made: bool) -> None:
    console.print(f"Wrote {len(files)} files{' and began a Git repository' if made else ''} in {shown}.", markup=False)
    for name in files:
        console.print(f"  {name}", markup=False)
    into = f"cd {shown} && " if shown != "." else ""
    console.print(
        f"\nNext:\n  {into}ismgr validate\n  git add . && git commit -m 'Begin'\n"
        "  export ISMGR_PASSPHRASE=...   # any text; it encrypts secrets in the state\n  ismgr plan",
        markup=False,
    )


def _summary(estate: Estate, warnings: Sequence[Diagnostic]) -> JsonObject:
    return {
        "type": "validate",
        "estate": estate.document.name,
        "documents": estate.size,
        "files": list(estate.files),
        "warnings": [diagnostic_json(one) for one in warnings],
    }


def _sound(console: Console, estate: Estate, warnings: Sequence[Diagnostic]) -> None:
    for one in warnings:
        console.print(str(one), markup=False)
    counts = [
        (len(estate.teams), "team"),
        (len(estate.sites), "site"),
        (len(estate.stacks), "stack"),
        (len(estate.groups), "host group"),
        (len(estate.services), "service"),
    ]
    parts = [f"{number} {noun}{'s' if number != 1 else ''}" for number, noun in counts if number]
    console.print(f"Estate {estate.document.name} is sound: {', '.join(parts) or 'no other documents'}.", markup=False)


def _editors(console: Console, written: Sequence[str], folder: Path) -> None:
    for path in written:
        console.print(path, markup=False)
    any_kind = f"{folder.as_posix()}/Document.schema.json"
    console.print(
        "\nEditors with yaml-language-server (VS Code, Neovim, Emacs, ...) take either a first line in a file,\n"
        f"  # yaml-language-server: $schema={any_kind}   (relative to that file)\n"
        "or a setting for all files, such as .vscode/settings.json:\n"
        f'  {{"yaml.schemas": {{"./{any_kind}": ["*.yaml", "!playbooks/**", "!stacks/**"]}}}}',
        markup=False,
    )
