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
from ismgr_automation.core.errors import Cancelled, EngineError, EngineTimedOut, IsmgrError, LeaseLost, Refused
from ismgr_automation.core.events import ChangeFinished, ChangeStarted, OutputSeen
from ismgr_automation.planning.change import Change, Step
from ismgr_automation.ports.verification import CheckResult

NOTHING = "Nothing was touched."


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an engine did for one change. ``trouble`` says what is wrong, ``touched`` whether anything differs,
    ``unsure`` that nobody can tell; the rest is as in ``Outcome``."""

    changed: int = 0
    trouble: str = ""
    touched: bool = True
    unsure: bool = False
    stops: bool = False
    applied: tuple[Step, ...] = ()
    unplanned: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    troubled: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    post_state: str = ""
    checks: tuple[CheckResult, ...] = ()
    detail: str = ""


class Interrupted(Exception):
    """An engine failed after another had done its part: what was done until then; why it failed is ``__cause__``."""

    def __init__(self, done: Done) -> None:
        super().__init__()
        self.done = done


def carry_out(change: Change, scope: Scope, work: Callable[[], Done], touched: Callable[[Exception], bool]) -> Outcome:
    """Do the work of one change between its events. ``touched`` judges a failure: may it have changed anything?"""
    scope.context.emit(ChangeStarted(subject=change.address, action=str(change.action), targets=change.targets))
    began = time.monotonic()
    try:
        outcome = _ended(change, work())
    except Exception as problem:  # noqa: BLE001  a run must tell what landed, whatever happens in one of its changes
        outcome = _failed(change, problem, scope, touched)
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
    return outcome


def not_started(change: Change, summary: str = "") -> Outcome:
    """The outcome of a change that nobody began."""
    return Outcome(key=change.key, address=change.address, fate=Fate.NOT_STARTED, summary=summary)


def _ended(change: Change, done: Done) -> Outcome:
    fate = Fate.UNKNOWN if done.unsure else Fate.FAILED if done.trouble else Fate.LANDED
    return Outcome(
        key=change.key,
        address=change.address,
        fate=fate,
        changed=done.changed,
        summary=done.trouble,
        touched=done.touched or fate is Fate.LANDED,
        stops=done.stops,
        applied=done.applied,
        unplanned=done.unplanned,
        spared=done.spared,
        leftovers=done.leftovers,
        troubled=done.troubled,
        undone=done.undone,
        post_state=done.post_state,
        checks=done.checks,
        detail=done.detail,
    )


def _failed(change: Change, problem: Exception, scope: Scope, touched: Callable[[Exception], bool]) -> Outcome:
    cause, done = problem, Done(touched=False)
    if isinstance(problem, Interrupted) and isinstance(problem.__cause__, Exception):
        cause, done = problem.__cause__, problem.done
    # an engine that was stopped with the lease may have done something before
    lost = isinstance(cause, LeaseLost) and cause.untouched != NOTHING
    unsure = lost or not isinstance(cause, IsmgrError) or isinstance(cause, EngineTimedOut | Cancelled)
    return _ended(
        change,
        replace(
            done,
            trouble=told(cause, scope, change.address),
            unsure=unsure,
            # a lease that is lost is lost for the whole run
            stops=isinstance(cause, Refused),
            touched=unsure or done.touched or touched(cause),
            leftovers=(*done.leftovers, *getattr(cause, "leftovers", ())),
        ),
    )


def briefly(problem: Exception, scope: Scope) -> str:
    """A failure in one sentence; what is none of ours as ``told``."""
    return problem.summary if isinstance(problem, IsmgrError) else told(problem, scope)


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
