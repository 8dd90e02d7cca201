"""The schemas of results: the last line of ``ismgr --json``, and the report of a run."""

from __future__ import annotations

from ismgr_automation.converge.report import FORMAT as REPORT
from ismgr_automation.converge.report import Fate
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.verification import Verdict
from ismgr_automation.reports.formats.plans import deferred, step
from ismgr_automation.reports.formats.shapes import (
    ADDRESS,
    DIGEST,
    MOMENT,
    NUMBER,
    TEXT,
    WHOLE,
    YES_OR_NO,
    choice,
    document,
    listed,
    one_of,
    record,
)

RESULT = "ismgr.result/1"
EXIT_CODE: JsonObject = {"enum": [int(one) for one in ExitCode]}


def result() -> JsonObject:
    """The frame of every result. Errors are alike for all commands; what else a result holds is its command's own."""
    words = "The last line of `ismgr --json COMMAND`: the result, or an error with `type: error`."
    frame = record({"format": {"const": RESULT}, "type": TEXT})
    error = {"if": {"properties": {"type": {"const": "error"}}}, "then": _error()}
    return document(RESULT, words, {**frame, **error})


def report() -> JsonObject:
    """What an apply did."""
    words = "The report of a run: every change with its fate, every check with its verdict, why it stopped."
    return document(REPORT, words, _report())


def check() -> JsonObject:
    """One verification check."""
    return record(
        {"host": TEXT, "suite": TEXT, "check": TEXT, "verdict": choice(Verdict), "seconds": NUMBER, "message": TEXT}
    )


def _report() -> JsonObject:
    return record(
        {
            "type": {"const": "report"},
            "format": {"const": REPORT},
            "run": TEXT,
            "digest": DIGEST,
            "ok": YES_OR_NO,
            "exit_code": EXIT_CODE,
            "reason": TEXT,
            "rounds": WHOLE,
            "seconds": NUMBER,
            "stopped": TEXT,
            "cancelled": YES_OR_NO,
            "outcomes": listed(_outcome()),
            "checks": listed(check()),
            "waiting": listed(deferred()),
            "rest": YES_OR_NO,
            "warnings": listed(TEXT),
            "queued": listed(record({"host": TEXT, "until": MOMENT})),
        },
        # older reports have none
        optional=("reason", "queued"),
    )


def _outcome() -> JsonObject:
    return record(
        {
            "key": TEXT,
            "address": ADDRESS,
            "fate": choice(Fate),
            "changed": WHOLE,
            "seconds": NUMBER,
            "summary": TEXT,
            "touched": YES_OR_NO,
            "stops": YES_OR_NO,
            "applied": listed(step()),
            "unplanned": listed(TEXT),
            "spared": listed(TEXT),
            "leftovers": listed(TEXT),
            "troubled": listed(TEXT),
            "undone": listed(TEXT),
            "post_state": TEXT,
            "checks": listed(check()),
            "detail": TEXT,
        },
        # the first reports of this format have none
        optional=("undone", "detail"),
    )


def _error() -> JsonObject:
    place = {"path": one_of(TEXT, {"type": "null"}), "line": _maybe_whole(), "column": _maybe_whole()}
    diagnostic = {"severity": TEXT, "summary": TEXT, **place, "expected": TEXT, "suggestion": TEXT}
    return record(
        {
            "reason": TEXT,
            "exit_code": EXIT_CODE,
            "summary": TEXT,
            "untouched": TEXT,
            "next_step": TEXT,
            "detail": TEXT,
            "moved": listed(TEXT),
            "missing": listed(TEXT),
            "commits": listed(TEXT),
            "diagnostics": listed(record(diagnostic)),
        },
        optional=("missing", "commits"),
    )


def _maybe_whole() -> JsonObject:
    return one_of(WHOLE, {"type": "null"})
