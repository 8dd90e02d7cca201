"""Checks of order: what documents need exists, and nothing needs itself, however long the way round. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.estate.documents import HostGroup, Service, Stack
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong
from ismgr_automation.estate.fields import OutputValue


class Edge(NamedTuple):
    """One document needs another; ``place`` is where it says so."""

    target: str
    place: Position


Edges = Mapping[str, Sequence[Edge]]


def needs_exist(draft: Draft) -> Iterator[Diagnostic]:
    """Every entry of ``needs`` is a stack or a group of this estate, named once."""
    for entry, needs in _needing(draft):
        seen: set[str] = set()
        for index, text in enumerate(needs):
            place = entry.marked.at("needs", index)
            address = _address(text)
            if address is None:
                summary = f"{text!r} in the needs of {entry.label} is neither a stack nor a group"
                yield wrong(place, summary, "NAME or stack/NAME for a stack, group/NAME for a host group")
                continue
            if address in seen:
                yield wrong(place, f"{address} is already in the needs of {entry.label}", "each need once")
            seen.add(address)
            kind, _, name = address.partition("/")
            known = draft.names("Stack" if kind == "stack" else "HostGroup")
            if name not in known:
                yield _unknown_need(draft, entry, kind, name, place)


def needs_cycles(draft: Draft) -> Iterator[Diagnostic]:
    """No cycle in ``needs`` and ``{output: ...}`` across stacks and groups; each is reported once, whole."""
    edges: dict[str, list[Edge]] = {}
    for entry, needs in _needing(draft):
        here = _of(entry)
        for index, text in enumerate(needs):
            address = _address(text)
            if address is not None:
                edges.setdefault(here, []).append(Edge(address, entry.marked.at("needs", index)))
    for entry, key, name, value in _outputs(draft):
        owner = value.output.rpartition(".")[0]
        edges.setdefault(_of(entry), []).append(Edge(f"stack/{owner}", entry.marked.at(key, name, "output")))
    yield from _cycles(edges, lambda way: f"a cycle in needs: {' -> '.join(way)}")


def service_cycles(draft: Draft) -> Iterator[Diagnostic]:
    """No service depends on itself."""
    edges = {
        entry.name: [Edge(name, entry.marked.at("depends_on", index)) for index, name in enumerate(service.depends_on)]
        for entry, service in draft.each(Service)
    }
    yield from _cycles(edges, lambda way: f"a cycle in depends_on: {' -> '.join(way)}")


def _needing(draft: Draft) -> Iterator[tuple[Entry, Sequence[str]]]:
    for entry, stack in draft.each(Stack):
        yield entry, stack.needs
    for entry, group in draft.each(HostGroup):
        yield entry, group.needs


def _outputs(draft: Draft) -> Iterator[tuple[Entry, str, str, OutputValue]]:
    for entry, stack in draft.each(Stack):
        for name, value in stack.config.items():
            if isinstance(value, OutputValue):
                yield entry, "config", name, value
    for entry, group in draft.each(HostGroup):
        for name, variable in group.variables.items():
            if isinstance(variable, OutputValue):
                yield entry, "variables", name, variable


def _of(entry: Entry) -> str:
    return f"{'stack' if entry.kind == 'Stack' else 'group'}/{entry.name}"


def _address(text: str) -> str | None:
    kind, slash, name = text.partition("/")
    if not slash:
        return f"stack/{text}" if text else None
    return text if kind in {"stack", "group"} and name else None


def _unknown_need(draft: Draft, entry: Entry, kind: str, name: str, place: Position) -> Diagnostic:
    other = draft.names("HostGroup") if kind == "stack" else draft.names("Stack")
    if name in other:
        prefix = "group" if kind == "stack" else "stack"
        summary = f"{entry.label} needs {kind} {name!r}, which is a {prefix}"
        return wrong(place, summary, suggestion=f"{prefix}/{name}")
    return unknown(kind, name, draft.names("Stack" if kind == "stack" else "HostGroup"), place, entry.label)


def _cycles(edges: Edges, say: Callable[[Sequence[str]], str]) -> Iterator[Diagnostic]:
    """One diagnostic for each knot of documents that need each other, with the shortest way round."""
    done: set[str] = set()
    for start in sorted(edges):
        if start in done:
            continue
        way = _round(edges, start)
        if way is None:
            continue
        members = _reaching_each_other(edges, start)
        done |= members
        names = [start, *(edge.target for edge in way)]
        yield wrong(way[0].place, say(names), "an order in which something comes first")


def _round(edges: Edges, start: str) -> list[Edge] | None:
    """The shortest way from a document back to itself."""
    came: dict[str, tuple[str, Edge]] = {}
    todo = [start]
    for here in todo:
        for edge in edges.get(here, ()):
            if edge.target == start:
                way = [edge]
                while here != start:
                    here, step = came[here]  # noqa: PLW2901  walks back
                    way.insert(0, step)
                return way
            if edge.target not in came:
                came[edge.target] = (here, edge)
                todo.append(edge.target)
    return None


def _reaching_each_other(edges: Edges, start: str) -> set[str]:
    backwards: dict[str, list[str]] = {}
    for name, targets in edges.items():
        for edge in targets:
            backwards.setdefault(edge.target, []).append(name)
    return _reach(lambda one: [edge.target for edge in edges.get(one, ())], start) & _reach(
        lambda one: backwards.get(one, []), start
    )


def _reach(following: Callable[[str], Sequence[str]], start: str) -> set[str]:
    found = {start}
    todo = [start]
    for here in todo:
        for one in following(here):
            if one not in found:
                found.add(one)
                todo.append(one)
    return found
