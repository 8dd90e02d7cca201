"""Which hosts are kept as a whole while their packages move, and whether one that was put back is what it was. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.estate.maintenance import PatchBaseline, RollbackPolicy
from ismgr_automation.estate.selector import Selector
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import HostFacts, Move


def kept_whole(
    document: PatchBaseline,
    hosts: Iterable[Host],
    groups: Mapping[str, HostGroup],
    membership: Mapping[str, Collection[str]],
) -> frozenset[str]:
    """The hosts that have a snapshot while their packages move: those that ``snapshots`` selects, where there is a way
    back at all. Members of a group with a switchover have none unless the group is named: going back in time would lose
    what its database took since."""
    asked = document.snapshots
    if asked is None or document.rollback is RollbackPolicy.NEVER:
        return frozenset()
    select = Selector.compile(asked.selector)
    databases = {
        name
        for key, group in groups.items()
        if group.switchover is not None and key not in asked.databases
        for name in membership.get(key, ())
    }
    return frozenset(one.name for one in hosts if one.name not in databases and select.matches(one))


def not_former(facts: HostFacts, moves: Sequence[Move]) -> tuple[str, ...]:
    """The packages of ``moves`` that are not, or not well, in the version from before them: a sentence for each."""
    there = {(one.name, one.architecture): one for one in facts.installed}
    found: list[str] = []
    for move in moves:
        one = there.get((move.name, move.architecture))
        if one is None:
            if move.before:
                found.append(f"{move.name} is not installed")
        elif one.version != move.before:
            found.append(f"{move.name} is {one.version}")
        elif not one.well:
            found.append(f"{move.name} is {one.version} and {one.status}")
    return tuple(found)
