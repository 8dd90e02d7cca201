"""A closed network on a real packet filter: what comes from it and what goes to it is dropped and counted, and what
gets through all the same is found by counters that do not know the rules that drop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.fences.bubble import HostBubble, HostIsolation, ruleset
from ismgr_automation.ports.isolation import BubbleRequest
from ismgr_automation.ports.recovery import Sight
from tests.engines.fences.conftest import ADDRESS, MEMBER, OTHER, OTHER_ADDRESS, PORT, Country

NETWORK, FAR = "192.0.2.0/24", "203.0.113.9"
PLACES = (f"{ADDRESS}:{PORT}", f"{FAR}:{PORT}")


def request(country: Country, **more: object) -> BubbleRequest:
    fleet = replace(country.request.fleet, names=(MEMBER, OTHER))
    base = BubbleRequest(
        run="run-1",
        fleet=fleet,
        network=NETWORK,
        gateways={MEMBER: ADDRESS},
        inside=OTHER,
        places=PLACES,
        deadline=timedelta(seconds=10),
    )
    return replace(base, **more)  # type: ignore[arg-type]  fields by name


@pytest.fixture
def world(country: Country) -> Country:
    """The member is a gateway: beyond it lies a network where packets leave it, and nobody answers."""
    country.member.serve()
    country.member.run("ip", "link", "add", "far0", "type", "veth", "peer", "name", "far1")
    country.member.run("ip", "link", "set", "far1", "up")
    country.member.run("ip", "link", "set", "far0", "up")
    country.member.run("ip", "address", "add", "203.0.113.1/24", "dev", "far0")
    country.member.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    country.other.run("ip", "route", "add", "203.0.113.0/24", "via", ADDRESS)
    return country


@contextlib.contextmanager
def bubble_of(country: Country, **more: object) -> Iterator[HostBubble]:
    one = HostIsolation(country.fences._store).bubble(request(country, **more), country.context)
    try:
        yield one
    finally:
        one.close()


def test_a_closed_network_lets_nothing_out_and_nothing_in_and_counts_it(world: Country) -> None:
    with bubble_of(world) as bubble:
        assert bubble.stage().sight is Sight.NOT_DONE
        assert {one.met for one in bubble.knock()().tried if one.place.startswith(ADDRESS)} == {"open"}
        acted = bubble.shut()
        assert acted.ok, acted.words
        assert bubble.stage().sight is Sight.DONE
        found = bubble.knock()().tried
        assert [(one.place, one.reached) for one in found] == [(place, False) for place in PLACES]
        counted = bubble.count()
        assert (counted.whole, counted.passed_out, counted.passed_in) == (True, 0, 0)
        assert counted.dropped_out >= counted.knocked >= 2
        assert not world.member.gets_through(OTHER_ADDRESS)
        assert bubble.count().dropped_in > 0
        assert bubble.lift().ok
    assert "ismgr_bubble" not in world.member.run("nft", "list", "tables")


def test_rules_that_do_not_drop_any_more_are_found_by_the_counters_behind_them(world: Country) -> None:
    with bubble_of(world) as bubble:
        assert bubble.shut().ok
        bubble.stage()
        for chain in ("forward", "input", "output"):
            world.member.run("nft", "flush", "chain", "inet", "ismgr_bubble", chain)
        assert {one.met for one in bubble.knock()().tried if one.place.startswith(ADDRESS)} == {"open"}
        counted = bubble.count()
        assert not counted.whole
        assert counted.passed_out > 0
        assert bubble.lift().ok


@pytest.mark.parametrize("chain", ["forward", "input", "output", "passed", "delivered"])
def test_a_chain_that_somebody_has_emptied_is_missed(world: Country, chain: str) -> None:
    with bubble_of(world) as bubble:
        assert bubble.shut().ok
        world.member.run("nft", "flush", "chain", "inet", "ismgr_bubble", chain)
        assert not bubble.count().whole
        assert bubble.lift().ok


def test_rules_that_stand_are_left_alone_and_those_of_another_run_are_not(world: Country) -> None:
    with bubble_of(world) as bubble:
        assert bubble.shut().ok
        bubble.stage()
        bubble.knock()()
        before = bubble.count().knocked
        assert before > 0
        assert bubble.shut().ok
        assert bubble.count().knocked == before
    with bubble_of(world, run="run-2") as other:
        assert other.stage().sight is Sight.NOT_DONE
        assert not other.count().whole
        assert other.shut().ok
        assert (other.count().whole, other.count().knocked) == (True, 0)
        assert other.lift().ok


def test_a_gateway_without_that_address_is_no_gateway(world: Country) -> None:
    with bubble_of(world, gateways={MEMBER: "192.0.2.77"}) as bubble:
        assert bubble.stage().sight is Sight.UNKNOWN
        acted = bubble.shut()
        assert not acted.ok
        assert "no interface with the address 192.0.2.77" in acted.words
        assert not bubble.count().whole


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"network": "here"}, "not a network"),
        ({"network": "2001:db8::/64"}, "no other can be closed"),
        ({"run": 'x" drop'}, "cannot be the name of a run"),
        ({"places": ("db:5432",)}, "is not a place"),
        ({"gateways": {MEMBER: "203.0.113.1"}}, "would close another network"),
    ],
)
def test_what_cannot_be_closed_is_refused(country: Country, more: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words), bubble_of(country, **more):
        pass


def test_the_rules_drop_before_connections_are_looked_up() -> None:
    rules = ruleset(NETWORK, "run-1", [5432, 5433, 5432])
    assert rules.count("priority -300") == 3
    assert "tcp dport { 5432, 5433 }" in rules
    assert rules.count("drop") >= 8
