"""Who needs whom: order, reverse order, circles, what a target covers."""

from __future__ import annotations

from graphlib import CycleError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import Address, Kind, group, host, stack
from ismgr_automation.planning.graph import (
    Graph,
    ancestors,
    circle,
    dependents,
    doomed,
    levels,
    needed,
    selected,
    with_makers,
)


@st.composite
def dags(draw: st.DrawFn) -> Graph:
    """Stacks and groups, each needing only some of those before it."""
    count = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from([Kind.STACK, Kind.GROUP]), min_size=count, max_size=count))
    nodes = [Address(kind, f"n{index:02}") for index, kind in enumerate(kinds)]
    return {
        node: frozenset(draw(st.sets(st.sampled_from(nodes[:index]), max_size=3))) if index else frozenset()
        for index, node in enumerate(nodes)
    }


def chosen(graph: Graph) -> st.SearchStrategy[list[Address]]:
    return st.lists(st.sampled_from(sorted(graph)), max_size=3)


@given(dags())
def test_every_level_needs_earlier_levels_only(graph: Graph) -> None:
    done: set[Address] = set()
    for level in levels(graph):
        assert level
        assert all(graph[one] <= done for one in level)
        assert list(level) == sorted(level, key=str)
        done |= set(level)
    assert done == set(graph)


@given(dags())
def test_nobody_waits_longer_than_needed(graph: Graph) -> None:
    height = {one: number for number, level in enumerate(levels(graph)) for one in level}
    assert all(height[one] == max((height[need] + 1 for need in needs), default=0) for one, needs in graph.items())


@given(st.data(), dags())
def test_dependents_and_ancestors_are_each_others_mirror(data: st.DataObject, graph: Graph) -> None:
    one, other = (data.draw(st.sampled_from(sorted(graph))) for _ in range(2))
    if one != other:
        assert (other in dependents(graph, [one])) == (one in ancestors(graph, [other]))
    assert one in dependents(graph, [one])
    assert one not in ancestors(graph, [one])


@given(st.data(), dags())
def test_whatever_depends_on_a_target_is_covered_and_on_an_exclusion_is_not(data: st.DataObject, graph: Graph) -> None:
    targets, excludes = data.draw(chosen(graph)), data.draw(chosen(graph))
    covered = selected(graph, targets, excludes)
    wanted = dependents(graph, targets) if targets else set(graph)
    assert covered == wanted - dependents(graph, excludes)
    assert not any(graph[one] & dependents(graph, excludes) for one in covered)


@given(st.data(), dags())
def test_nothing_is_destroyed_that_something_kept_needs(data: st.DataObject, graph: Graph) -> None:
    targets, excludes = data.draw(chosen(graph)), data.draw(chosen(graph))
    gone = doomed(graph, targets, excludes)
    assert not gone & set(excludes)
    kept_because_excluded = set(excludes) | ancestors(graph, excludes)
    assert not any(graph[one] & gone for one in kept_because_excluded)
    if not excludes:
        assert not any(graph[one] & gone for one in set(graph) - gone)


@given(dags())
def test_a_graph_without_a_circle_has_none(graph: Graph) -> None:
    assert circle(graph) == ()


@given(st.data(), dags())
def test_a_circle_is_told_in_the_order_of_needs(data: st.DataObject, graph: Graph) -> None:
    first = data.draw(st.sampled_from(sorted(graph)))
    last = data.draw(st.sampled_from(sorted(dependents(graph, [first]))))
    closed = {**graph, first: graph[first] | {last}}
    found = circle(closed)
    assert found[0] == found[-1]
    assert all(after in closed[before] for before, after in pairwise(found))


def test_hosts_alone_cover_groups_and_no_stack() -> None:
    graph = {stack("a"): frozenset[Address](), group("b"): frozenset([stack("a")])}
    assert selected(graph, [host("x")], []) == {group("b")}
    assert selected(graph, [host("x"), stack("a")], []) == {stack("a"), group("b")}
    assert selected(graph, [], [host("x")]) == {stack("a"), group("b")}


def test_makers_are_needed_besides_what_is_declared() -> None:
    graph = with_makers({group("b"): frozenset([group("c")])}, {group("b"): [stack("a")]})
    assert graph == {group("b"): {group("c"), stack("a")}}


def test_levels_of_a_circle_are_refused_and_unknown_needs_are_taken_as_done() -> None:
    with pytest.raises(CycleError):
        levels({"a": ["b"], "b": ["a"]})
    assert levels({"a": ["gone"]}) == (("a",),)
    assert levels({}) == ()


@pytest.mark.parametrize(("text", "address"), [("a", stack("a")), ("stack/a", stack("a")), ("group/a.b", group("a.b"))])
def test_a_need_without_a_kind_is_a_stack(text: str, address: Address) -> None:
    assert needed(text) == address
