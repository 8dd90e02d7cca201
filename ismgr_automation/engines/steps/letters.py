"""What stands in a row as the result of a unit: plain JSON, no secret, and no pickled object. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from ismgr_automation.core.errors import EngineError, EngineFailed, IsmgrError, LeaseLost
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.runs import Unit


class Kind(StrEnum):
    """How a unit ended."""

    OUTCOME = "outcome"
    """It was carried out; ``body`` is what it gave."""
    NOT_BEGUN = "not-begun"
    """An executor had it in hand, and gave it back untouched."""
    GIVEN_UP = "given-up"
    """An executor had begun it, and stopped: whoever goes on must look at the world first."""
    ERROR = "error"
    """It could not be carried out: not a failed target, a failed us. ``body`` is the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """The result of one unit as its row holds it."""

    kind: Kind
    body: JsonObject

    def to_json(self) -> dict[str, object]:
        """The form in the row."""
        return {"kind": str(self.kind), "body": dict(self.body)}

    @property
    def lost(self) -> bool:
        """Whether the executor stood under a lease that is over."""
        return self.kind is Kind.ERROR and self.body.get("reason") == "lease-lost"


def read(value: object) -> Letter | None:
    """The letter in a row; None when it is none of ours."""
    if not isinstance(value, Mapping) or value.get("kind") not in list(Kind):
        return None
    body = value.get("body")
    return Letter(kind=Kind(value["kind"]), body=cast("JsonObject", body) if isinstance(body, Mapping) else {})


def error_letter(problem: Exception) -> Letter:
    """What is told of an error to other processes: its sentences, never the words of an engine."""
    if not isinstance(problem, IsmgrError):
        name = type(problem).__name__
        body: JsonObject = {"reason": "internal-error", "summary": f"A bug in ismgr ended the unit: {name}."}
        return Letter(kind=Kind.ERROR, body=body)
    return Letter(
        kind=Kind.ERROR,
        body={
            "reason": problem.reason,
            "summary": problem.summary,
            "next_step": problem.next_step,
            "engine": problem.engine if isinstance(problem, EngineError) else "",
        },
    )


def as_error(letter: Letter, unit: Unit, executor: str) -> IsmgrError:
    """The error of a unit that another process tried to carry out."""
    body = {key: str(value) for key, value in letter.body.items()}
    if letter.lost:
        return LeaseLost(body.get("summary", ""), next_step=body.get("next_step", ""))
    return EngineFailed(
        body.get("summary") or "The executor gave no reason.",
        engine=body.get("engine") or "worker",
        subject=f"{unit.key} on {executor}",
        next_step=body.get("next_step") or f"Look at the words of the worker {executor}.",
    )
