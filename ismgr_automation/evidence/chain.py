"""Records in a chain: each one canonical JSON line that holds the digest of the line before. No file, no clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ismgr_automation.core.json import JsonObject, canonical
from ismgr_automation.ports.evidence import Head, line_digest

FORMAT = "ismgr.evidence/1"
KEYS = frozenset({"format", "sequence", "at", "environment", "run", "kind", "body", "previous"})


class Kind(StrEnum):
    """What a record tells."""

    RUN_STARTED = "run-started"
    APPROVAL_USED = "approval-used"
    LEASE = "lease"
    ROUND_OPENED = "round-opened"
    INTENT = "intent"
    """Something is about to be done. It is on disk before it begins."""
    OUTCOME = "outcome"
    VERIFICATION = "verification"
    FINDING = "finding"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """An apply was refused before any effect."""
    RECOVERED = "recovered"
    """A crash had left half a line, which was cut off."""
    DRILL_NOTED = "drill-noted"
    """A person wrote something down about a drill, or signed it off."""
    RUN_CLOSED = "run-closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record. ``sequence`` counts from 1 over the whole chain of an environment; ``previous`` is the digest of the
    line before, empty for the first. ``at`` is when it was written, by the writer's clock."""

    sequence: int
    at: datetime
    environment: str
    run: str
    kind: Kind
    body: JsonObject
    previous: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What becomes a record once its place in the chain is known."""

    kind: Kind
    body: JsonObject
    at: datetime


def line(record: Record) -> bytes:
    """The one byte string of a record, without a newline."""
    return canonical(
        {
            "format": FORMAT,
            "sequence": record.sequence,
            "at": moment(record.at),
            "environment": record.environment,
            "run": record.run,
            "kind": str(record.kind),
            "body": record.body,
            "previous": record.previous,
        }
    )


def parse(text: bytes) -> Record:
    """Read a line back. Raises ``ValueError`` unless it is exactly what ``line`` writes, byte for byte."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"it is no record of format {FORMAT}")
    if found.keys() != KEYS:
        raise ValueError(f"it has other keys than a record: {', '.join(sorted(found.keys() ^ KEYS))}")
    texts = (found["at"], found["environment"], found["run"], found["previous"])
    if not all(isinstance(one, str) for one in texts) or not isinstance(found["body"], dict):
        raise ValueError("a part of it is of the wrong type")
    if not isinstance(found["sequence"], int) or isinstance(found["sequence"], bool) or found["sequence"] < 1:
        raise ValueError("its sequence is no number from 1")
    record = Record(
        sequence=found["sequence"],
        at=datetime.fromisoformat(found["at"]),
        environment=found["environment"],
        run=found["run"],
        kind=Kind(found["kind"]),
        body=found["body"],
        previous=found["previous"],
    )
    if line(record) != text:
        raise ValueError("it is not in canonical form")
    return record


def follow(head: Head, environment: str, run: str, notes: Sequence[Note]) -> tuple[tuple[bytes, ...], Head]:
    """The lines that continue a chain, and where it ends then."""
    lines: list[bytes] = []
    for note in notes:
        record = Record(
            sequence=head.sequence + 1,
            at=note.at,
            environment=environment,
            run=run,
            kind=note.kind,
            body=note.body,
            previous=head.digest,
        )
        lines.append(line(record))
        head = Head(sequence=record.sequence, digest=line_digest(lines[-1]))
    return tuple(lines), head


def moment(at: datetime) -> str:
    """A moment in UTC with microseconds: ``2026-11-22T08:15:00.000000Z``."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
