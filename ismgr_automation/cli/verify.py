"""`ismgr verify`: the verification suites against the hosts, now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Excludes, Ref, Targets, Worktree
from ismgr_automation.cli.plan import opened
from ismgr_automation.core.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.ports.verification import CheckResult

EPILOG = """Examples:

  ismgr verify                            every group

  ismgr verify -t group/edges --junit verify.xml

Exit codes: 0 all passed, 6 a check failed or could not be made.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=EPILOG)(verify)


def verify(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    target: Targets = None,
    exclude: Excludes = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.")] = None,
) -> int:
    """Run the testinfra suites of host groups against their hosts, in parallel. Touches nothing."""
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.converge.report import check_json, failed_checks

    face: Face = ctx.obj
    with opened(face, ref, worktree=worktree) as estate, progress(face):
        checks = estate.verify(target or (), exclude or ())
    code = ExitCode.OBJECTIVE_MISSED if failed_checks(checks) else ExitCode.DONE
    if junit is not None:
        write_junit(checks, junit)
    face.result(
        {"type": "verify", "exit_code": int(code), "checks": [check_json(one) for one in checks]},
        lambda console: _show(checks, console),
    )
    return int(code)


def _show(checks: Sequence[CheckResult], console: Console) -> None:
    from ismgr_automation.cli.view import show_checks
    from ismgr_automation.converge.report import failed_checks

    show_checks(checks, console)
    bad = len(failed_checks(checks))
    console.print(f"{len(checks) - bad} of {len(checks)} checks passed." if checks else "There are no suites to run.")


def write_junit(checks: Sequence[CheckResult], path: Path) -> None:
    """Write checks as JUnit XML."""
    from ismgr_automation.reports.junit import junit

    try:
        path.write_text(junit(checks), encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"The file {path} cannot be written: {error.strerror}.", next_step="Name another file with --junit."
        ) from None
