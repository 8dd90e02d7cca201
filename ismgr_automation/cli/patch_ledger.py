"""`ismgr patch ledger`: since when versions are known, and how machines that patch share it. No host is asked."""

from __future__ import annotations

from datetime import UTC
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref
from ismgr_automation.cli.plan import looked_up
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import Console

    from ismgr_automation.ports.patching import Exchanged, VersionKey

EPILOG = """Examples:

  ismgr patch ledger show openssl             since when versions of openssl are known here

  ismgr patch ledger sync                     give and take what others saw, over the remote origin

  ismgr patch ledger sync --remote central    over another remote of this repository

`sync` fetches refs/ismgr/first-seen, joins it with what is here (of each version the earlier time), and pushes it
without force. When somebody else is faster, it is done again.

Exit codes: 0 done, 1 there is no such remote, 4 the remote cannot be reached or does not let us.
"""

SHOWN = 50


def register(app: typer.Typer) -> None:
    """Add `ismgr patch ledger`."""
    topic = typer.Typer(
        help="Since when versions are known: look it up, share it with others who patch.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.command("show", epilog=EPILOG)(show)
    topic.command("sync", epilog=EPILOG)(sync)
    app.add_typer(topic, name="ledger")


def show(
    ctx: typer.Context,
    package: Annotated[
        str, typer.Argument(metavar="[PACKAGE]", help="Source packages of that name only; * and ? as in a shell.")
    ] = "*",
    ref: Ref = "HEAD",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1_000_000, help="So many at most.")] = SHOWN,
) -> int:
    """List since when versions of source packages are known to this estate, the newest first."""
    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        every = estate.first_seen()
    found = sorted(
        ((at, key) for key, at in every.items() if fnmatchcase(key.source.rpartition("/")[2], package)), reverse=True
    )
    body: JsonObject = {
        "type": "patch-ledger",
        "exit_code": int(ExitCode.DONE),
        "entries": len(found),
        "versions": [_body(at, key) for at, key in found[:limit]],
    }
    face.result(body, lambda console: _show(found, limit, console))
    return int(ExitCode.DONE)


def sync(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    remote: Annotated[
        str, typer.Option("--remote", metavar="NAME", help="The remote of this repository to share it over.")
    ] = "origin",
) -> int:
    """Join the ledger with that of a remote, for all estates in this repository. Neither side loses an entry."""
    face: Face = ctx.obj
    with looked_up(face, ref) as estate, progress(face):
        found = estate.share_first_seen(remote)
    body: JsonObject = {
        "type": "patch-ledger-sync",
        "exit_code": int(ExitCode.DONE),
        "remote": remote,
        "taken": found.taken,
        "given": found.given,
    }
    face.result(body, lambda console: console.print(_said(found, remote), markup=False))
    return int(ExitCode.DONE)


def _said(found: Exchanged, remote: str) -> str:
    if not found.taken and not found.given:
        return f"Both sides knew the same: nothing was taken from {remote}, and nothing given."
    return f"{_versions(found.taken)} taken from {remote}, {_versions(found.given)} given to it."


def _versions(count: int) -> str:
    return f"{count} version{'s' * (count != 1)}"


def _show(found: Sequence[tuple[datetime, VersionKey]], limit: int, console: Console) -> None:
    if not found:
        console.print("No such version was ever seen: `ismgr patch facts` reads hosts, and remembers what they see.")
        return
    for at, key in found[:limit]:
        line = f"{at.astimezone(UTC):%Y-%m-%d %H:%M}  {key.source} {key.version}  {key.digest}"
        console.print(line.rstrip(), markup=False)
    left = len(found) - limit
    if left > 0:
        console.print(f"[dim]and {_versions(left)} seen before; -n shows more[/]")


def _body(at: datetime, key: VersionKey) -> JsonObject:
    return {
        "source": key.source,
        "version": key.version,
        "digest": key.digest,
        "first_seen": at.astimezone(UTC).isoformat(),
    }
