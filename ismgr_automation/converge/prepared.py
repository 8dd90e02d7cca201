"""A change as it is handed to an executor and kept in the journal. It holds no secret that is not sealed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ismgr_automation.core.json import JsonObject
from ismgr_automation.planning.change import Change, Reason
from ismgr_automation.planning.plan import change_json
from ismgr_automation.planning.planfile import read_change


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A change with what its engine needs besides: the sealed update plan of a stack."""

    change: Change
    sealed: str = ""

    def to_json(self) -> JsonObject:
        """For the journal: whoever executes the unit reads it from there."""
        return {**change_json(self.change), "reason": str(self.change.reason), "sealed": self.sealed}


def prepared(body: JsonObject) -> Prepared:
    """Read what ``Prepared.to_json`` wrote."""
    return Prepared(
        change=replace(read_change(body), reason=Reason(str(body["reason"]))), sealed=str(body.get("sealed", ""))
    )
