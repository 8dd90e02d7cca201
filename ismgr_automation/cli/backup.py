"""`ismgr backup`: what backups there are, how old the newest write in them is, and one more now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref
from ismgr_automation.cli.plan import looked_up, opened
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.backups import BackupKind

if TYPE_CHECKING:
    from ismgr_automation.converge.backups import BackupStatus

EPILOG = """Examples:

  ismgr backup status                               every backup that a RecoveryPlan speaks of, and its age

  ismgr backup run records --kind full              make one now

  ismgr drill run records --mode restore            prove that it can be restored

Exit code of `status`: 0 all is as the plans say, 6 one is missing, damaged or too old.
"""

Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The name of a RecoveryPlan.")]
SomePlan = Annotated[str, typer.Argument(metavar="[PLAN]", help="Those of this one alone.", show_default=False)]
Kind = Annotated[BackupKind, typer.Option("--kind", help="How much of its own it holds.")]


def register(app: typer.Typer) -> None:
    """Add `ismgr backup`."""
    topic = typer.Typer(
        help="See what backups there are, and make one.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.command("status", epilog=EPILOG)(status)
    topic.command("run", epilog=EPILOG)(run)
    app.add_typer(topic, name="backup")


def status(ctx: typer.Context, name: SomePlan = "", ref: Ref = "HEAD") -> int:
    """Show what repositories hold: the last backups, and how old the newest write is that can be restored."""
    from ismgr_automation.cli.backup_views import show_status
    from ismgr_automation.converge.backups import troubled

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        found = estate.backup_status(name)
    code = ExitCode.OBJECTIVE_MISSED if troubled(found) else ExitCode.DONE
    body: JsonObject = {"type": "backups", "exit_code": int(code), "backups": [_row(one) for one in found]}
    face.result(body, lambda console: show_status(found, console))
    return int(code)


def run(ctx: typer.Context, name: Plan, kind: Kind = BackupKind.INCR, ref: Ref = "HEAD") -> int:
    """Make a backup of a plan's database, and of its files, now."""
    from ismgr_automation.cli.backup_views import show_status

    face: Face = ctx.obj
    with opened(face, ref, worktree=False) as estate:
        with progress(face):
            estate.take_backup(name, kind)
        found = estate.backup_status(name)
    body: JsonObject = {"type": "backups", "exit_code": 0, "backups": [_row(one) for one in found]}
    face.result(body, lambda console: show_status(found, console))
    return int(ExitCode.DONE)


def _row(one: BackupStatus) -> JsonObject:
    return {
        "plan": one.plan,
        "what": one.what,
        "host": one.host,
        "label": one.label,
        "full_at": one.full_at.isoformat() if one.full_at is not None else None,
        "last_at": one.last_at.isoformat() if one.last_at is not None else None,
        "age_seconds": one.age.total_seconds() if one.age is not None else None,
        "allowed_seconds": one.allowed.total_seconds(),
        "stored_bytes": one.stored_bytes,
        "cipher": one.cipher,
        "wal_last": one.wal_last,
        "trouble": one.trouble,
    }
