"""Holders as JSON text in a column, and back. No other room reads that text."""

from __future__ import annotations

import json

from ismgr_automation.ports.leases import Holder


def holder_text(holder: Holder) -> str:
    """A holder for a column."""
    return json.dumps(
        {
            "user": holder.user,
            "host": holder.host,
            "pid": holder.pid,
            "started": holder.started,
            "boot": holder.boot,
            "purpose": holder.purpose,
        }
    )


def read_holder(text: str) -> Holder:
    """A holder from a column."""
    body = json.loads(text)
    return Holder(
        user=str(body["user"]),
        host=str(body["host"]),
        pid=int(body["pid"]),
        started=float(body["started"]),
        boot=str(body["boot"]),
        purpose=str(body["purpose"]),
    )
