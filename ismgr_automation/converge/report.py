"""What an apply did, as a value: every change with its fate, every check with its verdict, and why it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.json import JsonObject
from ismgr_automation.planning.change import Deferred, Step
from ismgr_automation.planning.plan import deferred_json, step_json
from ismgr_automation.ports.verification import CheckResult, Verdict

FORMAT = "ismgr.report/1"


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
    stops: bool = False
    """Whether the run stops here whatever its failure budget: an unplanned change, a world that moved."""
    applied: tuple[Step, ...] = ()
    """What really changed, with its diff; secrets are taken out by the engine."""
    unplanned: tuple[str, ...] = ()
    """Changes that were made or asked for and were not in the plan, one sentence each."""
    spared: tuple[str, ...] = ()
    """Changes that the plan held and that turned out not to be needed, one sentence each."""
    leftovers: tuple[str, ...] = ()
    """What may still run on hosts, with host and pid."""
    troubled: tuple[str, ...] = ()
    """Hosts that failed, were unreachable or did not verify: each counts against the failure budget."""
    undone: tuple[str, ...] = ()
    """Those of them that are as they were before, and verified: they are up, and others may be worked on."""
    post_state: str = ""
    """Digest of a stack's state afterwards."""
    checks: tuple[CheckResult, ...] = ()
    detail: str = ""
    """What the engines said of what went wrong, in their own words; may have many lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A host that was away when the plan was made: until when it may be caught up."""

    host: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a run. A failed target is a result; nothing is raised for it."""

    digest: str
    outcomes: tuple[Outcome, ...]
    checks: tuple[CheckResult, ...]
    rounds: int
    seconds: float
    run: str = ""
    stopped: str = ""
    """Why the run ended before everything landed; empty when everything did."""
    cancelled: bool = False
    waiting: tuple[Deferred, ...] = ()
    """Deferred changes that were never released."""
    refused: bool = False
    """Whether it stopped because the estate's own rules allow no more."""
    outside: bool = False
    """Whether these rules are of time: no window is open any more, or a freeze has begun."""
    lost: bool = False
    """Whether the lease was lost on the way: the run is open, and somebody else may have it by now."""
    rest: str = ""
    """The plan file for what is left, as text; empty when nothing is, or when it could not be made."""
    warnings: tuple[str, ...] = ()
    """What went wrong beside the run itself: a signature or an anchor of its evidence that is missing."""
    queued: tuple[Queued, ...] = ()
    """Hosts of the plan that wait for their turn, because they were away."""

    def of(self, fate: Fate) -> tuple[Outcome, ...]:
        """The outcomes with one fate."""
        return tuple(one for one in self.outcomes if one.fate is fate)

    @property
    def ok(self) -> bool:
        """Whether everything landed and every check passed."""
        return not self.stopped and not self.cancelled and all(one.fate is Fate.LANDED for one in self.outcomes)

    @property
    def effect(self) -> bool:
        """Whether anything differs in the world, or may."""
        return any(one.touched or one.fate in (Fate.LANDED, Fate.UNKNOWN) for one in self.outcomes)

    @property
    def reason(self) -> str:
        """Why it ended, for pipelines: finer than the exit code, and as stable."""
        reasons = (
            (self.ok, "done"),
            (self.cancelled, "cancelled"),
            (self.lost, "lease-lost"),
            (self.outside, "outside-window"),
            (self.refused, "policy-denied"),
            (any(one.unplanned for one in self.outcomes), "unplanned-change"),
            (any(one.stops for one in self.outcomes), "world-moved"),
            (bool(self.of(Fate.UNKNOWN)), "unknown"),
            (bool(self.of(Fate.FAILED)), "failed"),
            (True, "not-finished"),
        )
        return next(word for holds, word in reasons if holds)

    @property
    def exit_code(self) -> ExitCode:
        """The code of PLAN section 8 that tells this."""
        if self.ok:
            return ExitCode.DONE
        if self.cancelled:
            return ExitCode.CANCELLED
        if self.effect:
            return ExitCode.PARTLY_APPLIED
        stopped = self.lost or self.refused or self.outside or any(one.stops for one in self.outcomes)
        return ExitCode.REFUSED if stopped else ExitCode.ENGINE


def failed_checks(checks: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """Checks that did not pass; one that could not be made has not passed."""
    return tuple(one for one in checks if one.verdict in (Verdict.FAILED, Verdict.ERROR))


def report_json(report: Report) -> JsonObject:
    """The report as JSON, of format ``ismgr.report/1``."""
    return {
        "type": "report",
        "format": FORMAT,
        "run": report.run,
        "digest": report.digest,
        "ok": report.ok,
        "exit_code": int(report.exit_code),
        "reason": report.reason,
        "rounds": report.rounds,
        "seconds": round(report.seconds, 3),
        "stopped": report.stopped,
        "cancelled": report.cancelled,
        "outcomes": [outcome_json(one) for one in report.outcomes],
        "checks": [check_json(one) for one in report.checks],
        "waiting": [deferred_json(one) for one in report.waiting],
        "rest": bool(report.rest),
        "warnings": list(report.warnings),
        "queued": [{"host": one.host, "until": one.until.isoformat()} for one in report.queued],
    }


def outcome_json(outcome: Outcome) -> JsonObject:
    """One outcome as JSON: what a journal keeps of it and a report shows."""
    return {
        "key": outcome.key,
        "address": str(outcome.address),
        "fate": str(outcome.fate),
        "changed": outcome.changed,
        "seconds": round(outcome.seconds, 3),
        "summary": outcome.summary,
        "touched": outcome.touched,
        "stops": outcome.stops,
        "applied": [step_json(one) for one in outcome.applied],
        "unplanned": list(outcome.unplanned),
        "spared": list(outcome.spared),
        "leftovers": list(outcome.leftovers),
        "troubled": list(outcome.troubled),
        "undone": list(outcome.undone),
        "post_state": outcome.post_state,
        "checks": [check_json(one) for one in outcome.checks],
        "detail": outcome.detail,
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
