"""One shard of hosts, moved to exact versions of packages as planned: out of service, looked at, patched, restarted
where that is needed, verified, back in service - or rolled back. A host that fails costs itself, not the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.course import (
    GOOD,
    Course,
    PackageWork,
    failing,
    in_words,
    read_facts,
    run_checks,
)
from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import handed_over, out_of_service, tell_away
from ismgr_automation.converge.snapshots import create, leave, recall, remove, snapshot_name
from ismgr_automation.converge.way_back import (
    give_roles_back,
    go_back,
    restart_where_needed,
    take_roles,
)
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.estate.maintenance import RollbackPolicy
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.steps import moves, step_of_move, with_snapshots
from ismgr_automation.ports.packages import PackageFate, PackageResult, Trouble
from ismgr_automation.ports.patching import Patched, Waiting

MOVED = frozenset({Trouble.VANISHED, Trouble.WIDER, Trouble.DIGEST, Trouble.MOVED, Trouble.FENCED})
"""Refusals that say that the world is not the one that was planned on: the run stops before the next change. All others
are a host's own misfortune, and cost the failure budget."""


def apply_packages(work: PackageWork, scope: Scope) -> Done:
    """Move the shard's packages, and all that belongs to it. Raises ``Cancelled``, ``EngineError``; what was taken out
    of service is put back first."""
    asked = moves(work.change.steps)
    gone = sorted(set(asked) - {one.host.name for one in work.ground.fleet.sightings})
    if gone:
        return Done(trouble=f"{', '.join(gone)}: no such host any more", touched=False, stops=True)
    course = Course(
        work=work,
        scope=scope,
        baseline=scope.estate.baselines[work.change.address.name],
        asked=asked,
        began=time.monotonic(),
        snapshots=with_snapshots(work.change.steps),
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
            _rescue(course, left)
            take_roles(course, course.well(hosts))
            _patch(course, course.well(hosts))
    except IsmgrError:
        leave(course)
        raise
    finally:
        # also when somebody cancelled: the way back needs to know what was made
        tell_away(course.relays, scope)
        _record(course)
    course.blame(absence.kept)
    remove(course)
    _remember(course)
    return _told(course)


def _refuse(course: Course) -> None:
    """Look at the hosts once more: what apt would do now must be what was signed. On the way back nothing is to be
    looked at: where the former versions come from is found out by whoever installs them, before anything is done."""
    if course.work.undoes or (course.work.looked and not course.work.again):
        return
    names = sorted(course.asked)
    found = course.scope.engines.upkeep.packages.check(course.request(names, course.asked), course.scope.context)
    _judge(found, course)


def _judge(found: Sequence[PackageResult], course: Course) -> None:
    for one in found:
        if one.fate in GOOD:
            continue
        course.blame({one.host: in_words(one)})
        course.quote(one)
        course.stops |= one.fate is PackageFate.REFUSED and one.trouble in MOVED
        if one.fate is PackageFate.UNREACHABLE:
            course.away.add(one.host)


def _rescue(course: Course, left: Sequence[str]) -> None:
    """Hosts that a process of ours left with a snapshot when it died, and that cannot be worked on now: those that do
    not answer any more are put back."""
    recall(course, left)
    course.torn |= course.kept
    go_back(course, [name for name in left if name in course.kept and name in course.away])


def _patch(course: Course, names: Sequence[str]) -> None:
    """Packages, restarts, checks; then back to the former versions where that did not go well."""
    if not names:
        return
    course.before |= {one.host: one for one in read_facts(course, names)}
    create(course, course.well(names))
    _install(course, course.well(names))
    well = course.well(names)
    restart_where_needed(course, read_facts(course, well), [course.before[name] for name in well])
    # before the checks: they hold a host to what the estate says that it is
    stuck = give_roles_back(course, course.well(names))
    course.blame(failing(run_checks(course, [name for name in course.well(names) if name not in stuck])))
    begun = [name for name in names if course.made.get(name) or name in course.torn]
    go_back(course, [name for name in begun if name in course.trouble])
    # a role that stays elsewhere is no reason to take patches back
    course.blame(stuck)


def _install(course: Course, names: Sequence[str]) -> None:
    """Former versions may be required of some hosts only: those are asked by themselves."""
    required = course.baseline.rollback is RollbackPolicy.REQUIRED
    kept = [name for name in names if required and name in course.kept]
    for some in (kept, [name for name in names if name not in kept]):
        if some:
            _install_on(course, some)


def _install_on(course: Course, names: Sequence[str]) -> None:
    scope, packages = course.scope, course.scope.engines.upkeep.packages
    act = packages.rollback if course.work.undoes else packages.apply
    found = {one.host: one for one in act(course.request(names, course.asked), scope.context)}
    lost = sorted(name for name, one in found.items() if one.fate is PackageFate.UNKNOWN)
    if lost:
        # asked once more, now that the connection may be there again: what was made is not made twice
        found |= {one.host: one for one in act(course.request(lost, course.asked), scope.context)}
    course.made |= {name: one.made for name, one in found.items()}
    course.good |= {name for name, one in found.items() if one.fate in GOOD}
    course.torn |= {name for name, one in found.items() if one.fate in {PackageFate.FAILED, PackageFate.UNKNOWN}}
    # it was lost in the middle, and nobody can tell what it has
    course.torn |= {name for name in lost if found[name].fate is PackageFate.UNREACHABLE}
    _judge(list(found.values()), course)


def _record(course: Course) -> None:
    """What was made, for rollbacks and windows; and that a run is undone, on the hosts where it is."""
    scope, now = course.scope, datetime.now(UTC)
    records = scope.engines.upkeep.records
    took = timedelta(seconds=time.monotonic() - course.began)
    run = scope.context.run
    # of a host that was put back nobody may know what it had got by then; where no way back went well it is left to do
    left = set() if course.work.undoes else course.torn - course.undone
    moved = course.made | {name: course.begun(name) for name in course.put_back | left}
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
                snapshot=snapshot_name(run) if name in course.put_back else "",
            )
            for name, moves in sorted(moved.items())
            if moves
        ]
    )
    if course.work.undoes:
        # also where somebody else had been faster
        done = [one for name in sorted(course.good) for one in records.patched(name, run=course.work.undoes)]
        records.keep_patched([replace(one, rolled_back=run) for one in done])
    scope.context.emit(StepReported(step=f"patched {course.work.change.key}", seconds=took.total_seconds()))


def _remember(course: Course) -> None:
    """What hosts are like now; who was away is put into the queue, and who has been patched comes out of it."""
    scope, now = course.scope, datetime.now(UTC)
    records = scope.engines.upkeep.records
    if not scope.context.cancelled.is_set():
        # whoever cancels when all is done comes too late
        records.keep_facts(read_facts(course, [name for name in sorted(course.asked) if name not in course.away]))
    until = now + duration(course.baseline.offline_for)
    records.enqueue(
        [
            Waiting(host=name, baseline=course.baseline.name, since=now, expires_at=until, run=scope.context.run)
            for name in sorted(course.away)
        ]
    )
    records.dequeue(course.well(sorted(course.asked)))


def _told(course: Course) -> Done:
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
        detail="\n".join(course.quotes),
    )
