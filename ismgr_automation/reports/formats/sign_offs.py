"""The schema of a sign-off: the bytes under a signature of namespace ``ismgr-sign-off@v1``."""

from __future__ import annotations

from ismgr_automation.core.json import JsonObject
from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE
from ismgr_automation.recovery.topics import SignRole
from ismgr_automation.reports.formats.shapes import DIGEST, TEXT, document, record


def sign_off() -> JsonObject:
    """What somebody signs."""
    words = "What is signed under the result of a drill: canonical JSON (RFC 8785) of exactly these fields."
    return document(SIGN_OFF_NAMESPACE, words, _body())


def _body() -> JsonObject:
    return record(
        {
            "as": {"enum": [str(one) for one in SignRole]},
            "at": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"},
            "digest": DIGEST,
            "environment": TEXT,
            "estate": TEXT,
            "run": TEXT,
        },
        closed=True,
    )
