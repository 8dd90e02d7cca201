"""The `ismgr` command: global options, the list of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from ismgr_automation import __version__
from ismgr_automation.cli.face import Face
from ismgr_automation.core.errors import ExitCode, IsmgrError

COMMANDS = {
    "estate": ("init", "validate", "schema"),
    "engine": ("engine",),
    "lab": ("lab",),
}
"""Module below ``cli`` -> the names it adds. A module is imported only when one of its commands is called."""


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; never raises, never exits."""
    raise NotImplementedError
