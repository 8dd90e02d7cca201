"""`ismgr galaxy`: Ansible Galaxy requirements, locked by version and checksum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.core.errors import SettingsError

EPILOG = """Examples:

  ismgr galaxy lock                                   the requirements that estate.yaml names

  ismgr galaxy lock playbooks/requirements.yml        these

Commit the lock. Runs install what it names into a cache, and refuse an artifact with another checksum.
"""


def register(app: typer.Typer) -> None:
    """Add `ismgr galaxy`."""
    topic = typer.Typer(
        no_args_is_help=True,
        help="Ansible Galaxy requirements, locked by version and checksum.",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.callback()(_topic)
    topic.command("lock", epilog=EPILOG)(lock)
    app.add_typer(topic, name="galaxy")


def _topic() -> None:
    """Ansible Galaxy requirements, locked by version and checksum."""


def lock(
    ctx: typer.Context,
    requirements: Annotated[
        Path | None, typer.Argument(metavar="REQUIREMENTS", help="A requirements file.", show_default=False)
    ] = None,
) -> int:
    """Get each artifact once and write its checksum into a lock beside the requirements."""
    from ismgr_automation import wiring
    from ismgr_automation.api import Estate

    face: Face = ctx.obj
    if requirements is None:
        with Estate.open(face.directory, worktree=True) as estate:
            named = estate.documents.document.ansible.requirements
        if named is None:
            raise SettingsError(
                "estate.yaml names no Galaxy requirements.",
                next_step="Write `ansible: {requirements: PATH}` there, or name the file here.",
            )
        requirements = face.directory / named
    written = wiring.lock_galaxy(requirements)
    face.result(
        {"type": "galaxy-lock", "lock": str(written)},
        lambda console: console.print(f"Wrote {written}. Commit it beside its requirements.", markup=False),
    )
    return 0
