"""`ismgr inventory`: the hosts that stacks and inventories tell of, for people and for plain Ansible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Worktree
from ismgr_automation.cli.plan import opened

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.planning.fleet import Fleet

EPILOG = """Examples:

  ismgr inventory --table                                       for people

  ansible-playbook -i <(ismgr inventory) playbooks/site.yml     plain Ansible, host keys pinned

  ismgr inventory --write ansible/                              a folder with inventory, ssh_config, ansible.cfg

Secrets stay references: a task that needs one opens it through the lookup `ismgr_secret`.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inventory", epilog=EPILOG)(inventory)


def inventory(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write a folder that plain Ansible works in.")
    ] = None,
    table: Annotated[bool, typer.Option("--table", help="A table for people instead of an inventory.")] = False,
) -> int:
    """Print the inventory: every host with its groups, labels and pinned keys. Touches nothing."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        if table:
            fleet = estate.fleet()
            face.result({"type": "inventory", "hosts": _rows(fleet)}, lambda console: _table(fleet, console))
            return 0
        if write is not None:
            files = [str(path) for path in estate.write_inventory(write)]
            face.result({"type": "inventory", "files": files}, lambda console: _wrote(files, console))
            return 0
        found = estate.inventory()
    face.result({"type": "inventory", "inventory": found}, lambda _console: typer.echo(json.dumps(found, indent=2)))
    return 0


def _wrote(files: list[str], console: Console) -> None:
    for path in files:
        console.print(path, markup=False)


def _rows(fleet: Fleet) -> list[dict[str, str]]:
    return [
        {
            "name": host.name,
            "address": host.address,
            "groups": ", ".join(host.groups),
            "site": host.site,
            "origin": host.origin,
        }
        for host in sorted(fleet.hosts, key=lambda one: one.name)
    ]


def _table(fleet: Fleet, console: Console) -> None:
    from rich.table import Table

    shown = Table("host", "address", "groups", "site", "origin", box=None, pad_edge=False)
    for row in _rows(fleet):
        shown.add_row(*row.values())
    console.print(shown if fleet.sightings else "There are no hosts yet: no stack has been applied.")
