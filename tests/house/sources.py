"""Reads the checkout for the house tests: which files there are, and their syntax trees. Judges nothing."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ismgr_automation"


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: where, its text, its tree."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text)

    @property
    def module(self) -> str:
        """The dotted name, ``ismgr_automation.core.errors``; of a package its own name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str:
        """The name below the package: ``core``, ``engines.pulumi``, ``shipped``."""
        parts = self.module.split(".")[1:]
        return ".".join(parts[: 2 if parts[:1] == ["engines"] else 1])


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def tracked() -> tuple[str, ...]:
    """Every file that Git has or would take, relative to the root, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return tuple(sorted(name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file()))


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Path and content of every file that is text."""
    return tuple(_readable())


def _readable() -> Iterator[tuple[str, str]]:
    for name in tracked():
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@cache
def python(*below: str) -> tuple[Source, ...]:
    """The Python files below the given folders; all of the checkout without one."""
    return tuple(
        Source(name, text)
        for name, text in texts()
        if name.endswith(".py") and (not below or any(name.startswith(f"{folder}/") for folder in below))
    )


def called(node: ast.Call) -> str:
    """The dotted name of what is called: ``subprocess.run``; empty for anything that has no name."""
    parts: list[str] = []
    function: ast.expr = node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return ""
    return ".".join([function.id, *reversed(parts)])
