"""A record in one sentence, for people. Reads what stands in its body and never fails on what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.evidence.chain import Kind, Record


def told(record: Record) -> str:
    """What a record says.

    >>> from datetime import UTC, datetime
    >>> body = {"key": "stack/names", "action": "create", "attempt": 2}
    >>> noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> told(Record(sequence=1, at=noon, environment="lab", run="r", kind=Kind.INTENT, body=body, previous=""))
    'create stack/names, attempt 2'
    """
    return SENTENCES[record.kind](record.body)


def text(body: JsonObject, key: str) -> str:
    """A text of a body; empty when there is none."""
    value = body.get(key)
    return value if isinstance(value, str) else ""


def number(body: JsonObject, key: str) -> float:
    """A number of a body; 0 when there is none."""
    value = body.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def items(body: JsonObject, key: str) -> Sequence[Json]:
    """A list of a body; empty when there is none."""
    value = body.get(key)
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def part(body: JsonObject, key: str) -> JsonObject:
    """An object of a body; empty when there is none."""
    value = body.get(key)
    return value if isinstance(value, Mapping) else {}


def parts(body: JsonObject, key: str) -> tuple[JsonObject, ...]:
    """The objects in a list of a body."""
    return tuple(one for one in items(body, key) if isinstance(one, Mapping))


def holder(body: JsonObject) -> str:
    """Who held the lease: ``anna@desk1``."""
    who = part(body, "holder")
    return f"{text(who, 'user')}@{text(who, 'host')}"


def _started(body: JsonObject) -> str:
    approvals = items(body, "approvals")
    signed = f", {_count(len(approvals), 'approval')}" if approvals else ""
    glass = part(body, "break_glass")
    loud = f"; BREAK-GLASS by {text(glass, 'by')}: {text(glass, 'reason')}" if glass else ""
    digest = text(body, "digest").removeprefix("sha256:")[:12]
    return f"{text(body, 'purpose')} of plan {digest} by {holder(body)}{signed}{loud}"


def _closed(body: JsonObject) -> str:
    counts = {
        "landed": number(body, "landed"),
        "failed": number(body, "failed"),
        "unknown": number(body, "unknown"),
        "not started": number(body, "not_started"),
    }
    listed = ", ".join(f"{count:g} {word}" for word, count in counts.items() if count)
    why = f": {text(body, 'stopped')}" if text(body, "stopped") else ""
    return f"{text(body, 'state')} with exit code {number(body, 'exit_code'):g}, {listed or 'no changes'}{why}"


def _count(count: int, noun: str) -> str:
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{plural}"


def _approved(body: JsonObject) -> str:
    return f"approval by {text(body, 'principal')} counted for {text(body, 'rule')}"


def _lease(body: JsonObject) -> str:
    why = f": {text(body, 'why')}" if text(body, "why") else ""
    by = f" by {text(body, 'by')}" if text(body, "by") else ""
    return f"lease {text(body, 'name')} {text(body, 'fate')}{by}, token {number(body, 'token'):g}{why}"


def _round(body: JsonObject) -> str:
    waves = items(body, "waves")
    changes = sum(len(one) for one in waves if isinstance(one, Sequence))
    return f"round {number(body, 'round'):g}: {_count(changes, 'change')} in {_count(len(waves), 'wave')}"


def _intent(body: JsonObject) -> str:
    hosts = items(body, "targets")
    on = f" on {_count(len(hosts), 'host')}" if hosts else ""
    attempt = number(body, "attempt")
    again = f", attempt {attempt:g}" if attempt > 1 else ""
    return f"{text(body, 'action')} {text(body, 'key')}{on}{again}"


def _outcome(body: JsonObject) -> str:
    summary = f": {text(body, 'summary')}" if text(body, "summary") else ""
    return f"{text(body, 'key')} {text(body, 'fate')}, {number(body, 'changed'):g} changed{summary}"


def _verified(body: JsonObject) -> str:
    passed, failed = number(body, "passed"), len(items(body, "failed"))
    return f"{text(body, 'subject')}: {_count(int(passed), 'check')} passed, {failed} failed"


def _finding(body: JsonObject) -> str:
    return f"{text(body, 'level')} {text(body, 'subject')}: {text(body, 'summary')}"


def _resumed(body: JsonObject) -> str:
    return f"resumed by {holder(body)} with {_count(len(part(body, 'observed')), 'open change')}"


def _cancelled(body: JsonObject) -> str:
    left = items(body, "left_running")
    still = f"; {_count(len(left), 'process')} may still run" if left else ""
    return f"cancelled by {text(body, 'by')}{still}"


def _refused(body: JsonObject) -> str:
    return f"refused ({text(body, 'reason')}): {text(body, 'summary')}"


def _recovered(body: JsonObject) -> str:
    return f"half a line of {number(body, 'cut_bytes'):g} bytes was cut off after a crash"


def _noted(body: JsonObject) -> str:
    note = part(body, "note")
    who = text(note, "owner") or text(note, "person")
    said = text(note, "text") or f"as {text(note, 'role')}"
    return f"{text(note, 'type')} about drill {text(body, 'drill')}, {who}: {said}"


SENTENCES: Mapping[Kind, Callable[[JsonObject], str]] = {
    Kind.RUN_STARTED: _started,
    Kind.APPROVAL_USED: _approved,
    Kind.LEASE: _lease,
    Kind.ROUND_OPENED: _round,
    Kind.INTENT: _intent,
    Kind.OUTCOME: _outcome,
    Kind.VERIFICATION: _verified,
    Kind.FINDING: _finding,
    Kind.RESUMED: _resumed,
    Kind.CANCELLED: _cancelled,
    Kind.REFUSED: _refused,
    Kind.RECOVERED: _recovered,
    Kind.DRILL_NOTED: _noted,
    Kind.RUN_CLOSED: _closed,
}
"""How each kind is told; a test sees to it that none is missing."""
