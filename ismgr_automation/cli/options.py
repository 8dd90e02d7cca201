"""Options that several commands share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Ref = Annotated[
    str, typer.Option("--ref", metavar="REF", help="The commit, branch or tag to read.", show_default="HEAD")
]
Worktree = Annotated[bool, typer.Option("--worktree", help="Read the files as they lie here, committed or not.")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "-t", "--target", metavar="ADDRESS", help="Only this and what depends on it: stack/NAME, group/NAME, host/NAME."
    ),
]
Excludes = Annotated[
    list[str] | None,
    typer.Option("-x", "--exclude", metavar="ADDRESS", help="Leave this and what depends on it out."),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
PlanOut = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="FILE", help="Also write the plan to this file.", dir_okay=False)
]
Wait = Annotated[
    str | None,
    typer.Option("--wait", metavar="TIME", help="Wait this long (30s, 10m) for whoever is applying now."),
]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the checks as JUnit XML.")]

Hosts = Annotated[
    list[str] | None,
    typer.Option("-t", "--target", metavar="ADDRESS", help="Only these hosts: host/NAME, group/NAME, baseline/NAME."),
]
NotHosts = Annotated[
    list[str] | None, typer.Option("-x", "--exclude", metavar="ADDRESS", help="Leave these hosts out.")
]
Urgent = Annotated[
    str,
    typer.Option(
        "--urgent",
        metavar="REASON",
        help="Pass windows and freezes, and say why; needs an approval rule with urgent.",
        show_default=False,
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Show every step of long changes.")]
