"""Checks of the expressions of baselines and exemptions: rules over packages, scopes over vulnerabilities. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.estate.checks.groups import inside
from ismgr_automation.estate.draft import Draft, Entry, wrong
from ismgr_automation.estate.expressions import RULE, SCOPE, Dialect, Expression, compiled
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
            yield wrong(inside(entry, flaw, path), f"{label}: {flaw.summary}", flaw.expected, flaw.suggestion)
