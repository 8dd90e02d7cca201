"""`ismgr drill units`: a service and a timer of systemd that ask, again and again, which drills are due. Writes two
files; nothing is installed or started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Worktree
from ismgr_automation.cli.plan import opened
from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from ismgr_automation.estate.schedule import DrillSchedule

EPILOG = """Examples:

  ismgr drill units --out units --user deploy       then look at them, and

  sudo cp units/ismgr-drill.* /etc/systemd/system/ && sudo systemctl enable --now ismgr-drill.timer
"""

SERVICE, TIMER = "ismgr-drill.service", "ismgr-drill.timer"

_STEPS = (*(1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30), *(60 * one for one in (1, 2, 3, 4, 6, 8, 12, 24)))
"""Minutes after which a day comes out even: only a calendar's times are caught up by ``Persistent=``."""

_SCATTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What the files are written from. ``command`` asks what is due, with absolute paths; ``user`` is empty for root;
    ``scatter`` is how much later than its time the timer may ask."""

    estate: str
    command: Sequence[str]
    folder: Path
    every: timedelta
    user: str = ""
    scatter: timedelta = timedelta()
    path: Sequence[str] = ()
    """Folders in which engines are looked for; those of systemd where there is none."""


def register(topic: typer.Typer) -> None:
    """Add the command to `ismgr drill`."""
    topic.command("units", epilog=EPILOG)(units)


def units(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where to write them.", file_okay=False)],
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="How often to ask what is due.")] = "5m",
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Who asks; root otherwise.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
) -> int:
    """Write a systemd service and timer that carry out what is due in this estate, with the ismgr in use."""
    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate:
        name, schedules = estate.documents.document.name, tuple(estate.documents.schedules.values())
        folder = estate.directory
    span = _every(every)
    shortest = _shortest(schedules, span)
    environment = ["-e", face.environment] if face.environment else []
    asked = Units(
        estate=name,
        command=[*_ismgr(), "-C", str(folder), *environment, "drill", "due", "--run"],
        folder=folder,
        every=span,
        user=user,
        # harmless only where there is time for it in every schedule
        scatter=min(_SCATTER, span / 10) if shortest is not None and shortest >= 2 * span else timedelta(),
        path=_found_in(),
    )
    files = {out / SERVICE: service(asked), out / TIMER: timer(asked)}
    _write(files, force=force)
    body: JsonObject = {"type": "drill-units", "files": [str(one) for one in files]}
    face.result(body, lambda console: console.print("\n".join(map(str, files)), markup=False))
    return 0


def service(asked: Units) -> str:
    """The text of the service. It may use SSH and the network, and write in the estate, in its home and in a /tmp of
    its own."""
    command = " ".join(map(_word, asked.command))
    return f"""\
# Written by `ismgr drill units`.
[Unit]
Description=Disaster-recovery drills of {_escaped(asked.estate)} that are due
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=oneshot
{f"User={asked.user}{chr(10)}" if asked.user else ""}\
WorkingDirectory={_escaped(str(asked.folder))}
{_environment(asked.path)}\
ExecStart={command}
# a drill has deadlines of its own, and one that is cut off in its middle leaves a service away from home
TimeoutStartSec=infinity
TimeoutStopSec=15min
# the client that measures outlives an ismgr that was killed, so that `ismgr resume` knows what it saw
KillMode=process
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=full
ReadWritePaths={_path(asked.folder)}
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
"""


def timer(asked: Units) -> str:
    """The text of the timer. What a machine that was off has missed is asked for once when it is on again."""
    scatter = f"RandomizedDelaySec={asked.scatter.total_seconds():g}s\n" if asked.scatter else ""
    return f"""\
# Written by `ismgr drill units`.
[Unit]
Description=Ask which disaster-recovery drills of {_escaped(asked.estate)} are due

[Timer]
OnCalendar={_calendar(asked.every)}
AccuracySec=1s
{scatter}Persistent=true

[Install]
WantedBy=timers.target
"""


def _every(text: str) -> timedelta:
    from ismgr_automation.estate.resolve import duration

    wrong = SettingsError(
        f"A timer cannot ask every {text}.",
        next_step="Write minutes or hours that make up a day: 1m, 5m, 15m, 30m, 1h, 6h, 1d.",
    )
    try:
        span = duration(text)
    except (KeyError, ValueError, OverflowError):
        raise wrong from None
    if span / timedelta(minutes=1) not in _STEPS:
        raise wrong
    return span


def _shortest(schedules: Sequence[DrillSchedule], every: timedelta) -> timedelta | None:
    """The shortest time that a drill may begin in; None without schedules. Raises ``SettingsError`` for one that the
    timer could miss."""
    from ismgr_automation.estate.resolve import duration

    if not schedules:
        return None
    # the last of it may be after the jitter
    left = {one.name: duration(one.within) - duration(one.jitter) for one in schedules}
    name = min(left, key=lambda one: left[one])
    if left[name] < every:
        raise SettingsError(
            f"Drills of schedule {name} may begin within {left[name]} only, and the timer would ask every {every}.",
            next_step="Ask more often, or give the schedule a longer `within`.",
        )
    return left[name]


def _ismgr() -> list[str]:
    """The ismgr that is in use, by its absolute path."""
    python = Path(sys.executable).absolute()
    script = python.with_name("ismgr")
    return [str(script)] if script.is_file() else [str(python), "-m", "ismgr_automation.cli"]


def _found_in() -> tuple[str, ...]:
    """Where engines are found by whoever writes the units: git, ssh and pulumi lie there, or they would not be used."""
    named = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return tuple(dict.fromkeys(one for one in named if Path(one).is_absolute() and Path(one).is_dir()))


def _environment(path: Sequence[str]) -> str:
    if not path:
        return ""
    words = _escaped(os.pathsep.join(path)).replace("\\", "\\\\").replace('"', '\\"')
    return f'# where engines (git, ssh, pulumi) were found when this was written\nEnvironment="PATH={words}"\n'


def _calendar(every: timedelta) -> str:
    """A time of systemd (``man systemd.time``)."""
    minutes = every // timedelta(minutes=1)
    if minutes < 60:  # noqa: PLR2004  an hour
        return f"*:0/{minutes}"
    return f"0/{minutes // 60}:00" if minutes < 24 * 60 else "daily"


def _word(text: str) -> str:
    """One argument of a command line of systemd: quoted, nothing in it is a specifier or a variable."""
    plain = _escaped(text).replace("$", "$$")
    if plain and not any(one in plain for one in " \t'\"\\;"):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _path(folder: Path) -> str:
    """One path of a list of them."""
    plain = _escaped(str(folder))
    return f'"{plain}"' if " " in plain else plain


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _write(files: Mapping[Path, str], *, force: bool) -> None:
    """Write all files, or none where one is there already."""
    there = [one for one in files if one.exists()]
    if there and not force:
        raise SettingsError(
            f"There is {' and '.join(map(str, there))} already.", next_step="Say --force to write over it."
        )
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise SettingsError(
            f"The units cannot be written: {problem}.", next_step="Name another folder with --out."
        ) from None
