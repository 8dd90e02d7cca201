"""JSON Schemas of what we write for machines and keep for years: one module a format. Generated from our types where
there are types, so that no schema can fall behind. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.reports.formats import approvals, events, evidence, plans, results, sign_offs

FORMATS: Mapping[str, Callable[[], JsonObject]] = {
    "plan": plans.plan,
    "event": events.event,
    "result": results.result,
    "report": results.report,
    "evidence": evidence.record,
    "approval": approvals.permission,
    "sign-off": sign_offs.sign_off,
}
"""What builds the schema of each format, by the name that `ismgr schema --format` takes."""


def schema(name: str) -> JsonObject:
    """The schema of one format. Raises ``SettingsError`` for one that does not exist."""
    if name not in FORMATS:
        near = did_you_mean(name, FORMATS)
        hint = f" Did you mean {near}?" if near else ""
        raise SettingsError(f"There is no format {name!r}.{hint}", next_step=f"Formats are {', '.join(FORMATS)}.")
    return FORMATS[name]()
