"""One failure budget for a whole run: how many hosts and stacks may fail before it stops. Pure: it only counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ismgr_automation.core.address import Kind
from ismgr_automation.planning.change import Change, Deferred
from ismgr_automation.ports.hosts import PlaybookResult
from ismgr_automation.ports.verification import CheckResult, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many subjects may fail, be unreachable or not verify; one more stops the run. A subject is a host, by its
    name, or a stack, by its address."""

    allowed: int
    told: str
    """The allowance as people wrote it."""

    @classmethod
    def of(cls, setting: int | str, *, covered: int) -> Budget:
        """A budget from its setting: a count, or a percentage of the subjects that are covered, rounded down.

        >>> Budget.of("10%", covered=19).allowed
        1
        """
        if isinstance(setting, int):
            return cls(allowed=setting, told=str(setting))
        allowed = covered * int(setting.rstrip("%")) // 100
        return cls(allowed=allowed, told=f"{setting} of {covered}, which is {allowed}")

    def exceeded(self, spent: Collection[str]) -> str | None:
        """Why the run must stop, or None while it may go on. Each subject counts once, however often it failed.

        >>> Budget.of(1, covered=9).exceeded(["web1", "web2"])
        '2 failed, could not be reached or did not verify (web1, web2); the failure budget of the run is 1'
        """
        failed = sorted(set(spent))
        if len(failed) <= self.allowed:
            return None
        return (
            f"{len(failed)} failed, could not be reached or did not verify ({_listed(failed)}); "
            f"the failure budget of the run is {self.told}"
        )


def covered(changes: Iterable[Change], deferred: Iterable[Deferred] = ()) -> int:
    """How many subjects a plan covers, each once; of what is deferred only what is known by name, so that a percentage
    never allows more than was seen."""
    subjects: set[str] = set()
    for change in changes:
        subjects |= _subjects(change)
    for one in deferred:
        subjects |= {str(one.address)} if one.address.kind is Kind.STACK else {target.name for target in one.expected}
    return len(subjects)


def spent(change: Change, *, landed: bool, troubled: Iterable[str] = ()) -> frozenset[str]:
    """What one change takes from the budget. ``troubled`` are names of hosts that failed, were unreachable or did not
    verify. A change that did not land and blames nobody takes everything that it worked on."""
    blamed = frozenset(troubled)
    return blamed if landed or blamed else frozenset(_subjects(change))


def troubled(result: PlaybookResult | None, checks: Sequence[CheckResult] = ()) -> tuple[str, ...]:
    """Names of the hosts of a shard that count against the budget, each once, sorted. A check that could not be made
    has not passed."""
    names = {one.host for one in checks if one.verdict in (Verdict.FAILED, Verdict.ERROR)}
    if result is not None:
        names |= {one.host for one in result.unreachable} | set(result.failed)
    return tuple(sorted(names))


def _subjects(change: Change) -> set[str]:
    return {target.name for target in change.targets} or {str(change.address)}


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names if len(names) <= most else [*names[:most], f"{len(names) - most} more"])
