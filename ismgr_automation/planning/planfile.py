"""The bytes of a plan: the plan as one JSON document and back. The plan itself never knows its file format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ismgr_automation.core.address import Address
from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.planning.change import (
    Action,
    Certainty,
    Change,
    Deferred,
    Drift,
    Envelope,
    Finding,
    Level,
    Reason,
    Step,
)
from ismgr_automation.planning.plan import FORMAT, Beside, Inputs, Plan, Purpose, drift_json, finding_json

NEXT_STEP = "Make a new one with `ismgr plan --out FILE`."


def encode(plan: Plan) -> JsonObject:
    """The whole document: digest, intent, what stands beside them, and a checksum over all of it."""
    body = _body(plan)
    return {**body, "checksum": digest(body)}


def _body(plan: Plan) -> JsonObject:
    return {
        "format": FORMAT,
        "digest": plan.digest,
        "intent": plan.intent,
        "beside": {
            "commit": plan.beside.commit,
            "ref": plan.beside.ref,
            "worktree": plan.beside.worktree,
            "created_at": plan.beside.created_at.astimezone(UTC).isoformat(),
            "complete": plan.complete,
            "applicable": plan.applicable,
            "errored": plan.errored,
            "reasons": {one.key: str(one.reason) for one in plan.changes},
            "drift": [drift_json(one) for one in plan.drift],
            "findings": [finding_json(one) for one in plan.findings],
        },
    }


def write(plan: Plan) -> str:
    """The document as text, indented for people who review it."""
    text = json.dumps(encode(plan), indent=2, ensure_ascii=False) + "\n"
    # half a character cannot be written; JSON's own escape for it can
    return text.encode("utf-8", "backslashreplace").decode()


def read(text: str, path: str) -> Plan:
    """Read a document back. Raises ``PlanFileError`` when it is no plan, of an unknown format, or was altered."""
    try:
        body = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = Position(path, error.lineno, error.colno)
        raise _unreadable(path, f"this is not JSON: {error.msg}", place) from None
    except ValueError as error:
        raise _unreadable(path, f"this is not JSON: {error}") from None
    except RecursionError:
        raise _unreadable(path, "this JSON is nested too deeply") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise _unreadable(path, f"this is not a plan of format {FORMAT!r} but {found!r}")
    try:
        plan = _plan(body["intent"], body["beside"])
        rest = {key: value for key, value in body.items() if key != "checksum"}
        same = digest(body["intent"]) == body["digest"] == plan.digest and digest(rest) == body["checksum"]
        same = same and encode(plan) == body
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"a part is missing or malformed: {error}") from None
    if not same:
        raise _unreadable(path, "its digest is not that of its content: it was altered after it was made")
    return plan


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand there once: of two, people would read one and the parser take the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _unreadable(path: str, summary: str, place: Position | None = None) -> PlanFileError:
    diagnostic = Diagnostic(summary=summary, position=place or Position(path, 1, 1))
    return PlanFileError(f"The plan file {path} cannot be used.", diagnostics=[diagnostic], next_step=NEXT_STEP)


def _plan(intent: Mapping[str, Any], beside: Mapping[str, Any]) -> Plan:
    inputs = intent["inputs"]
    reasons: Mapping[str, str] = beside["reasons"]
    return Plan(
        estate=intent["estate"],
        environment=intent["environment"],
        purpose=Purpose(intent["purpose"]),
        inputs=Inputs(
            documents=inputs["documents"],
            content=inputs["content"],
            inventory=inputs["inventory"],
            states=inputs["states"],
            engines=inputs["engines"],
            selection=tuple(inputs["selection"]),
        ),
        changes=tuple(_change(one, reasons) for one in intent["changes"]),
        waves=tuple(tuple(wave) for wave in intent["waves"]),
        deferred=tuple(_deferred(one) for one in intent["deferred"]),
        drift=tuple(_drift(one) for one in beside["drift"]),
        findings=tuple(_finding(one) for one in beside["findings"]),
        complete=beside["complete"],
        errored=beside["errored"],
        beside=Beside(
            commit=beside["commit"],
            ref=beside["ref"],
            worktree=beside["worktree"],
            created_at=datetime.fromisoformat(beside["created_at"]),
        ),
    )


def _change(body: Mapping[str, Any], reasons: Mapping[str, str]) -> Change:
    address = Address.parse(body["address"])
    key = f"{address}#{body['part']}" if body["part"] else str(address)
    return Change(
        address=address,
        part=int(body["part"]),
        action=Action(body["action"]),
        reason=Reason(reasons[key]),
        steps=tuple(_step(one) for one in body["steps"]),
        targets=_addresses(body["targets"]),
        inputs=body["inputs"],
        precondition=body["precondition"],
    )


def _step(body: Mapping[str, Any]) -> Step:
    return Step(
        target=body["target"],
        what=body["what"],
        action=Action(body["action"]),
        certainty=Certainty(body["certainty"]),
        why=body.get("why", ""),
        where=body.get("where", ""),
        before=body.get("before"),
        after=body.get("after"),
    )


def _deferred(body: Mapping[str, Any]) -> Deferred:
    envelope = body["envelope"]
    return Deferred(
        address=Address.parse(body["address"]),
        waits_for=_addresses(body["waits_for"]),
        why=body["why"],
        expected=_addresses(body["expected"]),
        envelope=Envelope(
            content=envelope["content"],
            at_most=int(envelope["at_most"]),
            unknown=tuple(envelope["unknown"]),
            actions=tuple(Action(one) for one in envelope["actions"]),
        ),
    )


def _drift(body: Mapping[str, Any]) -> Drift:
    return Drift(
        address=Address.parse(body["address"]),
        target=body["target"],
        what=body["what"],
        before=body["before"],
        after=body["after"],
    )


def _finding(body: Mapping[str, Any]) -> Finding:
    return Finding(
        level=Level(body["level"]),
        subject=Address.parse(body["subject"]),
        summary=body["summary"],
        next_step=body["next_step"],
    )


def _addresses(texts: Sequence[str]) -> tuple[Address, ...]:
    return tuple(map(Address.parse, texts))
