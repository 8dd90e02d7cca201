"""One shard of hosts, moved to exact versions of packages as planned: out of service, looked at, patched, restarted
where that is needed, verified, back in service - or rolled back. A host that fails costs itself, not the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.restarts import restarted
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import Relay, hand_back, hand_over, handed_over, out_of_service
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.core.events import StepReported
from ismgr_automation.estate.maintenance import PatchBaseline, RollbackPolicy
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.steps import moves, step_of_move
from ismgr_automation.planning.change import Change
from ismgr_automation.ports.packages import (
    HostFacts,
    Move,
    PackageFate,
    PackageRequest,
    PackageResult,
    Trouble,
)
from ismgr_automation.ports.patching import Patched, Waiting
from ismgr_automation.ports.verification import CheckResult

MOVED = frozenset({Trouble.VANISHED, Trouble.WIDER, Trouble.DIGEST, Trouble.MOVED, Trouble.FENCED})
"""Refusals that say that the world is not the one that was planned on: the run stops before the next change. All others
are a host's own misfortune, and cost the failure budget."""

GOOD = frozenset({PackageFate.DONE, PackageFate.NOTHING})


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
class _Course:
    """One shard on its way. ``trouble`` has a sentence for each host that is not well, ``made`` what really moved."""

    work: PackageWork
    scope: Scope
    baseline: PatchBaseline
    asked: Mapping[str, tuple[Move, ...]]
    began: float
    trouble: dict[str, str] = field(default_factory=dict)
    made: dict[str, tuple[Move, ...]] = field(default_factory=dict)
    before: dict[str, HostFacts] = field(default_factory=dict)
    """What hosts were like when we came to them."""
    torn: set[str] = field(default_factory=set)
    """Those on which the package manager began and did not end well."""
    restarts: dict[str, timedelta] = field(default_factory=dict)
    """Who was restarted, and how long that took."""
    relays: list[Relay] = field(default_factory=list)
    """Primary roles that were taken from hosts and not given back yet."""
    undone: set[str] = field(default_factory=set)
    """Those that have the former versions again."""
    restored: set[str] = field(default_factory=set)
    """Those of them that are well."""
    away: set[str] = field(default_factory=set)
    """Those that could not be reached: they go into the queue."""
    checks: tuple[CheckResult, ...] = ()
    stops: bool = False

    def well(self, names: Iterable[str]) -> list[str]:
        """Those that nothing has gone wrong with."""
        return [name for name in names if name not in self.trouble]

    def blame(self, found: Mapping[str, str]) -> None:
        """Add sentences to hosts."""
        for name, words in found.items():
            self.trouble[name] = "; ".join(filter(None, [self.trouble.get(name, ""), words]))

    def request(self, names: Collection[str], moves: Mapping[str, tuple[Move, ...]]) -> PackageRequest:
        """The moves of some of the hosts."""
        return PackageRequest(
            fleet=at_hand(self.scope, self.work.ground.fleet, names),
            moves={name: moves[name] for name in names},
            run=self.scope.context.run,
            deadline=duration(self.baseline.deadline),
            keep_former=self.baseline.rollback is not RollbackPolicy.NEVER,
            former_required=self.baseline.rollback is RollbackPolicy.REQUIRED,
            fence=self.scope.lease,
        )


def apply_packages(work: PackageWork, scope: Scope) -> Done:
    """Move the shard's packages, and all that belongs to it. Raises ``Cancelled``, ``EngineError``; what was taken out
    of service is put back first."""
    asked = moves(work.change.steps)
    gone = sorted(set(asked) - {one.host.name for one in work.ground.fleet.sightings})
    if gone:
        return Done(trouble=f"{', '.join(gone)}: no such host any more", touched=False, stops=True)
    course = _Course(
        work=work,
        scope=scope,
        baseline=scope.estate.baselines[work.change.address.name],
        asked=asked,
        began=time.monotonic(),
    )
    _refuse(course)
    if course.stops and not work.again:
        return _told(course)
    hosts = course.well(sorted(asked))
    left = sorted(course.trouble) if work.again else ()
    try:
        with out_of_service(hosts, work.ground, scope, left=left) as absence:
            course.blame(absence.trouble)
            course.relays += handed_over(work.change.steps, work.ground, scope) if work.again else ()
            _hand_over(course, course.well(hosts))
            _patch(course, course.well(hosts))
    finally:
        # also when somebody cancelled: the way back needs to know what was made
        _record(course)
    course.blame(absence.kept)
    _remember(course)
    return _told(course)


def _refuse(course: _Course) -> None:
    """Look at the hosts once more: what apt would do now must be what was signed. On the way back nothing is to be
    looked at: where the former versions come from is found out by whoever installs them, before anything is done."""
    if course.work.undoes or (course.work.looked and not course.work.again):
        return
    names = sorted(course.asked)
    found = course.scope.engines.upkeep.packages.check(course.request(names, course.asked), course.scope.context)
    _judge(found, course)


def _judge(found: Sequence[PackageResult], course: _Course) -> None:
    for one in found:
        if one.fate in GOOD:
            continue
        course.blame({one.host: _words(one)})
        course.stops |= one.fate is PackageFate.REFUSED and one.trouble in MOVED
        if one.fate is PackageFate.UNREACHABLE:
            course.away.add(one.host)


def _patch(course: _Course, names: Sequence[str]) -> None:
    """Packages, restarts, checks; then back to the former versions where that did not go well."""
    if not names:
        return
    course.before |= {one.host: one for one in _facts(course, names)}
    _install(course, course.well(names))
    _restart(course, course.well(names))
    # before the checks: they hold a host to what the estate says that it is
    stuck = _hand_back(course, course.well(names))
    checks = _checks(course, [name for name in course.well(names) if name not in stuck])
    course.checks += checks
    course.blame(_failing(checks))
    _undo(course, [name for name in names if name in course.trouble and (course.made.get(name) or name in course.torn)])
    # a role that stays elsewhere is no reason to take patches back
    course.blame(stuck)


def _hand_over(course: _Course, names: Sequence[str]) -> None:
    relays, stuck = hand_over(names, course.work.ground, course.scope)
    course.relays += relays
    course.blame(stuck)


def _hand_back(course: _Course, names: Sequence[str]) -> Mapping[str, str]:
    """Give roles back to those hosts; a sentence for each that did not get it."""
    mine = [one for one in course.relays if one.primary in names]
    course.relays = [one for one in course.relays if one not in mine]
    return hand_back(mine, names, course.work.ground, course.scope)


def _install(course: _Course, names: Sequence[str]) -> None:
    if not names:
        return
    scope, packages = course.scope, course.scope.engines.upkeep.packages
    act = packages.rollback if course.work.undoes else packages.apply
    found = {one.host: one for one in act(course.request(names, course.asked), scope.context)}
    lost = sorted(name for name, one in found.items() if one.fate is PackageFate.UNKNOWN)
    if lost:
        # asked once more, now that the connection may be there again: what was made is not made twice
        found |= {one.host: one for one in act(course.request(lost, course.asked), scope.context)}
    course.made |= {name: one.made for name, one in found.items()}
    course.torn |= {name for name, one in found.items() if one.fate in {PackageFate.FAILED, PackageFate.UNKNOWN}}
    _judge(list(found.values()), course)


def _restart(course: _Course, names: Sequence[str]) -> None:
    boots = {name: course.before[name].boot for name in names}
    after = restarted(course.baseline.reboot, boots, _facts(course, names), course.work.ground, course.scope)
    course.restarts |= after.rebooted
    course.blame(after.trouble)


def _checks(course: _Course, names: Sequence[str]) -> tuple[CheckResult, ...]:
    """The suites of every group that the hosts belong to."""
    ground, scope = course.work.ground, course.scope
    mine = {group: [name for name in names if name in who] for group, who in sorted(ground.fleet.membership.items())}
    return tuple(
        one
        for group, some in mine.items()
        if some
        for one in verify_group(scope, group, ground.fleet, ground.states, some)
    )


def _failing(checks: Sequence[CheckResult]) -> dict[str, str]:
    """A sentence for each host whose checks did not all pass."""
    bad: dict[str, list[str]] = {}
    for one in failed_checks(checks):
        bad.setdefault(one.host, []).append(one.check)
    count = Counter(one.host for one in checks)
    return {
        name: f"{name}: {len(said)} of {count[name]} checks did not pass, first {said[0]}" for name, said in bad.items()
    }


def _undo(course: _Course, names: Sequence[str]) -> None:
    """Install the exact former versions again, where the baseline says so and the host can still be reached."""
    names = [name for name in names if name not in course.away]
    if course.baseline.rollback is RollbackPolicy.NEVER or course.work.undoes or not names:
        return
    scope = course.scope
    held = {one.primary for one in course.relays}
    _hand_over(course, [name for name in names if name not in held])
    former = {name: reversed_moves(_begun(course, name)) for name in names}
    found = scope.engines.upkeep.packages.rollback(course.request(names, former), scope.context)
    for one in found:
        if one.fate in GOOD:
            course.undone.add(one.host)
            course.blame({one.host: f"{one.host} is back at the former versions{_staying(course, one.host)}"})
        else:
            course.blame({one.host: f"{one.host} could not be rolled back: {_words(one)}"})
    after = _facts(course, sorted(course.undone))
    boots = {one.host: one.boot for one in after}
    again = restarted(course.baseline.reboot, boots, after, course.work.ground, scope)
    course.restarts |= again.rebooted
    course.blame(again.trouble)
    back = sorted(course.undone - set(again.trouble) - course.away)
    stuck = _hand_back(course, back)
    course.blame(stuck)
    checks = _checks(course, [name for name in back if name not in stuck])
    still = _failing(checks)
    course.checks += checks
    course.restored |= set(back) - set(stuck) - set(still)
    course.blame({name: f"even so, {words}" for name, words in still.items()})


def _begun(course: _Course, name: str) -> tuple[Move, ...]:
    """The moves that were made on a host or begun; not those that somebody else had made before us."""
    made = course.made.get(name, ())
    if name not in course.torn:
        return made
    well = {(one.name, one.architecture, one.version) for one in course.before[name].installed if one.well}
    return tuple(
        one for one in course.asked[name] if one in made or (one.name, one.architecture, one.after) not in well
    )


def reversed_moves(moves: Sequence[Move]) -> tuple[Move, ...]:
    """The way back. A package that was not there before stays: what came with it may need it."""
    return tuple(replace(one, before=one.after, after=one.before, digest="") for one in moves if one.before)


def _staying(course: _Course, name: str) -> str:
    """The new packages that the way back left where they are, in words."""
    new = [f"{one.name} {one.after}" for one in course.made.get(name, ()) if not one.before]
    return f"; what was not there before stays: {', '.join(new)}" if new else ""


def _facts(course: _Course, names: Sequence[str]) -> tuple[HostFacts, ...]:
    if not names:
        return ()
    scope = course.scope
    found = scope.engines.upkeep.facts.read(at_hand(scope, course.work.ground.fleet, names), scope.context)
    lost = {
        one.host: f"{one.host} ({one.reach}) {one.detail}".rstrip() for one in found if not isinstance(one, HostFacts)
    }
    course.blame(lost)
    course.away |= set(lost)
    return tuple(one for one in found if isinstance(one, HostFacts))


def _record(course: _Course) -> None:
    """What was made, for rollbacks and windows; and that a run is undone, on the hosts where it is."""
    scope, now = course.scope, datetime.now(UTC)
    records = scope.engines.upkeep.records
    took = timedelta(seconds=time.monotonic() - course.began)
    run = scope.context.run
    records.keep_patched(
        [
            Patched(
                run=run,
                host=name,
                at=now,
                moves=moves,
                took=took,
                rebooted=name in course.restarts,
                restart=course.restarts.get(name),
                rolled_back=run if name in course.undone else "",
            )
            for name, moves in sorted(course.made.items())
            if moves
        ]
    )
    if course.work.undoes:
        names = [name for name, moves in course.made.items() if name not in course.torn and moves]
        done = [one for name in names for one in records.patched(name, run=course.work.undoes)]
        records.keep_patched([replace(one, rolled_back=run) for one in done])
    scope.context.emit(StepReported(step=f"patched {course.work.change.key}", seconds=took.total_seconds()))


def _remember(course: _Course) -> None:
    """What hosts are like now; who was away is put into the queue, and who has been patched comes out of it."""
    scope, now = course.scope, datetime.now(UTC)
    records = scope.engines.upkeep.records
    if not scope.context.cancelled.is_set():
        # whoever cancels when all is done comes too late
        records.keep_facts(_facts(course, [name for name in sorted(course.asked) if name not in course.away]))
    until = now + duration(course.baseline.offline_for)
    records.enqueue(
        [
            Waiting(host=name, baseline=course.baseline.name, since=now, expires_at=until, run=scope.context.run)
            for name in sorted(course.away)
        ]
    )
    records.dequeue(course.well(sorted(course.asked)))


def _told(course: _Course) -> Done:
    touched = any(course.made.values()) or bool(course.torn) or course.work.again
    applied = tuple(step_of_move(name, one) for name, moves in sorted(course.made.items()) for one in moves)
    return Done(
        changed=sum(map(len, course.made.values())),
        trouble="; ".join(course.trouble[name] for name in sorted(course.trouble)),
        touched=touched,
        stops=course.stops,
        applied=applied,
        troubled=tuple(sorted(course.trouble)),
        undone=tuple(sorted(course.restored)),
        checks=course.checks,
    )


def _words(one: PackageResult) -> str:
    why = f" ({one.trouble})" if one.trouble is not Trouble.NONE else ""
    return f"{one.host} {one.fate}{why}: {one.detail}".rstrip(": ")
