"""What an apply did, as a value: every change with its fate, every check with its verdict, and why it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject
from ismgr_automation.planning.change import Deferred
from ismgr_automation.planning.plan import deferred_json
from ismgr_automation.ports.verification import CheckResult, Verdict


class Fate(StrEnum):
    """What became of a change."""

    LANDED = "landed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """An engine was stopped in the middle; what it had begun may or may not be there."""
    NOT_STARTED = "not-started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One change of the run. ``changed`` counts resources or tasks that really changed."""

    key: str
    address: Address
    fate: Fate
    changed: int = 0
    seconds: float = 0.0
    summary: str = ""
    touched: bool = False
    """Whether the engine may have changed anything at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a run. A failed target is a result; nothing is raised for it."""

    digest: str
    outcomes: tuple[Outcome, ...]
    checks: tuple[CheckResult, ...]
    rounds: int
    seconds: float
    stopped: str = ""
    """Why the run ended before its time; empty when it did everything."""
    cancelled: bool = False
    waiting: tuple[Deferred, ...] = ()
    """What was still deferred when the run stopped."""

    def of(self, fate: Fate) -> tuple[Outcome, ...]:
        """The outcomes with one fate."""
        return tuple(one for one in self.outcomes if one.fate is fate)

    @property
    def ok(self) -> bool:
        """Whether everything landed and every check passed."""
        return not self.stopped and not self.cancelled and all(one.fate is Fate.LANDED for one in self.outcomes)

    @property
    def exit_code(self) -> ExitCode:
        """The code of PLAN section 8 that tells this."""
        if self.ok:
            return ExitCode.DONE
        if self.cancelled:
            return ExitCode.CANCELLED
        effect = any(one.touched or one.fate in (Fate.LANDED, Fate.UNKNOWN) for one in self.outcomes)
        return ExitCode.PARTLY_APPLIED if effect else ExitCode.ENGINE


def failed_checks(checks: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """Checks that did not pass; one that could not be made has not passed."""
    return tuple(one for one in checks if one.verdict in (Verdict.FAILED, Verdict.ERROR))


def report_json(report: Report) -> JsonObject:
    """The report as JSON."""
    return {
        "type": "report",
        "digest": report.digest,
        "ok": report.ok,
        "exit_code": int(report.exit_code),
        "rounds": report.rounds,
        "seconds": round(report.seconds, 3),
        "stopped": report.stopped,
        "cancelled": report.cancelled,
        "outcomes": [
            {
                "key": one.key,
                "address": str(one.address),
                "fate": str(one.fate),
                "changed": one.changed,
                "seconds": round(one.seconds, 3),
                "summary": one.summary,
            }
            for one in report.outcomes
        ],
        "checks": [check_json(one) for one in report.checks],
        "waiting": [deferred_json(one) for one in report.waiting],
    }


def check_json(check: CheckResult) -> JsonObject:
    """A check as JSON."""
    return {
        "host": check.host,
        "suite": check.suite,
        "check": check.check,
        "verdict": str(check.verdict),
        "seconds": round(check.seconds, 3),
        "message": check.message,
    }
