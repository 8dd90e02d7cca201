"""Outcomes as a journal keeps them, read back. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ismgr_automation.converge.report import Fate, Outcome
from ismgr_automation.core.address import Address
from ismgr_automation.planning.planfile import read_step
from ismgr_automation.ports.verification import CheckResult, Verdict


def read_outcome(body: Mapping[str, Any]) -> Outcome:
    """An outcome from the JSON that ``outcome_json`` made."""
    return Outcome(
        key=body["key"],
        address=Address.parse(body["address"]),
        fate=Fate(body["fate"]),
        changed=int(body["changed"]),
        seconds=float(body["seconds"]),
        summary=body["summary"],
        touched=body["touched"],
        stops=body["stops"],
        applied=tuple(map(read_step, body["applied"])),
        unplanned=tuple(body["unplanned"]),
        spared=tuple(body["spared"]),
        leftovers=tuple(body["leftovers"]),
        troubled=tuple(body["troubled"]),
        undone=tuple(body.get("undone", ())),
        post_state=body["post_state"],
        checks=tuple(map(_check, body["checks"])),
        detail=body.get("detail", ""),
    )


def _check(body: Mapping[str, Any]) -> CheckResult:
    return CheckResult(
        host=body["host"],
        suite=body["suite"],
        check=body["check"],
        verdict=Verdict(body["verdict"]),
        seconds=float(body["seconds"]),
        message=body["message"],
    )
