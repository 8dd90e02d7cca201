"""Snapshots of hosts whose packages move: made before, put back where nothing else helps, removed when a host is well.
One that a run has made is never made over, and a host that is put back is proven to be what it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ismgr_automation.converge.course import Course, read_facts
from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.restarts import time_to_come_back
from ismgr_automation.converge.service import cluster_of
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.snapshots import not_former
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Boot, Restart
from ismgr_automation.ports.upkeep import Part, SnapshotRequest, SnapshotResult

Call = Callable[[SnapshotRequest, Context], SnapshotResult]


def snapshot_name(run: str) -> str:
    """What the snapshots of a run are called, on every host alike.

    >>> snapshot_name("20261127T031259-ab12")
    'ismgr-20261127T031259-ab12'
    """
    return f"ismgr-{run}"


def create(course: Course, names: Sequence[str]) -> None:
    """Keep those of the hosts that are to be kept, as they are now. Without its snapshot a host is not well, and must
    not be worked on. Only a run that is gone on with may find one there: the first shows the host as it was."""
    wanted = [name for name in names if name in course.snapshots]
    name = snapshot_name(course.scope.context.run)
    for one in _ask(course, course.scope.engines.upkeep.snapshots.create, wanted):
        if one.ok and (course.work.again or not one.there):
            course.kept.add(one.host)
            detail = f"{name} {'was there' if one.there else 'made'}"
            course.scope.context.emit(StepReported(step=f"snapshot {one.host}", detail=detail, seconds=one.seconds))
        else:
            why = "somebody else has made one of this name" if one.ok else one.detail
            course.blame({one.host: f"{one.host} is left as it is, its snapshot {name} could not be made: {why}"})


def recall(course: Course, names: Sequence[str]) -> None:
    """Find out which of the hosts have a snapshot of this run, made by a process that died. The question is to make
    one: only where there was none before something is made, and it shows nothing that anybody needs."""
    snapshots = course.scope.engines.upkeep.snapshots
    found = _ask(course, snapshots.create, [name for name in names if name in course.snapshots])
    course.kept |= {one.host for one in found if one.there}
    _ask(course, snapshots.remove, [one.host for one in found if one.ok and not one.there])


def restore(course: Course, names: Sequence[str]) -> list[str]:
    """Put back those of the hosts that have a snapshot, and wait for them; returns those that have the former versions.

    A member of a cluster is put back only while another one is seen to be its primary: nobody else has what a primary
    took since.
    """
    name = snapshot_name(course.scope.context.run)
    wanted = [one for one in names if one in course.kept]
    primaries = _may_be_primary(course, wanted)
    course.blame({one: f"{one} may be the primary and is not put back to its snapshot {name}" for one in primaries})
    wanted = [one for one in wanted if one not in primaries]
    restored: dict[str, SnapshotResult] = {}
    for one in _ask(course, course.scope.engines.upkeep.snapshots.restore, wanted):
        if one.ok:
            restored[one.host] = one
        else:
            course.blame({one.host: f"{one.host} could not be put back to its snapshot {name}: {one.detail}"})
    proofs = _await_back(course, sorted(restored))
    for host, proof in proofs.items():
        detail, seconds = f"put back to {name}: {proof}", restored[host].seconds
        course.scope.context.emit(StepReported(step=f"snapshot {host}", detail=detail, seconds=seconds))
    return _former(course, sorted(proofs))


def remove(course: Course) -> None:
    """Remove the snapshots of hosts that are well, or well again as they were before, and of those on which nothing was
    begun. All others keep theirs, and it is told."""
    name = snapshot_name(course.scope.context.run)
    begun = {one for one in course.kept if course.made.get(one) or one in course.torn}
    over = sorted(one for one in course.kept if one not in course.trouble or one in course.restored or one not in begun)
    course.blame(dict.fromkeys(sorted(course.kept - set(over)), f"its snapshot {name} is kept"))
    for one in _ask(course, course.scope.engines.upkeep.snapshots.remove, over):
        if one.ok:
            course.kept.discard(one.host)
        else:
            # it takes room that the next one needs: somebody must look
            course.blame({one.host: f"the snapshot {name} of {one.host} could not be removed: {one.detail}"})


def leave(course: Course) -> None:
    """Tell whose snapshots stay, when the work on a shard was stopped in the middle."""
    name = snapshot_name(course.scope.context.run)
    for host in sorted(course.kept):
        course.scope.context.emit(StepReported(step=f"snapshot {host}", detail=f"{name} stays: the work was stopped"))


def _ask(course: Course, call: Call, names: Sequence[str]) -> tuple[SnapshotResult, ...]:
    document, scope = course.baseline.snapshots, course.scope
    if document is None or not names:
        return ()
    requests = [
        SnapshotRequest(
            host=name,
            name=snapshot_name(scope.context.run),
            command=document.command,
            root=scope.tree.root,
            deadline=duration(document.deadline),
            secrets={key: SecretRef.parse(value.secret) for key, value in document.secrets.items()},
        )
        for name in names
    ]
    return each(requests, lambda one: call(one, scope.context), workers=scope.workers)


def _may_be_primary(course: Course, names: Sequence[str]) -> list[str]:
    """Those of the hosts in whose cluster no other member is the primary, as far as anybody can see."""
    ground, scope = course.work.ground, course.scope
    found: set[str] = set()
    for group, members in sorted(ground.fleet.membership.items()):
        document = scope.estate.groups[group].switchover
        mine = set(members) & set(names)
        if document is None or not mine:
            continue
        seen = scope.engines.upkeep.cluster.members(cluster_of(group, document, ground, scope), scope.context)
        holders = {one.host for one in seen if one.part is Part.PRIMARY}
        found |= mine & holders if holders else mine
    return sorted(found)


def _await_back(course: Course, names: Sequence[str]) -> dict[str, str]:
    """Wait for hosts that were put back; returns the proof of another life of each that came."""
    if not names:
        return {}
    scope = course.scope
    request = Restart(
        fleet=at_hand(scope, course.work.ground.fleet, names),
        boots=_lives(course, names),
        within=time_to_come_back(course.baseline.reboot, names, scope),
    )
    found = scope.engines.upkeep.restarter.await_back(request, scope.context)
    name = snapshot_name(scope.context.run)
    course.blame(
        {
            one.host: f"{one.host} was put back to its snapshot {name} and did not come back: {one.detail}"
            for one in found
            if not one.ok
        }
    )
    course.away -= {one.host for one in found if one.ok}
    return {one.host: one.proof for one in found if one.ok}


def _lives(course: Course, names: Sequence[str]) -> dict[str, Boot]:
    """The life of each host before, as it was seen last: by this process, or whenever it was read."""
    remembered = course.scope.engines.upkeep.records.facts(names)
    return {name: one.boot for name, one in remembered.items()} | {
        name: course.lives[name] for name in names if name in course.lives
    }


def _former(course: Course, names: Sequence[str]) -> list[str]:
    """Those that really have the former versions."""
    name = snapshot_name(course.scope.context.run)
    back: list[str] = []
    for facts in read_facts(course, names):
        wrong = not_former(facts, course.begun(facts.host))
        words = f"{facts.host} was put back to its snapshot {name}"
        if wrong:
            course.blame({facts.host: f"{words}, which has not the former versions: {', '.join(wrong)}"})
            continue
        course.blame({facts.host: f"{words} and has the former versions again"})
        course.undone.add(facts.host)
        course.put_back.add(facts.host)
        back.append(facts.host)
    return back
