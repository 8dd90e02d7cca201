"""The schema of an approval: the bytes under a signature of namespace ``ismgr-approval@v1``."""

from __future__ import annotations

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.approvals import NAMESPACE
from ismgr_automation.reports.formats.shapes import DIGEST, TEXT, YES_OR_NO, document, record


def permission() -> JsonObject:
    """What somebody signs."""
    words = "What an approval covers: canonical JSON (RFC 8785) of exactly these fields, signed with an SSH key."
    return document(NAMESPACE, words, permission_body())


def permission_body() -> JsonObject:
    """The object itself."""
    return record(
        {
            "estate": TEXT,
            "environment": TEXT,
            "digest": DIGEST,
            "not_after": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"},
            "nonce": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "break_glass": YES_OR_NO,
            "reason": TEXT,
        },
        closed=True,
    )
