"""`ismgr lab`: the data center in a box, from the command line. It asks the lab and prints; nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ismgr_automation.cli.face import Face
from ismgr_automation.core.events import Emit, Event, StepReported
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from ismgr_automation.lab import Lab, Status
    from ismgr_automation.lab.patches import Prepared
    from ismgr_automation.lab.snapshots import Snapshot

DEFAULT_NAME = "demo"
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Which lab.")]
Server = Annotated[str, typer.Argument(help="A machine's full name, such as db1.dc1.")]
SnapshotName = Annotated[str, typer.Argument(help="What the snapshot is called.")]

UP_EPILOG = """Examples:

  ismgr lab up                              make the lab `demo`, or repair it

  ismgr lab up --write build/demo           and write its sites and secrets into an estate

  ismgr lab up --spare --write build/demo   with a machine for isolated drills at dc2

  ismgr lab up --name mine                  a second one beside it, with addresses of its own
"""
STATUS_EPILOG = """Examples:

  ismgr lab status                          machines, power, addresses

  ismgr --json lab status --name mine       the same for a program
"""
SSH_EPILOG = """Examples:

  ismgr lab ssh db1.dc1                     a shell on a machine that is on

  ismgr lab ssh client -- curl -s http://10.43.0.11/
"""
PATCHES_EPILOG = """Examples:

  ismgr lab patches                         machines that are on get packages with something to patch

  ismgr lab patches --reset                 everything as it was before it was patched
"""
SNAPSHOT_EPILOG = """Examples:

  ismgr lab snapshot create db1.dc1 before-patch

  ismgr lab snapshot restore db1.dc1 before-patch
"""
SNAPSHOT_CREATE_EPILOG = """Examples:

  ismgr lab snapshot create db1.dc1 before-patch

Exit codes: 0 kept, 3 there is one of this name already, which stays as it is.
"""
SNAPSHOT_RESTORE_EPILOG = """Examples:

  ismgr lab snapshot restore db1.dc1 before-patch
"""
SNAPSHOT_LIST_EPILOG = """Examples:

  ismgr lab snapshot list db1.dc1
"""
SNAPSHOT_REMOVE_EPILOG = """Examples:

  ismgr lab snapshot remove db1.dc1 before-patch
"""
DOWN_EPILOG = """Examples:

  ismgr lab down                            remove the lab `demo`; nothing of it stays

  ismgr lab down --name mine --images       and the image that machines start from, which costs a minute to build
"""


def register(app: typer.Typer) -> None:
    """Add `ismgr lab`."""
    lab = typer.Typer(
        no_args_is_help=True, rich_markup_mode="markdown", help="A data center in a box, to try and test."
    )
    lab.command(epilog=UP_EPILOG)(up)
    lab.command(epilog=STATUS_EPILOG)(status)
    lab.command(epilog=SSH_EPILOG)(ssh)
    lab.command(epilog=PATCHES_EPILOG)(patches)
    lab.command(epilog=DOWN_EPILOG)(down)
    snapshot = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="What a machine has on its disk, kept and put back.",
        epilog=SNAPSHOT_EPILOG,
    )
    snapshot.command("create", epilog=SNAPSHOT_CREATE_EPILOG)(snapshot_create)
    snapshot.command("restore", epilog=SNAPSHOT_RESTORE_EPILOG)(snapshot_restore)
    snapshot.command("list", epilog=SNAPSHOT_LIST_EPILOG)(snapshot_list)
    snapshot.command("remove", epilog=SNAPSHOT_REMOVE_EPILOG)(snapshot_remove)
    lab.add_typer(snapshot, name="snapshot")
    app.add_typer(lab, name="lab")


def up(
    ctx: typer.Context,
    name: Name = DEFAULT_NAME,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Write sites, secrets and BMC trust there.", file_okay=False),
    ] = None,
    spare: Annotated[
        bool, typer.Option("--spare", help="A machine for clones at dc2 too, on a network of its own.")
    ] = False,
) -> None:
    """Make two sites of four machines with BMCs, gateways, a name server and a client; safe to repeat.

    The machines of the sites are off until their BMC is told otherwise. The first run builds an image (a minute).
    """
    from ismgr_automation.lab import Lab

    face: Face = ctx.obj
    lab = Lab.up(name, _emit(face), face.cancelled, spare=spare)
    written = lab.write(write) if write is not None else ()
    body: JsonObject = {**_body(lab.status()), "written": [str(path) for path in written]}

    def human(console: Console) -> None:
        for path in written:
            console.print(f"wrote {write}/{path}", markup=False)
        console.print(f"Lab {name} is up. `ismgr lab status{_option(name)}` shows its machines.", markup=False)

    face.result(body, human)


def status(ctx: typer.Context, name: Name = DEFAULT_NAME) -> None:
    """Show the machines of a lab: power, addresses, BMCs, and what is wrong with the lab if something is."""
    from ismgr_automation.lab import Lab

    face: Face = ctx.obj
    found = Lab.find(name).status()
    face.result(_body(found), lambda console: _table(console, found))


def ssh(
    machine: Annotated[str, typer.Argument(help="A machine's full name, such as db1.dc1, ns or client.")],
    command: Annotated[list[str] | None, typer.Argument(help="A command; without one, a shell.")] = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Log in to a machine with the lab's own key; its host key is checked."""
    import subprocess

    from ismgr_automation.core.errors import Unreachable
    from ismgr_automation.lab import Lab

    lab = Lab.find(name)
    if not next(one.on for one in lab.status().machines if one.machine == lab.machine(machine)):
        raise Unreachable(
            f"{machine} is off.",
            engine="lab",
            subject=machine,
            cause="refused",
            next_step="Its BMC switches it on: `ismgr apply` of the stack that owns it does that.",
        )
    # the session belongs to the user's terminal: no deadline, no captured output
    ended = subprocess.run(lab.ssh_command(machine, command or ()), check=False)
    raise typer.Exit(ended.returncode)


def patches(
    ctx: typer.Context,
    name: Name = DEFAULT_NAME,
    reset: Annotated[bool, typer.Option("--reset", help="Also machines that were patched.")] = False,
) -> None:
    """Offer updates of small packages, and see that machines that are on have the versions before; safe to repeat.

    The packages come from a signed repository on the lab's machine `ns`, which also serves firmware images.
    """
    from ismgr_automation.lab import Lab

    face: Face = ctx.obj
    lab = Lab.find(name)
    prepared = lab.publish_patches(reset=reset)
    body: JsonObject = {
        "type": "lab-patches",
        "name": name,
        "url": lab.repository.url,
        "fingerprint": lab.repository.fingerprint,
        "machines": [{"machine": one.machine, "fate": str(one.fate)} for one in prepared],
        "offered": [
            {"package": one.name, "version": one.version, "suite": one.suite, "digest": one.digest}
            for one in lab.repository.offered()
        ],
    }
    face.result(body, lambda console: _patches(console, lab, prepared))


def snapshot_create(ctx: typer.Context, machine: Server, snapshot: SnapshotName, name: Name = DEFAULT_NAME) -> None:
    """Keep what a machine has on its disk; one that is on stands still for a moment."""
    from ismgr_automation.lab import Lab

    taken = Lab.find(name).snapshots.create(machine, snapshot)
    _tell(ctx.obj, "kept", taken)


def snapshot_restore(ctx: typer.Context, machine: Server, snapshot: SnapshotName, name: Name = DEFAULT_NAME) -> None:
    """Put back what a machine had on its disk; one that is on is switched off and on."""
    from ismgr_automation.lab import Lab

    taken = Lab.find(name).snapshots.restore(machine, snapshot)
    _tell(ctx.obj, "put back", taken)


def snapshot_list(ctx: typer.Context, machine: Server, name: Name = DEFAULT_NAME) -> None:
    """Show the snapshots of a machine, the oldest first."""
    from ismgr_automation.lab import Lab

    _tell(ctx.obj, "there", *Lab.find(name).snapshots.of(machine))


def snapshot_remove(ctx: typer.Context, machine: Server, snapshot: SnapshotName, name: Name = DEFAULT_NAME) -> None:
    """Remove a snapshot."""
    from ismgr_automation.lab import Lab

    Lab.find(name).snapshots.remove(machine, snapshot)
    _tell(ctx.obj, "removed")


def down(
    ctx: typer.Context,
    name: Name = DEFAULT_NAME,
    images: Annotated[bool, typer.Option("--images", help="Also the images that machines start from.")] = False,
) -> None:
    """Remove a lab, whatever state it is in: machines, networks, processes, filters, settings, folder."""
    from ismgr_automation import lab

    face: Face = ctx.obj
    removed = lab.down(name, _emit(face))
    if images:
        removed += tuple(f"image {reference}" for reference in lab.remove_images())
    body: JsonObject = {"type": "lab-down", "name": name, "removed": list(removed)}
    what = f"Lab {name} is gone: {len(removed)} things removed." if removed else f"There is no lab {name}."
    face.result(body, lambda console: console.print(what, markup=False))


def _emit(face: Face) -> Emit:
    """Events for machines as they are; for people, each step as a line on stderr unless a view is there already."""
    if face.json or face.watch is not None or getattr(face, "quiet", False):
        return face.emit

    def line(event: Event) -> None:
        if isinstance(event, StepReported):
            seconds = f" ({event.seconds:.1f} s)" if event.seconds is not None else ""
            face.errors.print(f"{event.step:>9}  {event.detail}{seconds}", markup=False)

    return line


def _body(found: Status) -> JsonObject:
    return {
        "type": "lab",
        "name": found.record.name,
        "index": found.record.index,
        "phase": str(found.record.phase),
        "image": found.record.image,
        "problems": list(found.problems),
        "window": {
            "address": str(found.record.topology.window.address),
            "routes": [{"to": one.to, "via": str(one.via)} for one in found.record.topology.window.routes],
        },
        "machines": [
            {
                "name": one.machine.name,
                "role": str(one.machine.role),
                "site": str(one.machine.site) if one.machine.site else None,
                "power": "on" if one.on else "off",
                "addresses": {str(card.segment): str(card.address) for card in one.machine.interfaces},
                "bmc": str(one.machine.bmc) if one.machine.bmc else None,
            }
            for one in found.machines
        ],
    }


def _tell(face: Face, what: str, *snapshots: Snapshot) -> None:
    """What was done with which snapshots."""
    rows = [{"machine": one.machine, "name": one.name, "taken_at": one.taken_at.isoformat()} for one in snapshots]
    body: JsonObject = {"type": "lab-snapshots", "what": what, "snapshots": [*rows]}

    def human(console: Console) -> None:
        for one in snapshots:
            line = f"{what}: {one.machine} {one.name}, taken {one.taken_at:%Y-%m-%d %H:%M:%S} UTC"
            console.print(line, markup=False, soft_wrap=True)
        if not snapshots:
            console.print(what if what == "removed" else "There is no snapshot.", markup=False)

    face.result(body, human)


def _patches(console: Console, lab: Lab, prepared: Sequence[Prepared]) -> None:
    from rich.table import Table

    table = Table("package", "version", "suite", box=None, pad_edge=False)
    for offer in lab.repository.offered():
        table.add_row(offer.name, offer.version, offer.suite)
    console.print(table)
    for fate in dict.fromkeys(one.fate for one in prepared):
        names = ", ".join(one.machine for one in prepared if one.fate is fate)
        console.print(f"{fate}: {names}", markup=False, soft_wrap=True)
    console.print(f"{lab.repository.url} is signed by {lab.repository.fingerprint}", markup=False, soft_wrap=True)


def _table(console: Console, found: Status) -> None:
    from rich.table import Table

    table = Table("machine", "power", "management", "networks", "BMC", box=None, pad_edge=False)
    for one in found.machines:
        cards = [card for card in one.machine.interfaces if card.segment.value != "management"]
        table.add_row(
            one.machine.name,
            "on" if one.on else "off",
            str(one.machine.management),
            ", ".join(f"{card.segment} {card.address}" for card in cards),
            f"https://{one.machine.bmc}" if one.machine.bmc else "-",
        )
    console.print(table)
    window = found.record.topology.window
    ways = " and ".join(f"{one.to} via {one.via}" for one in window.routes)
    console.print(f"this host: wan {window.address}, to {ways}", markup=False, soft_wrap=True)
    for problem in found.problems:
        console.print(f"problem: {problem}", markup=False)
    if found.problems:
        console.print(f"`ismgr lab up{_option(found.record.name)}` repairs it.", markup=False)


def _option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"
