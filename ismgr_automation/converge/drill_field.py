"""Where a recovery plan is carried out: the hosts behind its sites, and their cluster. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.service import cluster_of
from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.ports.upkeep import Cluster
from ismgr_automation.recovery.path import Sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where a recovery plan would be carried out: its document, its cluster, and its members by site."""

    document: RecoveryPlan
    cluster: Cluster
    sides: Sides
    """From home to the other site."""


def field_of(scope: Scope, ground: Ground, name: str) -> Field:
    """Where a recovery plan is carried out. Raises ``InputError``."""
    document = scope.estate.recoveries.get(name)
    if document is None:
        known = sorted(scope.estate.recoveries)
        near = did_you_mean(name, known)
        raise InputError(
            f"There is no RecoveryPlan {name!r}." + (f" Did you mean {near!r}?" if near else ""),
            next_step=f"One of {', '.join(known)}." if known else "Write a document with `kind: RecoveryPlan`.",
        )
    switchover = scope.estate.groups[document.cluster].switchover
    if switchover is None:
        raise InputError(f"group/{document.cluster} does not say where its cluster lies (`switchover`).")
    sites = {one.name: one.site for one in ground.fleet.hosts}
    members = ground.fleet.membership.get(document.cluster, ())
    found: dict[str, str] = {}
    for site in (document.sites.home, document.sites.away):
        here = [one for one in members if sites[one] == site]
        if len(here) != 1:
            raise InputError(
                f"group/{document.cluster} has {len(here) or 'no'} members at site {site}, and recovery/{name} wants "
                "one at each of its sites.",
                next_step="A host's site comes from the Site document of its machine, or from its stack's output.",
            )
        found[site] = here[0]
    sides = Sides(
        old=found[document.sites.home],
        new=found[document.sites.away],
        old_site=document.sites.home,
        new_site=document.sites.away,
    )
    return Field(document=document, cluster=cluster_of(document.cluster, switchover, ground, scope), sides=sides)
