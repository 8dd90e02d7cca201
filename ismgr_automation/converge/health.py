"""Who is up just now, and which changes of a wave may start so that every group keeps its promise. Looks only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ismgr_automation.converge.fleet import probe
from ismgr_automation.converge.ground import ground_of
from ismgr_automation.converge.promises import promises
from ismgr_automation.converge.scope import Scope
from ismgr_automation.planning.change import Change
from ismgr_automation.planning.compose import names_of
from ismgr_automation.planning.waves import Obstacle, Sick, startable, why_not
from ismgr_automation.ports.hosts import Reach


def may_start(
    wave: Sequence[Change], scope: Scope, troubled: Collection[str], new: Mapping[str, Sick]
) -> tuple[frozenset[str], Obstacle | None]:
    """Keys of the changes of a wave that may start together, judged with the health that is seen now. When none may,
    why not. ``troubled`` are hosts that failed earlier in this run, ``new`` those that nobody can rely on yet."""
    names = names_of(wave)
    worked_on = {name for who in names.values() for name in who}
    fleet = ground_of(wave, scope).fleet
    promised = [one for one in promises(scope, fleet) if one.members & worked_on]
    if not promised:
        return frozenset(names), None
    asked = {name for one in promised for name in one.members}
    found = probe(scope, [one for one in fleet.hosts if one.name in asked], fleet)
    sick = {**new, **dict.fromkeys(troubled, Sick.UNVERIFIED)}
    sick |= {name: Sick.UNREACHABLE for name, one in found.items() if one.reach is not Reach.OK and name not in new}
    keys = frozenset(startable(names, promised, sick))
    return keys, None if keys else why_not(names, promised, sick)
