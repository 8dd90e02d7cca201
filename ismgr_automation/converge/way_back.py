"""The way back of hosts that are not well after their packages moved: the exact former versions by packages, as a whole
by snapshot where that fails, then the checks again. Whoever is well is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ismgr_automation.converge.course import GOOD, Course, failing, in_words, read_facts, run_checks
from ismgr_automation.converge.fleet import await_hosts
from ismgr_automation.converge.restarts import restarted
from ismgr_automation.converge.service import hand_back, hand_over
from ismgr_automation.converge.snapshots import restore
from ismgr_automation.estate.maintenance import RollbackPolicy
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import HostFacts, Move


def go_back(course: Course, names: Sequence[str]) -> None:
    """Former versions on hosts, where the baseline says so: by packages on those that can be reached, by snapshot on
    those that have one and cannot be mended so."""
    if course.baseline.rollback is RollbackPolicy.NEVER or course.work.undoes or not names:
        return
    _await_lost(course, [name for name in names if name in course.away and name in course.kept])
    back = _by_packages(course, [name for name in names if name not in course.away])
    back = sorted({*back, *restore(course, [name for name in names if name not in back])})
    stuck = give_roles_back(course, back)
    course.blame(stuck)
    still = failing(run_checks(course, [name for name in back if name not in stuck]))
    course.restored |= set(back) - set(stuck) - set(still)
    course.blame({name: f"even so, {words}" for name, words in still.items()})


def take_roles(course: Course, names: Sequence[str]) -> None:
    """Move primary roles away from hosts; those that keep theirs are not well."""
    course.blame(hand_over(names, course.relays, course.work.ground, course.scope))


def give_roles_back(course: Course, names: Sequence[str]) -> Mapping[str, str]:
    """Give roles back to those hosts; a sentence for each that did not get it."""
    return hand_back(course.relays, names, course.work.ground, course.scope)


def restart_where_needed(course: Course, found: Iterable[HostFacts], before: Iterable[HostFacts]) -> Mapping[str, str]:
    """Restart hosts by policy and by what was found there; a sentence for each that is not well after it. ``before``
    has the life that those are in which were not restarted since."""
    boots = {one.host: one.boot for one in before}
    after = restarted(course.baseline.reboot, boots, tuple(found), course.work.ground, course.scope)
    course.restarts |= after.rebooted
    course.lives |= after.lives
    course.blame(after.trouble)
    return after.trouble


def reversed_moves(moves: Sequence[Move]) -> tuple[Move, ...]:
    """The way back. A package that was not there before stays: what came with it may need it."""
    return tuple(replace(one, before=one.after, after=one.before, digest="") for one in moves if one.before)


def _staying(course: Course, name: str) -> str:
    """The new packages that the way back left where they are, in words."""
    new = [f"{one.name} {one.after}" for one in course.made.get(name, ()) if not one.before]
    return f"; what was not there before stays: {', '.join(new)}" if new else ""


def _await_lost(course: Course, names: Sequence[str]) -> None:
    """Look for hosts once more, as long as a boot may take: whoever answers again loses nothing."""
    fleet = course.work.ground.fleet
    hosts = [one for one in fleet.hosts if one.name in names]
    found = await_hosts(course.scope, hosts, fleet) if hosts else {}
    course.away -= {name for name, one in found.items() if one.reach is Reach.OK}


def _by_packages(course: Course, names: Sequence[str]) -> list[str]:
    """Install the exact former versions again; returns those that have them, and are back from the restart if that took
    one."""
    if not names:
        return []
    scope = course.scope
    held = {one.primary for one in course.relays}
    take_roles(course, [name for name in names if name not in held])
    former = {name: reversed_moves(course.begun(name)) for name in names}
    undone: list[str] = []
    for one in scope.engines.upkeep.packages.rollback(course.request(names, former), scope.context):
        if one.fate in GOOD:
            undone.append(one.host)
            course.blame({one.host: f"{one.host} is back at the former versions{_staying(course, one.host)}"})
        else:
            course.blame({one.host: f"{one.host} could not be rolled back: {in_words(one)}"})
            course.quote(one)
    course.undone |= set(undone)
    after = read_facts(course, sorted(undone))
    lost = restart_where_needed(course, after, after)
    return [name for name in undone if name not in lost and name not in course.away]
