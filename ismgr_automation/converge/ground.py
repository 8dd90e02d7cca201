"""The ground that a wave stands on: the world as states and inventories tell of it when it begins. Touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ismgr_automation.converge.fleet import check_selection, meet
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.planning.change import Change
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.ports.stacks import StackState

NOBODY = Fleet(sightings=(), membership={}, unbounded=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """States of all stacks, and the fleet that they and the inventories make."""

    states: Mapping[Address, StackState]
    fleet: Fleet


def whole_ground(scope: Scope) -> Ground:
    """Look at everything. Raises ``InputError`` for a selection that names what there is not, and as ``ground_of``."""
    states = read_states(scope)
    fleet = meet(scope, {}, states)
    check_selection(scope, fleet, states)
    return Ground(states=states, fleet=fleet)


def ground_of(changes: Sequence[Change], scope: Scope) -> Ground:
    """Look at what the changes stand on; hosts are met only where a host group is among them. Raises ``EngineError``
    when a state cannot be read, ``EstateError`` when two hosts have one name."""
    states = read_states(scope)
    needs_hosts = any(one.address.kind is not Kind.STACK for one in changes)
    return Ground(states=states, fleet=meet(scope, {}, states) if needs_hosts else NOBODY)
