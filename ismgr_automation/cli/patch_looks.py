"""The commands of `ismgr patch` that look and change no package: what is due, what hosts are like, what was done, who
waits, which exemptions hold."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Hosts, NotHosts, Ref, Worktree
from ismgr_automation.cli.plan import looked_up, opened
from ismgr_automation.cli.progress import progress
from ismgr_automation.core.errors import ExitCode, SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ismgr_automation.api import Estate
    from ismgr_automation.converge.patching import Standing
    from ismgr_automation.patching.status import Status, Tally
    from ismgr_automation.ports.packages import PackageResult

STATUS = """Examples:

  ismgr patch status                                  read the hosts, count by host

  ismgr patch status --last --by severity             by the last readings; no host is asked

  ismgr patch status --rows -t host/db1.dc1           each vulnerability of one host

  ismgr patch status --last --check                   for a pipeline: exit 6 when something is breached or unknown

  ismgr patch status --csv status.csv                 all rows for a spreadsheet; `--csv -` prints them

What nobody rated is unknown, and so is a host that was never read: unknown counts as breach, and so do advisories that
cannot be read.

Exit codes: 0 looked; with --check 6 when something is breached or unknown.
"""

FACTS = """Examples:

  ismgr patch facts                          read all hosts with a baseline

  ismgr patch facts -t host/db1.dc1          one host

  ismgr patch facts --refresh                let the hosts read their repositories' indexes first

  ismgr --json patch facts --last            the last readings whole, with every package

Exit codes: 0 all were read, 4 a host could not be read, or could not refresh.
"""

HISTORY = """Examples:

  ismgr patch history                        what runs installed, the newest first

  ismgr patch history --host db1.dc1 -n 5    the last five runs on one host
"""

QUEUE = """Examples:

  ismgr patch queue                          who waits since when, and until when

  ismgr patch catch-up                       patch those that answer now
"""

VEX = """Examples:

  ismgr patch vex --out openvex.json         for a scanner that knows OpenVEX

  ismgr patch vex --author "Security, Clinic AG <security@example.org>"

Hosts are taken as they were read last (`ismgr patch facts` reads them).
"""


class By(StrEnum):
    """What is counted together."""

    HOST = "host"
    GROUP = "group"
    SERVICE = "service"
    SEVERITY = "severity"


Last = Annotated[bool, typer.Option("--last", help="By the last readings: no host is asked.")]


def status(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Hosts = None,
    exclude: NotHosts = None,
    by: Annotated[By, typer.Option("--by", help="What is counted together.")] = By.HOST,
    rows: Annotated[bool, typer.Option("--rows", help="A line for each vulnerability.")] = False,
    last: Last = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all rows as CSV; - is stdout.", dir_okay=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 6 when something is breached or unknown.")] = False,
) -> int:
    """Show what is due where and by when: vulnerabilities by state, exemptions too. Touches nothing."""
    from ismgr_automation.cli import patch_views

    face: Face = ctx.obj
    printed = csv_file is not None and str(csv_file) == "-"
    if printed and face.json:
        raise SettingsError(
            "Both --json and --csv - write to stdout.", next_step="Give --csv a file, or leave one out."
        )
    with opened(face, ref, worktree=worktree) as estate, progress(face):
        found = estate.patch_status(target or (), exclude or (), read=not last)
    code = ExitCode.OBJECTIVE_MISSED if check and not _well(found) else ExitCode.DONE
    if csv_file is not None and not printed:
        _write(csv_file, _csv(found.status), "--csv")

    def show(console: Console) -> None:
        if printed:
            typer.echo(_csv(found.status), nl=False)
        else:
            patch_views.show_status(found, console, tallies=() if rows else _tallies(found.status, by), rows=rows)

    face.result(_status_json(found, code, rows=rows), show)
    return int(code)


def facts(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Hosts = None,
    exclude: NotHosts = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Let hosts read their repositories' indexes first (apt-get update).")
    ] = False,
    last: Last = False,
) -> int:
    """Read hosts: packages, what could be upgraded, holds, damage, restarts that are due, and whether a reboot is.

    No package is touched.
    """
    from ismgr_automation.cli import patch_views

    face: Face = ctx.obj
    if refresh and last:
        raise SettingsError("--last asks no host, and --refresh all of them.", next_step="Leave one of them out.")
    with opened(face, ref, worktree=worktree) as estate, progress(face):
        failed = _refreshed(estate, target, exclude) if refresh else {}
        reading = estate.facts(target or (), exclude or (), read=not last)
    code = ExitCode.ENGINE if reading.lost or failed else ExitCode.DONE
    body: JsonObject = {
        "type": "patch-facts",
        "exit_code": int(code),
        "hosts": [patch_views.facts_body(one) for _, one in sorted(reading.facts.items())],
        "lost": [
            {"host": name, "reach": str(one.reach), "detail": one.detail} for name, one in sorted(reading.lost.items())
        ],
        "not_refreshed": [
            {"host": name, "fate": str(one.fate), "trouble": str(one.trouble), "detail": one.detail}
            for name, one in sorted(failed.items())
        ],
    }
    face.result(body, lambda console: patch_views.show_facts(reading, failed, console))
    return int(code)


def history(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Of one host only.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=10_000, help="So many at most.")] = 50,
) -> int:
    """List what runs installed on which host, the newest first. What can be rolled back is in it."""
    from ismgr_automation.cli import patch_views

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        found = estate.patched(host.removeprefix("host/") if host is not None else None, limit)
    body: JsonObject = {"type": "patch-history", "patched": [patch_views.patched_body(one) for one in found]}
    face.result(body, lambda console: patch_views.show_history(found, console))
    return 0


def queue(ctx: typer.Context, ref: Ref = "HEAD") -> int:
    """List hosts that were away when it was their turn: since when, and until when they may be caught up."""
    from ismgr_automation.cli import patch_views

    face: Face = ctx.obj
    now = datetime.now(UTC)
    with looked_up(face, ref) as estate:
        found = estate.waiting()
    body: JsonObject = {"type": "patch-queue", "waiting": [patch_views.waiting_body(one, now) for one in found]}
    face.result(body, lambda console: patch_views.show_queue(found, now, console))
    return 0


def vex(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    author: Annotated[
        str | None,
        typer.Option("--author", metavar="AUTHOR", help="Who says it; the estate's owner and name otherwise."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write it there.", dir_okay=False)
    ] = None,
) -> int:
    """Write the exemptions that hold, and the packages that they cover, as an OpenVEX document."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        document = estate.open_vex(author or f"{estate.documents.document.owner} of {estate.documents.document.name}")
    text = json.dumps(document, indent=2) + "\n"
    if out is None:
        face.result({"type": "patch-vex", "document": document}, lambda _console: typer.echo(text, nl=False))
        return 0
    _write(out, text, "--out")
    statements = document["statements"]
    count = len(statements) if isinstance(statements, list) else 0
    body: JsonObject = {"type": "patch-vex", "file": str(out), "statements": count}
    face.result(body, lambda console: console.print(f"{count} statements in {out}.", markup=False))
    return 0


def _refreshed(estate: Estate, target: list[str] | None, exclude: list[str] | None) -> Mapping[str, PackageResult]:
    """Let hosts read their lists; those that could not."""
    from ismgr_automation.ports.packages import PackageFate

    well = {PackageFate.DONE, PackageFate.NOTHING}
    return {one.host: one for one in estate.refresh(target or (), exclude or ()) if one.fate not in well}


def _well(found: Standing) -> bool:
    """Whether nothing is breached or unknown. Where advisories could not be read, or speak of other releases, nobody
    knows."""
    from ismgr_automation.patching.status import met
    from ismgr_automation.planning.change import Level

    return met(found.status) and not found.unadvised and not any(one.level is Level.DENY for one in found.findings)


def _tallies(one: Status, by: By) -> Sequence[Tally]:
    match by:
        case By.HOST:
            return one.hosts
        case By.GROUP:
            return one.groups
        case By.SERVICE:
            return one.services
        case By.SEVERITY:
            return one.severities


def _status_json(found: Standing, code: ExitCode, *, rows: bool) -> JsonObject:
    from ismgr_automation.cli import patch_views
    from ismgr_automation.patching import status as counted
    from ismgr_automation.planning.plan import finding_json

    one = found.status
    listed = {"rows": [counted.values(row) for row in counted.rows(one)]} if rows else {}
    return {
        "type": "patch-status",
        "exit_code": int(code),
        "day": one.day.isoformat(),
        "met": _well(found),
        "total": counted.tally_values(one.total),
        "hosts": [counted.tally_values(each) for each in one.hosts],
        "groups": [counted.tally_values(each) for each in one.groups],
        "services": [counted.tally_values(each) for each in one.services],
        "severities": [counted.tally_values(each) for each in one.severities],
        "unread": list(one.unread),
        "oldest_reading": found.oldest.astimezone(UTC).isoformat() if found.oldest is not None else None,
        "sources": [patch_views.source_body(each) for each in found.sources],
        "findings": [finding_json(each) for each in found.findings],
        **listed,
    }


def _csv(one: Status) -> str:
    from ismgr_automation.patching.status import COLUMNS, cells, rows

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(cells(row) for row in rows(one))
    return text.getvalue()


def _write(path: Path, text: str, option: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as problem:
        raise SettingsError(
            f"Cannot write {path}: {problem.strerror}.", next_step=f"Name a file that you may write with {option}."
        ) from None
