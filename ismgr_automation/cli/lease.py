"""`ismgr lease`: who may apply now. Shows, waits, and breaks only the holder that was seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Yes
from ismgr_automation.core.errors import Cancelled, ExitCode
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ismgr_automation.ports.leases import Lease
    from ismgr_automation.ports.runs import Run
    from ismgr_automation.wiring_records import Records

EPILOG = """Examples:

  ismgr lease                       who holds it, where, since when, until when

  ismgr lease wait --for 10m        until nobody does; exit 3 when the time is over

  ismgr lease break --token 42      end the lease of a holder that is dead, or must stop

  ismgr lease advance --token 42    after the database was lost: go on above the tokens that were used
"""

BREAKING = (
    "A holder that still lives goes on until it tries to renew, at most a third of the lease's time; then its engines "
    "are killed. Until then two may work at once: hosts refuse the older token, a cloud API cannot."
)

Token = Annotated[int, typer.Option("--token", metavar="N", min=1, help="The token that `ismgr lease` shows.")]


def register(app: typer.Typer) -> None:
    """Add `ismgr lease`."""
    topic = typer.Typer(
        help="Who may apply now.",
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.callback(epilog=EPILOG)(show)
    topic.command("wait", epilog=EPILOG)(wait)
    topic.command("break", epilog=EPILOG)(break_)
    topic.command("advance", epilog=EPILOG)(advance)
    app.add_typer(topic, name="lease")


def show(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    everywhere: Annotated[bool, typer.Option("--all", help="All environments of the estate.")] = False,
) -> int:
    """Show who holds the lease of the environment: who, where, since when, until when, what for."""
    if ctx.invoked_subcommand is not None:
        return 0
    face: Face = ctx.obj
    with _records(face, ref) as records:
        found = [_look(one) for one in (_all(records) if everywhere else [records])]
    face.result({"type": "leases", "leases": [_json(*one) for one in found]}, lambda console: _table(found, console))
    return 0


def wait(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    for_: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="At most this long (30s, 10m); else without end.")
    ] = None,
) -> int:
    """Wait until nobody holds the lease. It is not taken: somebody else may be faster."""
    from ismgr_automation.cli.apply import waiting
    from ismgr_automation.ports.refusals import lease_held

    face: Face = ctx.obj
    longest = waiting(for_)
    end = time.monotonic() + longest.total_seconds() if longest is not None else float("inf")
    told = 0
    with _records(face, ref) as records:
        name = lease_name(records)
        while (held := records.leases.look(name)) is not None and not held.expired:
            if time.monotonic() >= end:
                raise lease_held(held)
            if held.token != told and not (face.json or face.quiet):
                told = held.token
                face.errors.print(f"{name} is held by {held.holder} until {_clock(held.expires_at)}, unless renewed.")
            if face.cancelled.wait(0.5):
                raise Cancelled("Stopped waiting.", untouched="Nothing was touched.")
    face.result({"type": "lease-free", "name": name}, lambda console: console.print(f"{name} is free."))
    return 0


def break_(ctx: typer.Context, token: Token, ref: Ref = "HEAD", yes: Yes = False) -> int:
    """End the lease of exactly this holder. Shows it and asks first; refuses when the token is another by now."""
    from ismgr_automation.cli.apply import confirm

    face: Face = ctx.obj
    with _records(face, ref) as records:
        name = lease_name(records)
        _, lease, run = _look(records)
        if lease is not None and lease.token == token and not face.json:
            _table([(name, lease, run)], face.errors)
            face.errors.print(BREAKING)
            confirm(face, "Break it?", yes=yes)
        elif not yes and face.json:
            confirm(face, "Break it?", yes=yes)
        records.leases.break_(name, token)
    body: JsonObject = {"type": "lease-broken", "name": name, "token": token, "run": run.id if run else ""}
    face.result(body, lambda console: _broken(name, run, console))
    return int(ExitCode.DONE)


def advance(ctx: typer.Context, token: Token, ref: Ref = "HEAD") -> int:
    """After the database was lost: later tokens are larger than this one.

    Take the largest that was ever used: `ismgr audit show` has them, and hosts in /var/lib/ismgr/fence.json. Hosts
    refuse a token that is smaller than the one they saw last.
    """
    face: Face = ctx.obj
    with _records(face, ref) as records:
        name = lease_name(records)
        now = records.leases.advance(name, token)
    face.result(
        {"type": "lease-advanced", "name": name, "token": now},
        lambda console: console.print(f"The next token of {name} is {now + 1}."),
    )
    return 0


def lease_name(records: Records) -> str:
    """The name of the lease of an environment."""
    return f"{records.estate.document.name}/{records.chosen.name}"


@contextmanager
def _records(face: Face, ref: str) -> Iterator[Records]:
    from ismgr_automation.cli.kept import kept

    with kept(face, ref) as records:
        yield records


def _all(records: Records) -> list[Records]:
    from dataclasses import replace

    from ismgr_automation.estate.resolve import environment

    document = records.estate.document
    return [replace(records, chosen=environment(document, name)) for name in sorted(document.environments)]


def _look(records: Records) -> tuple[str, Lease | None, Run | None]:
    """The lease, and the run that goes on under it."""
    from ismgr_automation.ports.runs import RunState

    name = lease_name(records)
    lease = records.leases.look(name)
    if lease is None:
        return name, None, None
    newest = records.runs.runs(records.chosen.name, limit=5)
    under = (one for one in newest if one.token == lease.token and one.state is RunState.RUNNING)
    return name, lease, next(under, None)


def _json(name: str, lease: Lease | None, run: Run | None) -> JsonObject:
    from ismgr_automation.runs.keeper import alive

    if lease is None:
        return {"name": name, "held": False}
    holder = lease.holder
    return {
        "name": name,
        "held": not lease.expired,
        "expired": lease.expired,
        "token": lease.token,
        "holder": {
            "user": holder.user,
            "host": holder.host,
            "pid": holder.pid,
            "purpose": holder.purpose,
            "alive": alive(holder),
        },
        "acquired_at": lease.acquired_at.astimezone(UTC).isoformat(),
        "expires_at": lease.expires_at.astimezone(UTC).isoformat(),
        "ttl_seconds": lease.ttl.total_seconds(),
        "run": run.id if run is not None else "",
    }


def _table(found: list[tuple[str, Lease | None, Run | None]], console: Console) -> None:
    from rich.table import Table

    for name, lease, run in found:
        if lease is None:
            console.print(f"[bold]{name}[/]  [green]free[/]")
            continue
        over = lease.expired
        console.print(f"[bold]{name}[/]  {'[yellow]its time is over[/]' if over else '[yellow]held[/]'}")
        table = Table.grid(padding=(0, 2))
        for word, value in _rows(lease, run):
            table.add_row(f"  {word}", value)
        console.print(table)
        if over:
            console.print("  The next apply takes it; nothing needs to be broken.")


def _rows(lease: Lease, run: Run | None) -> list[tuple[str, Text]]:
    """What is shown of a lease, word by word."""
    from rich.text import Text

    from ismgr_automation.runs.keeper import alive

    gone = " (no such process any more)" if alive(lease.holder) is False else ""
    rows = [
        ("who", lease.holder.user),
        ("where", f"{lease.holder.host}, process {lease.holder.pid}{gone}"),
        ("since", f"{lease.acquired_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("until", f"{_clock(lease.expires_at)} UTC{'' if lease.expired else ', unless renewed'}"),
        ("token", str(lease.token)),
        ("what for", lease.holder.purpose),
        ("run", run.id if run is not None else ""),
    ]
    return [(word, Text(value)) for word, value in rows if value]


def _broken(name: str, run: Run | None, console: Console) -> None:
    console.print(f"The lease {name} is broken: whoever comes next gets a larger token.")
    if run is not None:
        console.print(f"  Its run is unfinished; go on with `ismgr resume {run.id}`.", markup=False)


def _clock(moment: datetime) -> str:
    today = moment.astimezone(UTC)
    near = abs(datetime.now(UTC) - today) < timedelta(hours=12)
    return f"{today:%H:%M:%S}" if near else f"{today:%Y-%m-%d %H:%M:%S}"
