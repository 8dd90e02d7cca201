"""A decided move as a step of a plan, and a step of a plan as the exact move that is asked for: one pair, so that what
was signed is what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import Json
from ismgr_automation.estate.maintenance import Switchover
from ismgr_automation.patching.updates import Update
from ismgr_automation.planning.change import Action, Certainty, Step
from ismgr_automation.ports.packages import Move

MOVING = frozenset({Action.CREATE, Action.UPDATE})
"""What steps of packages and firmware do; all other steps go with them."""
_SNAPSHOT = "snapshot"


def steps(updates: Iterable[Update], ring_of: Mapping[str, str]) -> tuple[Step, ...]:
    """A step for each update that has a target, by host and package. Equal decisions give equal steps, whatever the
    order in which they came. ``ring_of`` has the ring of each host."""
    found = [step(one, ring_of.get(one.host, "")) for one in updates if one.decision.target]
    return tuple(sorted(found, key=lambda one: (one.target, one.what)))


def step(update: Update, ring: str = "") -> Step:
    """The step of an update that has a target."""
    decision = update.decision
    after: dict[str, Json] = {
        "version": decision.target,
        "digest": decision.digest,
        "cves": sorted(decision.cves),
        "severity": str(decision.severity or ""),
        "due": decision.due.isoformat() if decision.due else "",
        "ring": ring,
        "rule": decision.ruling.rule,
    }
    return Step(
        target=update.host,
        what=f"{decision.package}:{decision.architecture}",
        action=Action.UPDATE,
        why=decision.ruling.why,
        before={"version": decision.installed},
        after=after,
    )


def move_of(update: Update) -> Move:
    """The exact move of an update that has a target."""
    decision = update.decision
    return Move(
        name=decision.package,
        architecture=decision.architecture,
        before=decision.installed,
        after=decision.target,
        digest=decision.digest,
    )


def move(one: Step) -> Move:
    """The exact move that a step asks for: ``move(step(update)) == move_of(update)``.

    Raises ``PlanFileError`` for a step that is no move of a package.
    """
    name, colon, architecture = one.what.rpartition(":")
    before, version, digest = _text(one.before, "version"), _text(one.after, "version"), _text(one.after, "digest")
    fits = before is not None and bool(before) is (one.action is Action.UPDATE)
    if not (name and colon and architecture and fits and version) or before is None or digest is None:
        raise PlanFileError(f"the step {one.what!r} of {one.target} is no move of a package from version to version")
    return Move(name=name, architecture=architecture, before=before, after=version, digest=digest)


def ring_name(found: Iterable[Step]) -> str:
    """The ring that hosts of these steps are in; empty where no step says."""
    return next((name for one in found if one.action is Action.UPDATE and (name := _text(one.after, "ring"))), "")


def step_of_move(host: str, made: Move, why: str = "") -> Step:
    """A move as a step, for what was done and for the way back: only versions are known of it.

    ``move(step_of_move(host, made)) == made``.
    """
    return Step(
        target=host,
        what=f"{made.name}:{made.architecture}",
        action=Action.UPDATE if made.before else Action.CREATE,
        why=why,
        before={"version": made.before},
        after={"version": made.after, "digest": made.digest},
    )


def moves(found: Iterable[Step]) -> Mapping[str, tuple[Move, ...]]:
    """The moves of each host, in the order of the steps; what else goes with them (a restart, out of service and back)
    is left out. Raises as ``move``."""
    by_host: dict[str, list[Move]] = {}
    for one in found:
        if one.action not in MOVING:
            continue
        by_host.setdefault(one.target, []).append(move(one))
    return {host: tuple(listed) for host, listed in by_host.items()}


def switchover_step(host: str, group: str, document: Switchover, primary: bool) -> Step:
    """The primary role of a group moves away from a host before it is worked on. ``primary``: it has the role now."""
    what, where = f"{document.cluster} switchover", f"group/{group}"
    if not primary:
        why, unsure = "only where this host is the primary when its turn comes", Certainty.UNPREDICTABLE
        return Step(target=host, what=what, action=Action.CONFIGURE, certainty=unsure, why=why, where=where)
    after = "primary" if document.back else "standby"
    return Step(
        target=host,
        what=what,
        action=Action.CONFIGURE,
        why="a standby takes the role meanwhile" if document.back else "a standby takes the role",
        where=where,
        before={"role": "primary"},
        after={"role": after},
    )


def gives_back(one: Step) -> str:
    """The group whose primary role a host has, gives away and gets back; empty where that is not asked for."""
    promised = (_text(one.before, "role"), _text(one.after, "role")) == ("primary", "primary")
    return one.where.removeprefix("group/") if promised else ""


def snapshot_step(host: str) -> Step:
    """A host's disk is kept while its packages move."""
    return Step(
        target=host,
        what=_SNAPSHOT,
        action=Action.CONFIGURE,
        why="made before its packages move; put back where these cannot go back or it does not answer any more",
        where="removed when the host is well",
    )


def with_snapshots(found: Iterable[Step]) -> frozenset[str]:
    """The hosts that have a snapshot while their packages move."""
    return frozenset(one.target for one in found if one.action is Action.CONFIGURE and one.what == _SNAPSHOT)


def _text(value: Json, key: str) -> str | None:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else None
