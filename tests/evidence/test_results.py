"""Kept results of drills against what the chain says of them."""

from __future__ import annotations

from typing import Any

import pytest

from ismgr_automation.core.address import recovery
from ismgr_automation.core.json import digest
from ismgr_automation.evidence.audit import Doubt, Fault
from ismgr_automation.evidence.chain import Note, follow
from ismgr_automation.evidence.entries import Entry, Noticed
from ismgr_automation.evidence.results import altered, doubtful, recorded
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.evidence import EMPTY
from ismgr_automation.recovery.result import result_json
from tests.recovery.results import NOON, bare, result

RESULT = result_json(result())
RUN = result().run


def lines(*entries: Entry, run: str = RUN) -> list[bytes]:
    notes: list[Note] = [one.at(NOON) for one in entries]
    return list(follow(EMPTY, "lab", run, notes)[0])


def noticed(summary: str, **more: Any) -> Noticed:
    return Noticed(**{"level": Level.ADVISE, "subject": recovery("records"), "summary": summary, **more})


def test_the_digest_that_a_record_names_is_found_by_run() -> None:
    chain = lines(noticed(f"failover drill passed: 0 lost; result {digest(RESULT)}"))
    assert recorded([*chain, b"no record", b"{}"]) == {RUN: digest(RESULT)}
    assert altered(recorded(chain), {RUN: RESULT}) == ()
    assert doubtful(recorded(chain), {RUN: RESULT}) == ()


@pytest.mark.parametrize(
    "entry",
    [
        noticed("failover drill passed: 0 lost"),
        noticed(f"result {digest(RESULT)} is what they say; and more"),
    ],
)
def test_what_names_no_result_at_its_end_is_none(entry: Entry) -> None:
    assert recorded(lines(entry)) == {}


CHANGES = {
    "verdict": {**RESULT, "verdict": "failed"},
    "one write": {**RESULT, "writes": {**RESULT["writes"], "lost": 1}},  # type: ignore[dict-item]
    "who approved": {**RESULT, "people": {"planned": [], "approved": ["Mallory"], "ran": []}},
    "something more": {**RESULT, "extra": None},
    "something less": {key: one for key, one in RESULT.items() if key != "tools"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_kept_result_that_is_not_the_one_on_record_is_found(name: str) -> None:
    chain = recorded(lines(noticed(f"failover drill passed; result {digest(RESULT)}")))
    [found] = altered(chain, {RUN: CHANGES[name]})
    assert (found.fault, found.run) == (Fault.RESULT, RUN)
    assert digest(RESULT) in found.summary


def test_results_that_are_gone_or_on_no_record_are_doubts_and_named() -> None:
    chain = recorded(lines(noticed(f"failover drill passed; result {digest(RESULT)}")))
    found = doubtful(chain, {"other": result_json(bare().result)})
    assert [(one.doubt, one.run) for one in found] == [(Doubt.RESULT_GONE, RUN), (Doubt.RESULT_UNPROVEN, "other")]
