"""One shard of hosts, moved to exact versions of packages as planned: out of service, looked at, patched, restarted
where that is needed, verified, back in service - or rolled back. A host that fails costs itself, not the others."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.restarts import restarted
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import Relay, hand_back, hand_over, out_of_service
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
    was checked under this lease a moment ago. ``back``: it undoes a run."""

    change: Change
    ground: Ground
    again: bool
    looked: bool
    back: bool = False


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
    restarts: dict[str, timedelta] = field(default_factory=dict)
    """Who was restarted, and how long that took."""
    undone: set[str] = field(default_factory=set)
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
    with out_of_service(hosts, work.ground, scope) as absence:
        course.blame(absence.trouble)
        relays, stuck = hand_over(course.well(hosts), work.ground, scope)
        course.blame(stuck)
        _patch(course, course.well(hosts))
        course.blame(_not_back(course, relays))
    course.blame(absence.trouble)
    _remember(course)
    return _told(course)


def _not_back(course: _Course, relays: Sequence[Relay]) -> Mapping[str, str]:
    """Whose primary role could not be given back, and why."""
    return hand_back(relays, course.well(sorted(course.asked)), course.work.ground, course.scope)


def _refuse(course: _Course) -> None:
    """Look at the hosts once more: what apt would do now must be what was signed."""
    if course.work.looked and not course.work.again:
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
    scope, upkeep = course.scope, course.scope.engines.upkeep
    boots = {one.host: one.boot for one in _facts(course, names)}
    request = course.request(course.well(names), course.asked)
    act = upkeep.packages.rollback if course.work.back else upkeep.packages.apply
    found = act(request, scope.context)
    course.made |= {one.host: one.made for one in found}
    _judge(found, course)
    well = course.well(names)
    after = restarted(course.baseline.reboot, boots, _facts(course, well), course.work.ground, scope)
    course.restarts |= after.rebooted
    course.blame(after.trouble)
    _verify(course, course.well(names))
    _undo(course, [name for name in names if name in course.trouble and course.made.get(name)])


def _verify(course: _Course, names: Sequence[str]) -> None:
    """The suites of every group that the hosts belong to."""
    ground, scope = course.work.ground, course.scope
    for group, members in sorted(ground.fleet.membership.items()):
        mine = [name for name in names if name in members]
        checks = verify_group(scope, group, ground.fleet, ground.states, mine) if mine else ()
        course.checks += checks
        bad: dict[str, list[str]] = {}
        for one in failed_checks(checks):
            bad.setdefault(one.host, []).append(one.check)
        course.blame(
            {
                name: f"{name}: {len(said)} of {sum(one.host == name for one in checks)} checks did not pass, "
                f"first {said[0]}"
                for name, said in bad.items()
            }
        )


def _undo(course: _Course, names: Sequence[str]) -> None:
    """Install the exact former versions again, where the baseline says so and the host can still be reached."""
    names = [name for name in names if name not in course.away]
    if course.baseline.rollback is RollbackPolicy.NEVER or course.work.back or not names:
        return
    scope = course.scope
    former = {name: reversed_moves(course.made[name]) for name in names}
    found = scope.engines.upkeep.packages.rollback(course.request(names, former), scope.context)
    for one in found:
        if one.fate in GOOD:
            course.undone.add(one.host)
            course.blame({one.host: f"{one.host} is back at the former versions"})
        else:
            course.blame({one.host: f"{one.host} could not be rolled back: {_words(one)}"})
    again = restarted(
        course.baseline.reboot,
        {one.host: one.boot for one in _facts(course, sorted(course.undone & set(course.restarts)))},
        _facts(course, sorted(course.undone)),
        course.work.ground,
        scope,
    )
    course.blame(again.trouble)


def reversed_moves(moves: Sequence[Move]) -> tuple[Move, ...]:
    """The way back. A package that was not there before stays: what came with it may need it."""
    return tuple(replace(one, before=one.after, after=one.before, digest="") for one in moves if one.before)


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


def _remember(course: _Course) -> None:
    """What was done, for rollbacks, windows and status; who was away is put into the queue."""
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
    records.keep_facts(_facts(course, [name for name in sorted(course.asked) if name not in course.away]))
    until = now + duration(course.baseline.offline_for)
    records.enqueue(
        [
            Waiting(host=name, baseline=course.baseline.name, since=now, expires_at=until, run=run)
            for name in sorted(course.away)
        ]
    )
    records.dequeue(course.well(sorted(course.asked)))
    scope.context.emit(StepReported(step=f"patched {course.work.change.key}", seconds=took.total_seconds()))


def _told(course: _Course) -> Done:
    touched = any(course.made.values()) or course.work.again
    applied = tuple(step_of_move(name, one) for name, moves in sorted(course.made.items()) for one in moves)
    return Done(
        changed=sum(map(len, course.made.values())),
        trouble="; ".join(course.trouble[name] for name in sorted(course.trouble)),
        touched=touched,
        stops=course.stops,
        applied=applied,
        troubled=tuple(sorted(course.trouble)),
        checks=course.checks,
    )


def _words(one: PackageResult) -> str:
    why = f" ({one.trouble})" if one.trouble is not Trouble.NONE else ""
    return f"{one.host} {one.fate}{why}: {one.detail}".rstrip(": ")
