"""The bytes of a plan: the plan as one JSON document and back, in every format that there ever was. Nothing is judged
here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from ismgr_automation.core.address import Address
from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import Json, JsonObject, digest
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
from ismgr_automation.planning.forecast import Estimate, Forecast, HostForecast, forecast_json
from ismgr_automation.planning.plan import (
    FIRST_FORMAT,
    FORMAT,
    FORMATS,
    Beside,
    Inputs,
    Occasion,
    Plan,
    Purpose,
    drift_json,
    finding_json,
)
from ismgr_automation.ports.packages import Need

NEXT_STEP = "Make a new one with `ismgr plan --out FILE`."


def encode(plan: Plan) -> JsonObject:
    """The whole document: digest, intent, what stands beside them, and a checksum over all of it."""
    body = _body(plan)
    return {**body, "checksum": digest(body)}


def _body(plan: Plan) -> JsonObject:
    return {"format": plan.format, "digest": plan.digest, "intent": plan.intent, "beside": _beside_json(plan)}


def _beside_json(plan: Plan) -> JsonObject:
    beside = plan.beside
    later: dict[str, Json] = {}
    if plan.format != FIRST_FORMAT:
        expires = beside.expires_at.astimezone(UTC).isoformat() if beside.expires_at is not None else None
        later = {"expires_at": expires, "sidecars": dict(beside.sidecars)}
        if beside.forecasts:
            later["forecasts"] = {key: forecast_json(one) for key, one in beside.forecasts.items()}
        if beside.occasion is not None:
            at = beside.occasion.at.astimezone(UTC).isoformat()
            later["occasion"] = {"schedule": beside.occasion.schedule, "at": at}
    return {
        "commit": beside.commit,
        "ref": beside.ref,
        "worktree": beside.worktree,
        "created_at": beside.created_at.astimezone(UTC).isoformat(),
        **later,
        "complete": plan.complete,
        "applicable": plan.applicable,
        "errored": plan.errored,
        "reasons": {one.key: str(one.reason) for one in plan.changes},
        "drift": [drift_json(one) for one in plan.drift],
        "findings": [finding_json(one) for one in plan.findings],
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
    if not isinstance(body, dict) or body.get("format") not in FORMATS:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise _unreadable(path, f"this is not a plan of format {' or '.join(map(repr, FORMATS))} but {found!r}")
    try:
        plan = _plan(body["intent"], body["beside"], body["format"])
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


def _plan(intent: Mapping[str, Any], beside: Mapping[str, Any], format_: str) -> Plan:
    reasons: Mapping[str, str] = beside["reasons"]
    return Plan(
        estate=intent["estate"],
        environment=intent["environment"],
        purpose=Purpose(intent["purpose"]),
        inputs=_inputs(intent["inputs"], format_),
        changes=tuple(read_change(one, format_, reasons) for one in intent["changes"]),
        waves=tuple(tuple(wave) for wave in intent["waves"]),
        deferred=tuple(_deferred(one) for one in intent["deferred"]),
        drift=tuple(_drift(one) for one in beside["drift"]),
        findings=tuple(_finding(one) for one in beside["findings"]),
        complete=beside["complete"],
        errored=beside["errored"],
        beside=_beside(beside, format_),
        format=format_,
    )


def _inputs(body: Mapping[str, Any], format_: str) -> Inputs:
    first = Inputs(
        documents=body["documents"],
        content=body["content"],
        inventory=body["inventory"],
        states=body["states"],
        engines=body["engines"],
        selection=tuple(body["selection"]),
    )
    return first if format_ == FIRST_FORMAT else replace(first, policies=body["policies"], secrets=body["secrets"])


def _beside(body: Mapping[str, Any], format_: str) -> Beside:
    first = Beside(
        commit=body["commit"],
        ref=body["ref"],
        worktree=body["worktree"],
        created_at=datetime.fromisoformat(body["created_at"]),
    )
    if format_ == FIRST_FORMAT:
        return first
    expires = datetime.fromisoformat(body["expires_at"]) if body["expires_at"] is not None else None
    forecasts = {key: _forecast(one) for key, one in body.get("forecasts", {}).items()}
    occasion = _occasion(body["occasion"]) if "occasion" in body else None
    return replace(first, expires_at=expires, sidecars=body["sidecars"], forecasts=forecasts, occasion=occasion)


def _occasion(body: Mapping[str, Any]) -> Occasion:
    return Occasion(schedule=body["schedule"], at=datetime.fromisoformat(body["at"]))


def _forecast(body: Mapping[str, Any]) -> Forecast:
    return Forecast(
        takes=Estimate(span=timedelta(seconds=body["takes_seconds"]), source=body["source"]),
        soak=timedelta(seconds=body["soak_seconds"]),
        hosts=tuple(_host_forecast(one) for one in body["hosts"]),
    )


def _host_forecast(body: Mapping[str, Any]) -> HostForecast:
    return HostForecast(
        host=body["host"],
        reboot=Need(body["reboot"]),
        why=tuple(body["why"]),
        services=tuple(body["services"]) if body["services"] is not None else None,
        then=body["then"],
    )


def read_change(
    body: Mapping[str, Any], format_: str = FORMAT, reasons: Mapping[str, str] = MappingProxyType({})
) -> Change:
    """A change that ``change_json`` wrote. Reasons are kept apart, by key; without one it is ``Reason.INPUTS``. Raises
    ``KeyError``, ``TypeError`` or ``ValueError`` for what is none."""
    first = Change(
        address=Address.parse(body["address"]),
        part=int(body["part"]),
        action=Action(body["action"]),
        reason=Reason.INPUTS,
        steps=tuple(read_step(one) for one in body["steps"]),
        targets=_addresses(body["targets"]),
        inputs=body["inputs"],
        precondition=body["precondition"],
    )
    first = replace(first, reason=Reason(reasons[first.key])) if reasons else first
    return first if format_ == FIRST_FORMAT else replace(first, batch=int(body["batch"]), constraint=body["constraint"])


def read_step(body: Mapping[str, Any]) -> Step:
    """A step that ``step_json`` wrote. Raises as ``read_change`` does."""
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
        there=_addresses(body.get("there", ())),
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
        refuses=body.get("refuses", False),
    )


def _addresses(texts: Sequence[str]) -> tuple[Address, ...]:
    return tuple(map(Address.parse, texts))
