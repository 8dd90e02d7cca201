"""In which order hosts are patched: rings, and inside clusters the standbys before their primary. Who is the primary is
an argument; where nobody knows, no two members go together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.estate.maintenance import PatchBaseline
from ismgr_automation.estate.resolve import duration
from ismgr_automation.estate.selector import Selector
from ismgr_automation.ports.hosts import Host

REST = "rest"
"""The ring of hosts that no ring selects; of all hosts where there are no rings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The members of one host group with a switchover, and who has the primary role; empty: nobody knows."""

    group: str
    members: frozenset[str]
    primary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Hosts that may be cut into batches together, after all phases before: ``planning.waves.shards(hosts, sizes)``."""

    ring: str
    hosts: tuple[str, ...]
    sizes: tuple[int | str, ...]
    soak: timedelta
    """How long all must have been well before the next phase begins; only a ring's last phase has one."""


def roles(
    groups: Mapping[str, HostGroup], membership: Mapping[str, Collection[str]], primaries: Mapping[str, str]
) -> tuple[Roles, ...]:
    """The groups with a switchover. ``primaries`` has the primary of each group, as far as it was seen."""
    return tuple(
        Roles(group=name, members=frozenset(membership.get(name, ())), primary=primaries.get(name, ""))
        for name, document in sorted(groups.items())
        if document.switchover is not None
    )


def members_in_order(one: Roles) -> tuple[str, ...]:
    """Standbys by name, then the primary.

    >>> members_in_order(Roles(group="dbs", members=frozenset(["a", "b"]), primary="a"))
    ('b', 'a')
    """
    return tuple(sorted(one.members, key=lambda name: (name == one.primary, name)))


def ring_of(baseline: PatchBaseline, hosts: Iterable[Host]) -> Mapping[str, str]:
    """The ring of each host: the first that selects it. Raises ``InputError`` as selectors do."""
    rings = [(ring.name, Selector.compile(ring.selector)) for ring in baseline.rings]
    return {
        host.name: next((name for name, selector in rings if selector.matches(host)), REST)
        for host in sorted(hosts, key=lambda one: one.name)
    }


def phases(baseline: PatchBaseline, hosts: Iterable[Host], clusters: Sequence[Roles] = ()) -> tuple[Phase, ...]:
    """Every host in exactly one phase, in the order of the rings.

    A primary comes after all of its standbys that are patched at all, in the ring of the last of them if that is later
    than its own. Nobody shares a phase with the primary of a cluster that he is in.
    """
    assigned = ring_of(baseline, hosts)
    place = {name: index for index, name in enumerate([*(ring.name for ring in baseline.rings), REST])}
    at = {host: (place[ring], 0) for host, ring in assigned.items()}
    for host, behind in _sequence(at, clusters):
        ring, step = max(at[one] for one in behind)
        at[host] = max(at[host], (ring, step + 1))
    names = list(place)
    found: list[Phase] = []
    slots = sorted(set(at.values()))
    for index, slot in enumerate(slots):
        last = index + 1 == len(slots) or slots[index + 1][0] != slot[0]
        members = tuple(sorted(host for host, where in at.items() if where == slot))
        found.append(_phase(baseline, names[slot[0]], members, soaks=last))
    return tuple(found)


def _sequence(at: Mapping[str, tuple[int, int]], clusters: Sequence[Roles]) -> list[tuple[str, frozenset[str]]]:
    """Who must come behind whom, in an order in which everybody's own place is settled before others ask for it."""
    behind: dict[str, set[str]] = {}
    for one in clusters:
        there = sorted(one.members & set(at), key=lambda name: (at[name], name))
        if one.primary in one.members:
            if one.primary in at:
                behind.setdefault(one.primary, set()).update(set(there) - {one.primary})
        else:
            for index, name in enumerate(there):
                behind.setdefault(name, set()).update(there[:index])
    found: list[tuple[str, frozenset[str]]] = []
    left = {name: others for name, others in behind.items() if others}
    while left:
        ready = sorted(name for name, others in left.items() if not others & set(left))
        # two that wait for each other can only go one after the other: the first by name
        chosen = ready or [min(left)]
        found += [(name, frozenset(left[name])) for name in chosen]
        for name in chosen:
            del left[name]
    return found


def _phase(baseline: PatchBaseline, name: str, hosts: tuple[str, ...], *, soaks: bool) -> Phase:
    for ring in baseline.rings:
        if ring.name == name:
            soak = duration(ring.soak) if soaks else timedelta()
            return Phase(ring=name, hosts=hosts, sizes=ring.waves, soak=soak)
    # without rings one host goes first: a bad patch must cost one host
    return Phase(ring=REST, hosts=hosts, sizes=("100%",) if baseline.rings else (1, "100%"), soak=timedelta())
