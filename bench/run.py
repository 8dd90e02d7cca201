"""`make bench`: runs the suite, prints a table, writes the numbers as JSON. Exits 1 when a part failed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from bench.measure import MEBIBYTE, Row
from bench.suite import ROOT, SUITE, Settings, lines

FORMAT = "ismgr.bench/1"
WIDTH = 150
"""Columns where the output is no terminal: a log keeps the whole table."""


def main() -> int:
    """Measure what the arguments name."""
    wanted = _arguments()
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ismgr-bench-") as scratch:
        settings = Settings(
            scratch=Path(scratch), runs=wanted.runs, resources=wanted.resources, documents=wanted.documents
        )
        for name in wanted.names or SUITE:
            console.print(f"==> {name}")
            for line in lines(name, settings):
                found.append(line)
                console.print("    " + "  ".join(_cells(line)), markup=False)
                if line.detail:
                    console.print(line.detail, markup=False, style="dim")
    console.print(_table(found))
    _write(wanted.json, found)
    console.print(f"Numbers: {wanted.json}", markup=False)
    return int(any(line.note.startswith("failed") for line in found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SUITE)}; all without one")
    parser.add_argument("--runs", type=int, default=5, help="how often quick things are repeated (default 5)")
    parser.add_argument("--resources", type=int, default=1000, help="how many resources (default 1000)")
    parser.add_argument("--documents", type=int, default=1000, help="how many documents (default 1000)")
    parser.add_argument("--json", type=Path, default=ROOT / "build/bench.json", metavar="FILE", help="where to write")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - SUITE.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SUITE)}")
    return wanted


def _cells(line: Row) -> tuple[str, ...]:
    if line.seconds is None:
        return (line.name, "-", "", "", "", "", line.note)
    ranged = line.fastest is not None and line.runs > 1
    spread = f"{line.fastest:.2f}-{line.slowest:.2f} of {line.runs}" if ranged else f"{line.runs} of them"
    cpu = f"{line.cpu_seconds:.2f} s" if line.cpu_seconds is not None else ""
    peak = f"{line.peak_bytes / MEBIBYTE:.0f} MiB" if line.peak_bytes is not None else ""
    load = f"{line.load:.1f}" if line.load is not None else ""
    return (line.name, f"{line.seconds:.2f} s", "1 run" if line.runs == 1 else spread, cpu, peak, load, line.note)


def _table(found: list[Row]) -> Table:
    table = Table(
        box=box.SIMPLE, caption=f"{_machine()}; wall clock, median; memory of the whole process tree, shared pages once"
    )
    for name in ("what", "time", "spread", "cpu", "peak", "load", "note"):
        side: Literal["left", "right"] = "left" if name in {"what", "note"} else "right"
        # numbers are what people came for: words give way
        table.add_column(
            name, justify=side, no_wrap=True, min_width={"time": 9, "spread": 14, "cpu": 8, "peak": 8}.get(name)
        )
    for line in found:
        table.add_row(*_cells(line))
    return table


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"


def _write(path: Path, found: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "lines": [dataclasses.asdict(line) for line in found],
    }
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
