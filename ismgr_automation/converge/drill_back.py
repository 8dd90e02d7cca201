"""The way back of a move that broke off: while nobody was promoted, the old side serves again. Judged by what the
members say now, and not by what was meant to be done."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ismgr_automation.converge.drill_verbs import fence_of, giving_back
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.estate.recovery import FenceWay
from ismgr_automation.ports.recovery import Sight, Verb
from ismgr_automation.recovery.path import LegKind
from ismgr_automation.recovery.rules import Act, refusal

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_legs import Crew


def give_back(crew: Crew) -> str:
    """Take a move back that broke off before anybody was promoted. Says how it went, and raises nothing."""
    old = crew.kit.leg.sides.old
    try:
        trouble = _given_back(crew)
    except IsmgrError as problem:
        trouble = f"{old} could not be given its role back: {problem.summary}"
    crew.notes.tried({"what": "given-back", "leg": crew.kit.leg.name, "ok": not trouble, "words": trouble})
    return trouble or f"{old} has the primary role"


def _given_back(crew: Crew) -> str:
    """Why the old side does not serve; empty where it does."""
    kit, sides = crew.kit, crew.kit.leg.sides
    crew.look()
    by_network = kit.leg.kind is LegKind.FAILOVER and fence_of(kit.field.document).way is FenceWay.NETWORK
    old = crew.standings.get(sides.old)
    # over the management network a member looks writable that its packet filter keeps from clients
    if old is not None and old.writable and not by_network:
        return ""
    standby = kit.scope.engines.recovery.standby
    refused = refusal(Act.REINSTATE, crew.way_back())
    if refused is not None and refused.rule == "no-late-promotion":
        trouble = _done(standby.hold(kit.field.cluster, sides.new, kit.scope.context))
        if not trouble:
            crew.held.add(sides.new)
        crew.look()  # the promotion may have been faster
        refused = refusal(Act.REINSTATE, crew.way_back())
        if refused is not None and trouble:
            refused = replace(refused, why=f"{refused.why}: {trouble}")
    if refused is not None:
        return f"the service was not given back to {sides.old}, by the rule {refused.rule}: {refused.why}"
    if kit.leg.kind is LegKind.FAILOVER:
        trouble = _done(giving_back(kit))
        if trouble:
            return f"{sides.old} could not be let out again: {trouble}"
    trouble = _done(standby.reinstate(kit.field.cluster, sides.old, kit.scope.context))
    return f"{sides.old} is not back: {trouble}" if trouble else ""


def _done(verb: Verb) -> str:
    """Have a verb outside of a leg's tasks done; why it is not."""
    try:
        seen = verb.stage()
        if seen.sight is Sight.UNKNOWN:
            return seen.words or "nobody can tell how it is"
        if seen.sight is Sight.DONE:
            return ""
        acted = verb.act()
        return "" if acted.ok else acted.words or "it did not end well"
    finally:
        verb.close()
