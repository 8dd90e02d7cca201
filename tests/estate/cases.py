"""Reads the cases of tests/cases/estate: a case is a file or a folder that is laid over the tree ``base``. A line says
what it must get: ``# error@COLUMN: text`` or ``# warning@COLUMN: text``; ``error+1`` means the next line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.core.diagnostic import Diagnostic

CASES = Path(__file__).parent.parent / "cases" / "estate"
_MARK = re.compile(r"# (error|warning)(?:\+(\d+))?@(\d+): ")


@dataclass(frozen=True, slots=True)
class Expected:
    """One diagnostic that a case must get; ``text`` is the beginning of what it says."""

    path: str
    line: int
    column: int
    severity: str
    text: str

    def meets(self, one: Diagnostic) -> bool:
        place = one.position
        return (
            place is not None
            and (place.path, place.line, place.column) == (self.path, self.line, self.column)
            and str(one).removeprefix(f"{place}: ").startswith(f"{self.severity}: {self.text}")
        )


def names(folder: str) -> list[str]:
    return sorted(path.name for path in (CASES / folder).iterdir())


def lay_out(folder: str, name: str, into: Path) -> tuple[str, ...]:
    """The tree of a case; returns its files."""
    shutil.copytree(CASES / "base", into, dirs_exist_ok=True)
    case = CASES / folder / name
    if case.is_dir():
        shutil.copytree(case, into, dirs_exist_ok=True)
    else:
        shutil.copyfile(case, into / name)
    return files_of(into)


def files_of(root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))


def expected(folder: str, name: str) -> Iterator[Expected]:
    case = CASES / folder / name
    root = case if case.is_dir() else case.parent
    for path in [one for one in case.rglob("*") if one.is_file()] if case.is_dir() else [case]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            marks = list(_MARK.finditer(line))
            for index, mark in enumerate(marks):
                end = marks[index + 1].start() if index + 1 < len(marks) else len(line)
                yield Expected(
                    path=path.relative_to(root).as_posix(),
                    line=number + int(mark[2] or 0),
                    column=int(mark[3]),
                    severity=mark[1],
                    text=line[mark.end() : end].strip(),
                )
