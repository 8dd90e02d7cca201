"""Checks of the expressions of baselines and exemptions: rules over packages, scopes over vulnerabilities. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.estate.draft import Draft, Entry, wrong
from ismgr_automation.estate.expressions import RULE, SCOPE, Dialect, Expression, Flaw, compiled
from ismgr_automation.estate.maintenance import Exemption, PatchBaseline


def rules(draft: Draft) -> Iterator[Diagnostic]:
    """Rules of baselines compile; mistakes are shown at their place inside the expression."""
    for entry, baseline in draft.each(PatchBaseline):
        for index, rule in enumerate(baseline.rules):
            yield from _flaws(entry, ("rules", index, "when"), rule.when, RULE, f"rule {rule.name!r} of {entry.label}")


def scopes(draft: Draft) -> Iterator[Diagnostic]:
    """Scopes of exemptions compile."""
    for entry, exemption in draft.each(Exemption):
        yield from _flaws(entry, ("scope",), exemption.scope, SCOPE, f"scope of {entry.label}")


def _flaws(
    entry: Entry, path: tuple[str | int, ...], source: str, dialect: Dialect, label: str
) -> Iterator[Diagnostic]:
    found = compiled(source, dialect)
    if not isinstance(found, Expression):
        for flaw in found:
            yield wrong(_inside(entry, path, flaw), f"{label}: {flaw.summary}", flaw.expected, flaw.suggestion)


def _inside(entry: Entry, path: tuple[str | int, ...], flaw: Flaw) -> Position:
    """Where a flaw of an expression stands in the file."""
    spot = entry.marked.find(path)
    if spot.style in {"|", ">"}:
        lines = entry.marked.text.splitlines()
        # a folded text counts as one line to the expression: then the first line is as near as can be
        line = spot.line + (flaw.line if spot.style == "|" else 1)
        indent = len(lines[line - 1]) - len(lines[line - 1].lstrip()) if line <= len(lines) else 0
        return Position(entry.marked.path, line, indent + (flaw.column if spot.style == "|" else 1))
    column = spot.column + (1 if spot.style else 0) + flaw.column - 1 if flaw.line == 1 else spot.column
    return Position(entry.marked.path, spot.line, column)
