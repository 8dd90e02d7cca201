"""The schema of plan files, every format of them that can be read."""

from __future__ import annotations

from ismgr_automation.core.json import JsonObject
from ismgr_automation.planning.change import Action, Certainty, Level, Reason
from ismgr_automation.planning.plan import FIRST_FORMAT, FORMAT, Purpose
from ismgr_automation.ports.packages import Need
from ismgr_automation.reports.formats.shapes import (
    ADDRESS,
    ANYTHING,
    DIGEST,
    MOMENT,
    TEXT,
    WHOLE,
    YES_OR_NO,
    choice,
    document,
    listed,
    named,
    one_of,
    record,
)

NAMES = named(TEXT)


def plan() -> JsonObject:
    """A plan file: what its digest covers (``intent``), what stands beside it, and a checksum over all of it."""
    words = "A plan file. `digest` is over the canonical JSON of `intent`, `checksum` over everything else in the file."
    return document(FORMAT, words, {"oneOf": [_plan(one) for one in (FORMAT, FIRST_FORMAT)]})


def step() -> JsonObject:
    """One resource or task."""
    return record(
        {
            "target": TEXT,
            "what": TEXT,
            "action": choice(Action),
            "certainty": choice(Certainty),
            "why": TEXT,
            "where": TEXT,
            "before": ANYTHING,
            "after": ANYTHING,
        },
        optional=("why", "where", "before", "after"),
        closed=True,
    )


def deferred() -> JsonObject:
    """What waits, and the bounds that were signed for it."""
    envelope = {"content": TEXT, "at_most": WHOLE, "unknown": listed(TEXT), "actions": listed(choice(Action))}
    return record(
        {
            "address": ADDRESS,
            "waits_for": listed(ADDRESS),
            "why": TEXT,
            "expected": listed(ADDRESS),
            "envelope": record(envelope, closed=True),
        },
        closed=True,
    )


def _plan(format_: str) -> JsonObject:
    return record(
        {
            "format": {"const": format_},
            "digest": DIGEST,
            "intent": _intent(format_),
            "beside": _beside(format_),
            "checksum": DIGEST,
        },
        closed=True,
    )


def _intent(format_: str) -> JsonObject:
    return record(
        {
            "format": {"const": format_},
            "estate": TEXT,
            "environment": TEXT,
            "purpose": choice(Purpose),
            "inputs": _inputs(format_),
            "changes": listed(_change(format_)),
            "waves": listed(listed(TEXT)),
            "deferred": listed(deferred()),
        },
        closed=True,
    )


def _inputs(format_: str) -> JsonObject:
    first = {
        "documents": NAMES,
        "content": NAMES,
        "inventory": TEXT,
        "states": NAMES,
        "engines": NAMES,
        "selection": listed(TEXT),
    }
    return record(first if format_ == FIRST_FORMAT else {**first, "policies": NAMES, "secrets": NAMES}, closed=True)


def _change(format_: str) -> JsonObject:
    first = {
        "address": ADDRESS,
        "part": WHOLE,
        "action": choice(Action),
        "targets": listed(ADDRESS),
        "inputs": TEXT,
        "precondition": TEXT,
        "steps": listed(step()),
    }
    return record(first if format_ == FIRST_FORMAT else {**first, "batch": WHOLE, "constraint": TEXT}, closed=True)


def _beside(format_: str) -> JsonObject:
    moved = {"address": ADDRESS, "target": TEXT, "what": TEXT, "before": ANYTHING, "after": ANYTHING}
    finding = {"level": choice(Level), "subject": ADDRESS, "summary": TEXT, "next_step": TEXT}
    nothing: JsonObject = {"type": "null"}
    later = {"expires_at": one_of(MOMENT, nothing), "sidecars": NAMES, "forecasts": named(_forecast())}
    later["occasion"] = record({"schedule": TEXT, "at": MOMENT})
    return record(
        {
            "commit": TEXT,
            "ref": TEXT,
            "worktree": YES_OR_NO,
            "created_at": MOMENT,
            **(later if format_ != FIRST_FORMAT else {}),
            "complete": YES_OR_NO,
            "applicable": YES_OR_NO,
            "errored": YES_OR_NO,
            "reasons": named(choice(Reason)),
            "drift": listed(record(moved)),
            "findings": listed(record(finding)),
        },
        optional=("forecasts", "occasion"),
    )


def _forecast() -> JsonObject:
    """What is expected of a change; nothing is decided from it."""
    services = one_of(listed(TEXT), {"type": "null"})
    host = {"host": TEXT, "reboot": choice(Need), "why": listed(TEXT), "services": services, "then": TEXT}
    return record(
        {"takes_seconds": WHOLE, "source": TEXT, "soak_seconds": WHOLE, "hosts": listed(record(host))},
    )
