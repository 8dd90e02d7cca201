"""One shard of hosts on its way to other versions of packages: what was asked, and what is known of each host so far.
Looks at hosts and keeps account; it moves no package and restarts nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import Relay, with_present_primary
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.estate.maintenance import PatchBaseline, RollbackPolicy
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.change import Change
from ismgr_automation.ports.packages import (
    Boot,
    HostFacts,
    Move,
    PackageFate,
    PackageRequest,
    PackageResult,
    Trouble,
)
from ismgr_automation.ports.verification import CheckResult

GOOD = frozenset({PackageFate.DONE, PackageFate.NOTHING})
"""How a host fares whose packages are as they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageWork:
    """What is asked: the change and the ground that it stands on. ``again``: somebody began it and died. ``looked``: it
    was checked under this lease a moment ago. ``undoes``: the run that it is the way back from, if it is one."""

    change: Change
    ground: Ground
    again: bool
    looked: bool
    undoes: str = ""


@dataclass(slots=True, kw_only=True)
class Course:
    """One shard on its way. ``trouble`` has a sentence for each host that is not well, ``made`` what really moved."""

    work: PackageWork
    scope: Scope
    baseline: PatchBaseline
    asked: Mapping[str, tuple[Move, ...]]
    began: float
    snapshots: frozenset[str] = frozenset()
    """Those that are to have a snapshot while they are worked on."""
    kept: set[str] = field(default_factory=set)
    """Those of them that have it."""
    trouble: dict[str, str] = field(default_factory=dict)
    made: dict[str, tuple[Move, ...]] = field(default_factory=dict)
    before: dict[str, HostFacts] = field(default_factory=dict)
    """What hosts were like when we came to them."""
    lives: dict[str, Boot] = field(default_factory=dict)
    """The life in which each host was seen last."""
    torn: set[str] = field(default_factory=set)
    """Those on which the package manager began and did not end well."""
    good: set[str] = field(default_factory=set)
    """Those whose packages are as they were asked for."""
    restarts: dict[str, timedelta] = field(default_factory=dict)
    """Who was restarted, and how long that took."""
    relays: list[Relay] = field(default_factory=list)
    """Primary roles that were taken from hosts and not given back yet."""
    undone: set[str] = field(default_factory=set)
    """Those that have the former versions again."""
    put_back: set[str] = field(default_factory=set)
    """Those of them that were put back to their snapshot."""
    restored: set[str] = field(default_factory=set)
    """Those that have the former versions again and are well."""
    away: set[str] = field(default_factory=set)
    """Those that could not be reached: they go into the queue."""
    checks: tuple[CheckResult, ...] = ()
    quotes: list[str] = field(default_factory=list)
    """What apt said on hosts where it went wrong, line by line."""
    stops: bool = False

    def well(self, names: Iterable[str]) -> list[str]:
        """Those that nothing has gone wrong with."""
        return [name for name in names if name not in self.trouble]

    def blame(self, found: Mapping[str, str]) -> None:
        """Add sentences to hosts."""
        for name, words in found.items():
            self.trouble[name] = "; ".join(filter(None, [self.trouble.get(name, ""), words]))

    def quote(self, one: PackageResult) -> None:
        """Keep what apt said, where a line of it does not say it all."""
        if one.headline and one.detail != one.headline:
            self.quotes += [f"{one.host}: {line}" for line in one.detail.splitlines()]

    def request(self, names: Collection[str], moves: Mapping[str, tuple[Move, ...]]) -> PackageRequest:
        """The moves of some of the hosts. Former versions are not required of hosts that all have a snapshot."""
        required = self.baseline.rollback is RollbackPolicy.REQUIRED
        return PackageRequest(
            fleet=at_hand(self.scope, self.work.ground.fleet, names),
            moves={name: moves[name] for name in names},
            run=self.scope.context.run,
            deadline=duration(self.baseline.deadline),
            keep_former=self.baseline.rollback is not RollbackPolicy.NEVER,
            former_required=required and not self.kept.issuperset(names),
            fence=self.scope.lease,
        )

    def begun(self, name: str) -> tuple[Move, ...]:
        """The moves that were made on a host or begun; not those that somebody else had made before us."""
        made = self.made.get(name, ())
        if name not in self.torn:
            return made
        if name not in self.before:
            return self.asked[name]
        well = {(one.name, one.architecture, one.version) for one in self.before[name].installed if one.well}
        return tuple(
            one for one in self.asked[name] if one in made or (one.name, one.architecture, one.after) not in well
        )


def read_facts(course: Course, names: Sequence[str]) -> tuple[HostFacts, ...]:
    """What hosts are like now; who cannot be read is away, and blamed for it."""
    if not names:
        return ()
    scope = course.scope
    found = scope.engines.upkeep.facts.read(at_hand(scope, course.work.ground.fleet, names), scope.context)
    lost = {
        one.host: f"{one.host} ({one.reach}) {one.detail}".rstrip() for one in found if not isinstance(one, HostFacts)
    }
    course.blame(lost)
    course.away |= set(lost)
    read = tuple(one for one in found if isinstance(one, HostFacts))
    course.lives |= {one.host: one.boot for one in read}
    return read


def run_checks(course: Course, names: Sequence[str]) -> tuple[CheckResult, ...]:
    """The suites of every group that the hosts belong to."""
    ground, scope = course.work.ground, course.scope
    mine = {group: [name for name in names if name in who] for group, who in sorted(ground.fleet.membership.items())}
    found = tuple(
        one
        for group, some in mine.items()
        if some
        for one in verify_group(with_present_primary(group, ground, scope), group, ground.fleet, ground.states, some)
    )
    course.checks += found
    return found


def failing(checks: Sequence[CheckResult]) -> dict[str, str]:
    """A sentence for each host whose checks did not all pass."""
    bad: dict[str, list[str]] = {}
    for one in failed_checks(checks):
        bad.setdefault(one.host, []).append(one.check)
    count = Counter(one.host for one in checks)
    return {
        name: f"{name}: {len(said)} of {count[name]} checks did not pass, first {said[0]}" for name, said in bad.items()
    }


def in_words(one: PackageResult) -> str:
    """What became of a host."""
    why = f" ({one.trouble})" if one.trouble is not Trouble.NONE else ""
    return f"{one.host} {one.fate}{why}: {one.headline or one.detail}".rstrip(": ")
