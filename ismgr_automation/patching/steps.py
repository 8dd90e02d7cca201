"""A decided move as a step of a plan, and a step of a plan as the exact move that is asked for: one pair, so that what
was signed is what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import Json
from ismgr_automation.patching.updates import Update
from ismgr_automation.planning.change import Action, Step
from ismgr_automation.ports.packages import Move


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
    if not (name and colon and architecture and before and version) or digest is None:
        raise PlanFileError(f"the step {one.what!r} of {one.target} is no move of a package from version to version")
    return Move(name=name, architecture=architecture, before=before, after=version, digest=digest)


def moves(found: Iterable[Step]) -> Mapping[str, tuple[Move, ...]]:
    """The moves of each host, in the order of the steps. Raises as ``move``."""
    by_host: dict[str, list[Move]] = {}
    for one in found:
        by_host.setdefault(one.target, []).append(move(one))
    return {host: tuple(listed) for host, listed in by_host.items()}


def _text(value: Json, key: str) -> str | None:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else None
