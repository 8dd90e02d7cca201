"""The `ismgr` command: global options, the list of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ismgr_automation import __version__
from ismgr_automation.cli.face import Face, leave_stdout
from ismgr_automation.core.errors import Cancelled, ExitCode, InternalError, IsmgrError, SettingsError

if TYPE_CHECKING:
    from ismgr_automation.api import Wiring

TOPICS = (
    *(
        "demo",
        "demo_patch",
        "demo_drill",
        "estate",
        "plan",
        "approve",
        "apply",
        "resume",
        "runs",
        "drift",
        "verify",
        "destroy",
    ),
    *("patch", "drill", "audit", "report", "trust", "lease", "window", "worker", "secrets", "inventory", "galaxy"),
    *("backup", "engine", "lab"),
)
"""Modules below ``cli``; each has ``register(app)``."""

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What the command line library raises for wrong arguments; only a child of it has a public name."""

SWITCHES = ("--json", "-q", "--quiet")
"""Global options without a value; they may stand after the command as well."""

GLOBAL = ("-C", "--directory", "-e", "--environment", "--version")
"""Options that stand before the command."""

EPILOG = """Examples:

  ismgr init infra && cd infra     start an estate

  ismgr plan                       what would change, and why (exit 2 when something would)

  ismgr apply                      plan, ask, apply, verify

  ismgr -C build/demo drift        what somebody changed by hand
"""


class _InOrder(TyperGroup):
    """Lists commands in the order of a day's work, not of the alphabet."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(self.commands)


def build() -> typer.Typer:
    """The whole command line as a value; documentation is generated from it."""
    app = typer.Typer(
        cls=_InOrder,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    app.callback()(_options)
    for topic in TOPICS:
        importlib.import_module(f"ismgr_automation.cli.{topic}").register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ismgr {__version__}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Option("-C", "--directory", metavar="DIR", help="Where the estate is.", file_okay=False)
    ] = Path(),
    environment: Annotated[
        str | None, typer.Option("-e", "--environment", help="Which environment; the estate's default otherwise.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print versioned JSON lines: events, then the result.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, only the result.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One plan across cloud, metal and hosts: Pulumi stacks and Ansible playbooks from one Git repository."""
    face: Face = ctx.obj
    face.directory = directory
    face.environment = environment
    face.json = json
    face.quiet = quiet


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # an odd byte in a diff, or a terminal that knows ASCII only, is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str], *, wiring: Wiring | None = None) -> int:
    """Run one command line and return its exit code: never raises, never exits.

    The first Ctrl-C (or SIGTERM) asks the run to stop cleanly; the second one interrupts it where it is. ``wiring`` is
    what stands behind the estate's ports instead of the real world.
    """
    # a slip before the options are read must be told in the format that was asked for as well
    face = Face(wiring=wiring, json="--json" in arguments)
    restore = _listen(face) if threading.current_thread() is threading.main_thread() else _nothing
    try:
        return _call(arguments, face)
    except IsmgrError as problem:
        face.error(problem)
        return int(problem.exit_code)
    except SystemExit as left:
        # the library that prints help ends the process when nobody reads it
        return left.code if isinstance(left.code, int) else int(ExitCode.INTERNAL)
    except KeyboardInterrupt:
        face.error(Cancelled("Interrupted.", next_step="Run `ismgr plan` to see where things stand."))
        return int(ExitCode.CANCELLED)
    except BrokenPipeError:
        # the reader of our output went away; Python would complain again at exit
        leave_stdout()
        return int(ExitCode.DONE)
    except Exception:  # noqa: BLE001  the last line of defence: a bug must say that it is one
        _report_bug(face)
        return int(ExitCode.INTERNAL)
    finally:
        restore()


def _call(arguments: list[str], face: Face) -> int:
    command = typer.main.get_command(build())
    try:
        outcome = command.main(switches_first(arguments), prog_name="ismgr", standalone_mode=False, obj=face)
    except typer.Abort:
        raise Cancelled("Stopped.", untouched="Nothing was touched.") from None
    except USAGE_ERROR as problem:
        # the library would exit with 2, which means "changes found" here
        return _usage(problem, face)
    sys.stdout.flush()
    return int(outcome) if isinstance(outcome, int) else int(ExitCode.DONE)


def switches_first(arguments: list[str]) -> list[str]:
    """Global switches may stand anywhere before a ``--``: people write them where they think of them.

    >>> switches_first(["plan", "--json"])
    ['--json', 'plan']
    """
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    found = [one for one in ours if one in SWITCHES]
    return [*found, *(one for one in ours if one not in SWITCHES), *arguments[len(ours) :]]


def _usage(problem: Any, face: Face) -> int:
    words: str = problem.format_message()
    if not words:  # no command given: the help has been printed
        return int(ExitCode.INPUT)
    where = problem.ctx.command_path if problem.ctx is not None else "ismgr"
    hint = " Global options come first: `ismgr -C infra plan`." if getattr(problem, "option_name", "") in GLOBAL else ""
    face.error(SettingsError(words, next_step=f"`{where} --help` shows what it takes.{hint}"))
    return int(ExitCode.INPUT)


def _nothing() -> None:
    return None


def _listen(face: Face) -> Callable[[], None]:
    """Turn the first SIGINT or SIGTERM into the cancel event; gives back the way to undo it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if face.cancelled.is_set() or face.asking:
            raise KeyboardInterrupt
        face.cancelled.set()
        if number == signal.SIGINT:
            # not through sys.stderr: it may be in the middle of a write
            os.write(2, b"\nStopping: nothing new is started; press Ctrl-C again to leave at once.\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _report_bug(face: Face) -> None:
    face.error(
        InternalError(
            f"This is a bug in ismgr {__version__}: {sys.exc_info()[1]!r}.",
            untouched="What had been applied before it stays applied.",
            next_step="Please report it with the text below.",
        )
    )
    if not face.json:
        traceback.print_exc()
