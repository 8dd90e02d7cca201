"""What stores of leases and runs say when they refuse, in the same words for every store. Values in, errors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import InputError, InternalError, LeaseHeld, LeaseLost, NotApproved
from ismgr_automation.ports.leases import Lease
from ismgr_automation.ports.runs import Run, RunState

STAYS = "What was done before stays; nothing more is done."
REPORT = "Please report this."


def lease_held(lease: Lease) -> LeaseHeld:
    """Somebody holds it, and its time is not over."""
    return LeaseHeld(name=lease.name, holder=str(lease.holder), since=lease.acquired_at, until=lease.expires_at)


def lease_gone(name: str, token: int, now: Lease | None) -> LeaseLost:
    """The lease with this token is over, was broken, or belongs to somebody else by now."""
    if now is not None and now.token == token:
        state = f"its time was over at {now.expires_at.isoformat(timespec='seconds')}"
    elif now is not None:
        state = f"it is held by {now.holder} with token {now.token}"
    else:
        state = "it was broken or given back"
    return LeaseLost(
        f"The lease {name} with token {token} is ours no longer: {state}.",
        untouched=STAYS,
        next_step="Look with `ismgr lease` who works there now, and with `ismgr runs` what is unfinished.",
    )


def lease_not_broken(name: str, token: int, now: Lease | None) -> LeaseLost:
    """The lease that somebody wants to break is not there any more."""
    state = f"it is held by {now.holder} with token {now.token}" if now is not None else "nobody holds it"
    return LeaseLost(
        f"The lease {name} was not broken: token {token} is not its holder's, {state}.",
        next_step="Look again with `ismgr lease`.",
    )


def run_moved_on(run: str, token: int, now: int) -> LeaseLost:
    """A run belongs to a later lease than ours."""
    return LeaseLost(
        f"Run {run} goes on under token {now}; ours is {token}.",
        untouched=STAYS,
        next_step="Look with `ismgr lease` who works there now.",
    )


def refuse_if_ended(run: Run) -> None:
    """Raises ``InputError`` for a run that has ended."""
    if run.state is not RunState.RUNNING:
        raise InputError(f"Run {run.id} has ended: {run.state}.", next_step="Plan again, and apply the new plan.")


def no_run(run: str, known: Sequence[str]) -> InputError:
    """There is no such run; names the nearest one."""
    suggestion = next((one for one in known if run and one.startswith(run)), "") or did_you_mean(run, known)
    wrong = Diagnostic(summary=f"there is no run {run!r}", suggestion=suggestion)
    return InputError(f"There is no run {run}.", diagnostics=[wrong], next_step="`ismgr runs` lists them.")


def used_approvals(used: Mapping[str, str]) -> NotApproved:
    """Approvals that earlier runs used: the runs by nonce."""
    listed = [f"{nonce} (used by run {run})" for nonce, run in sorted(used.items())]
    return NotApproved(
        f"An approval can be used once: {', '.join(listed)}.",
        missing=listed,
        next_step="Ask for a new approval of this plan.",
    )


def run_exists(run: str) -> InternalError:
    """A run's id was given twice."""
    return InternalError(f"There is a run {run} already.", untouched="Nothing was touched.", next_step=REPORT)


def round_differs(run: str, number: int) -> InternalError:
    """A round was opened twice, with other changes."""
    return InternalError(f"Round {number} of run {run} was opened with other changes.", next_step=REPORT)


def unit_ended(unit: str) -> InternalError:
    """A unit that has ended was begun again."""
    return InternalError(f"The unit {unit} has ended already, and was begun again.", next_step=REPORT)


def unit_never_started(unit: str) -> InternalError:
    """A unit ended without having begun."""
    return InternalError(f"The unit {unit} ended, and was never begun.", next_step=REPORT)
