"""The schema of a record of evidence, from the entries of ``evidence.entries``."""

from __future__ import annotations

from typing import Any

from ismgr_automation.core.json import JsonObject
from ismgr_automation.evidence import chain
from ismgr_automation.evidence.entries import ENTRIES, Resumed, RunStarted
from ismgr_automation.reports.formats.approvals import permission_body
from ismgr_automation.reports.formats.shapes import (
    DIGEST,
    MOMENT,
    TEXT,
    dataclass_of,
    document,
    one_of,
)
from ismgr_automation.reports.formats.shapes import (
    record as shape,
)

LATER = ("approvals", "break_glass")
"""Fields that came to ``resumed`` later."""


def record() -> JsonObject:
    """One line of a segment: which body it has is chosen by ``kind``."""
    words = (
        "One record of evidence: canonical JSON (RFC 8785) on a line of its own, which holds the digest of the line "
    )
    branches = [_one(kind) for kind in ENTRIES]
    return document(chain.FORMAT, words + "before it.", {"oneOf": branches})


def _one(kind: chain.Kind) -> JsonObject:
    entry = ENTRIES[kind]
    body: dict[str, Any] = dict(dataclass_of(entry))
    if entry in (RunStarted, Resumed):
        # a permission stands there as it was signed
        body["properties"]["approvals"]["items"]["properties"]["permission"] = permission_body()
    if entry is Resumed:
        # the first records of this format have none
        body["required"] = [name for name in body["required"] if name not in LATER]
    return shape(
        {
            "format": {"const": chain.FORMAT},
            "sequence": {"type": "integer", "minimum": 1},
            "at": MOMENT,
            "environment": TEXT,
            "run": TEXT,
            "kind": {"const": str(kind)},
            "body": body,
            "previous": one_of(DIGEST, {"const": ""}),
        },
        closed=True,
    )
