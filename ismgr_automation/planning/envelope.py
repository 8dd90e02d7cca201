"""Whether what became known stays inside the bounds that were planned: a reason, or nothing."""

from __future__ import annotations

from ismgr_automation.planning.change import OUTPUT, Change, Deferred


def breach(deferred: Deferred, changes: tuple[Change, ...], content: str) -> str | None:
    """Why the released changes of one address may not run under their envelope; None when they may."""
    envelope = deferred.envelope
    if content != envelope.content:
        return f"the content of {deferred.address} is not what was planned"
    actions = {step.action for change in changes for step in change.steps} | {one.action for one in changes}
    over = sorted(actions - set(envelope.actions))
    if over:
        allowed = " and ".join(envelope.actions)
        return f"{deferred.address} wants to {' and '.join(over)}; planned was {allowed} only"
    size = _size(changes)
    if envelope.at_most and size > envelope.at_most:
        return f"{deferred.address} has {size} targets; planned were {envelope.at_most} at most"
    return None


def _size(changes: tuple[Change, ...]) -> int:
    targets = {target for change in changes for target in change.targets}
    return len(targets) or sum(map(resources, changes))


def resources(change: Change) -> int:
    """How many resources of its stack a change touches. Each has a step of its own, and a name that only those of its
    type need not share; a step that tells of an output touches none."""
    return sum(step.what != OUTPUT for step in change.steps)
