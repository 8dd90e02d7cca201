"""What waits for what among the steps of a recovery plan's path. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ismgr_automation.estate.recovery import ColdStep, HotStep, RecoveryPlan

Step = HotStep | ColdStep

PATHS = ("failover", "switchover", "reprotect", "after")
"""The fields of a RecoveryPlan that hold steps."""


def each_step(plan: RecoveryPlan) -> Iterator[tuple[str, int, Step]]:
    """Every step with the path that it is on and its place there."""
    for path in PATHS:
        yield from ((path, index, step) for index, step in enumerate(getattr(plan, path)))


def before(steps: Sequence[Step]) -> Mapping[str, frozenset[str]]:
    """What each step waits for, directly: its ``needs``, or all that stand before it where it names none. Names that no
    step has are left in."""
    found: dict[str, frozenset[str]] = {}
    for index, step in enumerate(steps):
        found[step.name] = frozenset(step.needs) if step.needs else frozenset(one.name for one in steps[:index])
    return found


def always_before(steps: Sequence[Step], name: str) -> frozenset[str]:
    """All steps that have ended well whenever this one begins."""
    direct = before(steps)
    found: set[str] = set()
    left = [name]
    while left:
        for one in direct.get(left.pop(), frozenset()) - found:
            found.add(one)
            left.append(one)
    return frozenset(found)
