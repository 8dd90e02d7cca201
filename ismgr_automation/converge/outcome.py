"""One change and what became of it: the frame around every engine call that may change something. Whatever an engine
does, what the run knows is never lost: a failure of any kind becomes an outcome."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from ismgr_automation.converge.report import Fate, Outcome
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import Cancelled, EngineError, EngineTimedOut, IsmgrError
from ismgr_automation.core.events import ChangeFinished, ChangeStarted, OutputSeen
from ismgr_automation.planning.change import Change
from ismgr_automation.ports.verification import CheckResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an engine did for one change. ``trouble`` says what is wrong, ``touched`` whether anything differs."""

    changed: int = 0
    trouble: str = ""
    touched: bool = True
    checks: tuple[CheckResult, ...] = ()


class Interrupted(Exception):
    """An engine failed after it had begun: what had been counted until then, and why it failed (``__cause__``)."""

    def __init__(self, changed: int) -> None:
        super().__init__()
        self.changed = changed


def carry_out(
    change: Change, scope: Scope, work: Callable[[], Done], touched: Callable[[Exception], bool]
) -> tuple[Outcome, tuple[CheckResult, ...]]:
    """Do the work of one change between its events. ``touched`` judges a failure: may it have changed anything?"""
    blank = Outcome(key=change.key, address=change.address, fate=Fate.NOT_STARTED)
    if scope.context.cancelled.is_set():
        return blank, ()
    scope.context.emit(ChangeStarted(subject=change.address, action=str(change.action), targets=change.targets))
    began = time.monotonic()
    checks: tuple[CheckResult, ...] = ()
    try:
        done = work()
        checks = done.checks
        fate = Fate.FAILED if done.trouble else Fate.LANDED
        outcome = replace(
            blank, fate=fate, changed=done.changed, summary=done.trouble, touched=done.touched or not done.trouble
        )
    except Exception as problem:  # noqa: BLE001  a run must tell what landed, whatever happens in one of its changes
        cause, changed = problem, 0
        if isinstance(problem, Interrupted) and isinstance(problem.__cause__, Exception):
            cause, changed = problem.__cause__, problem.changed
        unsure = not isinstance(cause, IsmgrError) or isinstance(cause, EngineTimedOut | Cancelled)
        outcome = replace(
            blank,
            fate=Fate.UNKNOWN if unsure else Fate.FAILED,
            changed=changed,
            summary=told(cause, scope, change.address),
            touched=unsure or isinstance(problem, Interrupted) or touched(cause),
        )
    outcome = replace(outcome, seconds=time.monotonic() - began)
    scope.context.emit(
        ChangeFinished(
            subject=change.address,
            outcome=str(outcome.fate),
            changed=outcome.changed,
            seconds=outcome.seconds,
            summary=outcome.summary,
        )
    )
    return outcome, checks


def told(problem: Exception, scope: Scope, subject: Address | None = None) -> str:
    """A failure in words. A bug of ours is said to be one, and its trace goes to whoever watches."""
    match problem:
        case EngineError():
            return " ".join(part for part in (problem.summary, problem.detail, problem.next_step) if part)
        case IsmgrError():
            return str(problem)
        case OSError():
            return f"this machine failed: {problem}"
        case _:
            scope.context.emit(OutputSeen(subject=subject, text="".join(traceback.format_exception(problem))))
            return f"a bug in ismgr, please report it: {problem!r}"
