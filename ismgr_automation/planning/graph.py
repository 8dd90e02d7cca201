"""Who needs whom, across stacks and host groups: order, reverse order, and what a target or an exclusion covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from ismgr_automation.core.address import Address, Kind, group, stack
from ismgr_automation.estate.model import Estate

Graph = Mapping[Address, frozenset[Address]]
"""Each stack and host group with what it needs to be done before."""

Key = TypeVar("Key", bound=object)


def needed(text: str) -> Address:
    """Read one entry of ``needs``: ``NAME`` and ``stack/NAME`` are stacks, ``group/NAME`` a host group.

    >>> str(needed("dc1-servers"))
    'stack/dc1-servers'
    """
    return Address.parse(text) if "/" in text else stack(text)


def graph_of(estate: Estate) -> Graph:
    """The declared needs of every stack and group, plus those that follow from ``{output: ...}`` references."""
    edges: dict[Address, frozenset[Address]] = {}
    for name, document in estate.stacks.items():
        edges[stack(name)] = frozenset(map(needed, document.needs)) | frozenset(
            map(stack, referenced_stacks(document.config.values()))
        )
    for name, host_group in estate.groups.items():
        edges[group(name)] = frozenset(map(needed, host_group.needs)) | frozenset(
            map(stack, referenced_stacks(host_group.variables.values()))
        )
    return edges


def with_makers(edges: Graph, makers: Mapping[Address, Iterable[Address]]) -> Graph:
    """The graph in which a group also needs the stacks that make its hosts, said or not."""
    return {key: needs | frozenset(makers.get(key, ())) for key, needs in edges.items()}


def circle(edges: Graph) -> tuple[Address, ...]:
    """Addresses that need each other in a circle, the first one again at the end; empty when there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as found:
        # graphlib names each one before what needs it
        return tuple(reversed(found.args[1]))
    return ()


def referenced_stacks(values: Iterable[object]) -> Iterable[str]:
    """Names of stacks whose outputs are referred to."""
    for value in values:
        output = getattr(value, "output", None)
        if isinstance(output, str):
            yield output.rpartition(".")[0]


def levels(edges: Mapping[Key, Iterable[Key]]) -> tuple[tuple[Key, ...], ...]:
    """Group keys so that each level needs earlier levels only; inside a level, sorted by name. Raises ``CycleError``.

    Needs that are no keys themselves are taken as done.

    >>> levels({"web": ["db"], "db": [], "dns": []})
    (('db', 'dns'), ('web',))
    """
    known = {key: [need for need in needs if need in edges] for key, needs in edges.items()}
    sorter = TopologicalSorter(known)
    sorter.prepare()
    found: list[tuple[Key, ...]] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append(tuple(sorted(ready, key=str)))
        sorter.done(*ready)
    return tuple(found)


def dependents(edges: Graph, roots: Iterable[Address]) -> frozenset[Address]:
    """The roots and everything that needs one of them, directly or not."""
    found = set(roots)
    grown = True
    while grown:
        more = {key for key, needs in edges.items() if key not in found and needs & found}
        found |= more
        grown = bool(more)
    return frozenset(found)


def ancestors(edges: Graph, roots: Iterable[Address]) -> frozenset[Address]:
    """Everything that one of the roots needs, directly or not, without the roots themselves."""
    found: set[Address] = set()
    todo = [need for root in roots for need in edges.get(root, ())]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += edges.get(one, ())
    return frozenset(found)


def selected(edges: Graph, targets: Sequence[Address], excludes: Sequence[Address]) -> frozenset[Address]:
    """What a run covers: the targets and what depends on them (everything without targets), less the excluded and what
    depends on those. Hosts select inside groups: with hosts as the only targets no stack is covered."""
    roots = [one for one in targets if one.kind is not Kind.HOST]
    covered = dependents(edges, roots) if roots else frozenset(edges)
    if targets and not roots:
        covered = frozenset(one for one in edges if one.kind is Kind.GROUP)
    out = [one for one in excludes if one.kind is not Kind.HOST]
    return covered - dependents(edges, out)


def doomed(edges: Graph, targets: Sequence[Address], excludes: Sequence[Address]) -> frozenset[Address]:
    """What a destruction covers: the targets and what depends on them (everything without targets), less the excluded
    and what those need to go on."""
    covered = dependents(edges, targets) if targets else frozenset(edges)
    return covered - frozenset(excludes) - ancestors(edges, excludes)
