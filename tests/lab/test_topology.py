"""The address plan: agreed values, nothing twice, two labs apart."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.lab.topology import HIGHEST_INDEX, MOST_WEBS, Role, Segment, choose_index, draw, valid_name

AGREED = [
    ("gw1.dc1", {"management": "10.40.0.11", "dc1": "10.41.0.10", "wan": "10.43.0.11"}, "10.40.0.111"),
    ("edge1.dc1", {"management": "10.40.0.12", "dc1": "10.41.0.20"}, "10.40.0.112"),
    ("web1.dc1", {"management": "10.40.0.13", "dc1": "10.41.0.30"}, "10.40.0.113"),
    ("db1.dc1", {"management": "10.40.0.14", "dc1": "10.41.0.40"}, "10.40.0.114"),
    ("gw1.dc2", {"management": "10.40.0.21", "dc2": "10.42.0.10", "wan": "10.43.0.21"}, "10.40.0.121"),
    ("edge1.dc2", {"management": "10.40.0.22", "dc2": "10.42.0.20"}, "10.40.0.122"),
    ("web1.dc2", {"management": "10.40.0.23", "dc2": "10.42.0.30"}, "10.40.0.123"),
    ("db1.dc2", {"management": "10.40.0.24", "dc2": "10.42.0.40"}, "10.40.0.124"),
    ("ns", {"management": "10.40.0.5", "wan": "10.43.0.5"}, None),
    ("client", {"management": "10.40.0.6", "wan": "10.43.0.6"}, None),
]


@pytest.mark.parametrize(("name", "addresses", "bmc"), AGREED, ids=[row[0] for row in AGREED])
def test_the_demo_has_the_agreed_addresses(name, addresses, bmc):
    machine = draw("demo", 0).machine(name)
    assert {str(card.segment): str(card.address) for card in machine.interfaces} == addresses
    assert (str(machine.bmc) if machine.bmc else None) == bmc


@given(st.integers(0, HIGHEST_INDEX), st.sampled_from([1, 2, 7, MOST_WEBS]))
def test_no_address_mac_uuid_or_serial_is_there_twice(index, webs):
    topology = draw("any", index, webs, spare=True)
    cards = [card for machine in topology.machines for card in machine.interfaces]
    addresses = [card.address for card in cards] + [one.bmc for one in topology.servers]
    addresses += [topology.controller, topology.window.address]
    for values in (
        addresses,
        [card.mac for card in cards],
        [machine.uuid for machine in topology.machines],
        [machine.serial for machine in topology.machines],
    ):
        assert len(set(values)) == len(values)
    for card in cards:
        assert card.address in topology.network(card.segment)


def test_the_controller_sits_on_the_wide_area_network_and_takes_the_ways_of_the_client():
    topology = draw("tests", 1)
    assert str(topology.window.address) == "10.47.0.1"
    assert topology.window.routes == topology.machine("client").routes
    assert {route.to: str(route.via) for route in topology.window.routes} == {
        "10.45.0.0/24": "10.47.0.11",
        "10.46.0.0/24": "10.47.0.21",
    }


def test_no_two_labs_share_a_network():
    networks = [draw("any", index).network(segment) for index in range(HIGHEST_INDEX + 1) for segment in Segment]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))


def test_every_route_goes_through_a_machine_that_forwards_and_is_on_the_same_network():
    topology = draw("demo", 0)
    forwarding = {card.address for one in topology.machines if one.forwards for card in one.interfaces}
    for machine in topology.machines:
        assert machine.routes
        for route in machine.routes:
            assert route.via in forwarding
            assert any(route.via in topology.network(card.segment) for card in machine.interfaces)


def test_only_gateways_are_on_two_networks_besides_management():
    for machine in draw("demo", 0).machines:
        segments = {card.segment for card in machine.interfaces} - {Segment.MANAGEMENT}
        assert (len(segments) == 2) == (machine.role is Role.GATEWAY)


@pytest.mark.parametrize("webs", [2, 7, MOST_WEBS])
def test_more_web_machines_change_nothing_about_the_others(webs):
    usual, larger = draw("demo", 0), draw("demo", 0, webs)
    more = [one for one in larger.machines if one not in usual.machines]
    assert [one for one in larger.machines if one in usual.machines] == list(usual.machines)
    assert {one.role for one in more} == {Role.WEB}
    assert [one.name for one in more] == [f"web{n}.{site}" for site in ("dc1", "dc2") for n in range(2, webs + 1)]


@pytest.mark.parametrize("webs", [0, MOST_WEBS + 1])
def test_a_site_with_no_addresses_for_its_machines_is_refused(webs):
    with pytest.raises(SettingsError, match=f"cannot have {webs} web machines"):
        draw("demo", 0, webs)


def test_an_unknown_machine_is_an_error_that_lists_those_there_are():
    with pytest.raises(SettingsError, match=r"no machine 'db9\.dc1'.*gw1\.dc1.*client"):
        draw("demo", 0).machine("db9.dc1")


def test_well_known_labs_keep_their_place_and_others_take_the_lowest_free_one():
    assert choose_index("demo", [5]) == 0
    assert choose_index("tests", [0, 2]) == 1
    assert choose_index("mine", []) == 2
    assert choose_index("mine", [0, 2, 3]) == 4


def test_a_full_address_plan_is_an_error():
    with pytest.raises(SettingsError, match="Every address range"):
        choose_index("mine", range(HIGHEST_INDEX + 1))


@pytest.mark.parametrize("name", ["", "Demo", "1st", "a_b", "a/b", "..", "-a", "a-", "a" * 21, "a b"])
def test_a_name_that_cannot_be_a_folder_and_a_container_is_refused(name):
    with pytest.raises(SettingsError, match="cannot be the name of a lab"):
        valid_name(name)


def test_a_spare_machine_is_behind_the_gateway_of_dc2_and_moves_nobody_else():
    plain, more = draw("demo", 0), draw("demo", 0, spare=True)
    assert Segment.BUBBLE not in plain.segments
    assert more.segments == tuple(Segment)
    spare = more.machine("spare1.dc2")
    assert (spare.role, str(spare.bmc)) == (Role.SPARE, "10.40.0.125")
    assert {str(card.segment): str(card.address) for card in spare.interfaces} == {
        "management": "10.40.0.25",
        "bubble": "10.42.1.50",
    }
    assert [(route.to, str(route.via)) for route in spare.routes] == [("default", "10.42.1.10")]
    assert str(more.machine("gw1.dc2").address(Segment.BUBBLE)) == "10.42.1.10"
    others = {machine.name: machine for machine in more.machines}
    for machine in plain.machines:
        assert others[machine.name].interfaces[: len(machine.interfaces)] == machine.interfaces
        assert others[machine.name].routes == machine.routes
