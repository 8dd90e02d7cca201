"""What the acts of the demo share: the estate that they play in, their words, and the look at whether the service still
answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ismgr_automation.cli.demo import PAGE, demo
from ismgr_automation.cli.face import Face
from ismgr_automation.core.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.api import Estate
    from ismgr_automation.lab import Lab


def first_act(ctx: typer.Context, folder: Path) -> int:
    """Make the demo's estate and machines where they are not there; its exit code."""
    return 0 if (folder / ".git").exists() and _is_up() else demo(ctx, folder)


def opened(face: Face, folder: Path) -> Estate:
    """The demo's estate."""
    from ismgr_automation.api import Estate

    return Estate.open(folder, emit=face.emit, wiring=face.wiring)


def say(face: Face, words: str) -> None:
    """Tell people what comes next."""
    if not face.json and not face.quiet:
        face.errors.print(words, highlight=False, soft_wrap=True)


def still_answers(lab: Lab, next_step: str) -> None:
    """Raise ``SettingsError`` where the service does not answer any more."""
    asked = lab.run("client", ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", PAGE])
    if asked.code != 0:
        raise SettingsError(
            f"The service does not answer at {PAGE} any more: {asked.stderr.strip()}.", next_step=next_step
        )


def curtain(console: Console, words: str, lines: tuple[str, ...]) -> None:
    """The end of an act: how it went, and what to try next."""
    console.print(f"\n[bold green]{words}[/]\n")
    console.print("Try next:")
    for line in lines:
        console.print(f"  {line}", markup=False)


def _is_up() -> bool:
    from ismgr_automation.lab import Lab

    try:
        return all(one.on for one in Lab.find("demo").status().machines)
    except SettingsError:
        return False
