"""A host that cannot carry a lab is told everything at once."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from ismgr_automation.core.errors import EngineMissing, ExitCode
from ismgr_automation.lab import Lab, preflight, shell
from ismgr_automation.lab.preflight import COMMANDS, DISK_BYTES, LIBRARIES, MEMORY_BYTES, HostFacts
from ismgr_automation.lab.topology import HIGHEST_INDEX, Segment, draw

TOPOLOGY = draw("demo", 0)


def facts(**changes) -> HostFacts:
    good = {
        "root": True,
        "debian": True,
        "debian_sources": True,
        "commands": frozenset(COMMANDS),
        "netavark": True,
        "libraries": frozenset(LIBRARIES),
        "control_groups": True,
        "kernel_complaint": "",
        "taken": (("eth0", IPv4Network("192.0.2.0/24")), ("podman network other", IPv4Network("10.44.0.0/24"))),
        "disk_free_bytes": DISK_BYTES,
        "memory_free_bytes": MEMORY_BYTES,
        "bridged_filter": False,
    }
    return HostFacts(**{**good, **changes})


def test_a_good_host_has_no_obstacles():
    assert preflight.obstacles(facts(), TOPOLOGY) == ()


EACH = [
    ({"root": False}, "not root", "sudo"),
    ({"debian": False}, "not Debian", "Debian 12"),
    ({"debian_sources": False}, "no source of Debian", "sources.list.d"),
    ({"commands": frozenset(COMMANDS) - {"podman"}}, "no command podman", "apt-get install .*podman"),
    ({"commands": frozenset(COMMANDS) - {"nft"}}, "no command nft", "apt-get install .*nftables"),
    ({"commands": frozenset(COMMANDS) - {"mmdebstrap"}}, "no command mmdebstrap", "apt-get install .*mmdebstrap"),
    ({"netavark": False}, "no netavark", "apt-get install .*netavark"),
    ({"libraries": frozenset(LIBRARIES) - {"bcrypt"}}, "no Python module bcrypt", "pip install"),
    ({"control_groups": False}, "no control groups", "systemd"),
    ({"kernel_complaint": "Operation not supported"}, "Operation not supported", "modules bridge"),
    ({"taken": (("wg0", IPv4Network("10.41.0.0/16")),)}, r"10\.41\.0\.0/16 is in use on wg0", "another name"),
    ({"disk_free_bytes": DISK_BYTES - 1}, "disk", "freeing"),
    ({"memory_free_bytes": 0}, "memory: 0.0 GiB free", "freeing"),
    ({"bridged_filter": True}, "firewall", "sysctl"),
]


@pytest.mark.parametrize(("change", "what", "way"), EACH, ids=[row[1] for row in EACH])
def test_each_obstacle_says_what_and_how(change, what, way, monkeypatch):
    monkeypatch.setattr(preflight, "look", lambda _topology: facts(**change))
    with pytest.raises(EngineMissing, match=f"(?s){what}.*get it by: .*{way}") as caught:
        preflight.check(TOPOLOGY)
    assert len(caught.value.found) == 1
    assert caught.value.exit_code is ExitCode.ENGINE


def test_a_bare_host_gets_one_error_with_everything_and_one_line_for_all_packages(monkeypatch):
    bare = facts(
        root=False, debian=False, commands=frozenset(), netavark=False, libraries=frozenset(), control_groups=False,
        kernel_complaint="x", taken=(("wg0", IPv4Network("10.43.0.0/24")),), disk_free_bytes=0, memory_free_bytes=0,
        bridged_filter=True,
    )  # fmt: skip
    monkeypatch.setattr(preflight, "look", lambda _topology: bare)
    with pytest.raises(EngineMissing) as caught:
        preflight.check(TOPOLOGY)
    text = str(caught.value)
    for command in COMMANDS:
        assert f"no command {command}" in text
    for change, what, _way in EACH:
        if (
            "commands" not in change
            and "kernel" not in next(iter(change))
            and "taken" not in change
            and what != "no source of Debian"
        ):
            assert what.split(" bcrypt")[0] in text
    install = [way for way in caught.value.ways if way.startswith("apt-get install")]
    assert len(install) == 1
    assert {*COMMANDS.values(), "netavark"} <= set(install[0].split())


def test_the_lab_that_runs_already_is_no_obstacle_to_itself_but_its_neighbour_is_to_a_third():
    taken = (("podman network ismgr-mine-dc1", IPv4Network("10.41.0.0/24")),)
    assert [one.what for one in preflight.obstacles(facts(taken=taken), TOPOLOGY)] == [
        "address range 10.41.0.0/24 is in use on podman network ismgr-mine-dc1"
    ]
    assert preflight.obstacles(facts(taken=taken), draw("tests", 1)) == ()


@pytest.mark.lab
def test_a_route_into_a_range_is_an_obstacle_even_where_no_device_is_on_it(lab: Lab):
    far = draw("far", HIGHEST_INDEX)
    route = str(far.network(Segment.DC2)).replace(".0/24", ".128/25")
    shell.command("ip", "route", "add", "unreachable", route, "metric", "4999")
    try:
        assert [one.what for one in preflight.obstacles(preflight.look(far), far)] == [
            f"address range {route} is in use on an unreachable route"
        ]
    finally:
        shell.command("ip", "route", "del", "unreachable", route, "metric", "4999")
    assert preflight.obstacles(preflight.look(far), far) == ()
    ways = {str(network) for device, network in preflight.look(far).taken if "podman network" not in device}
    assert ways >= {route.to for route in lab.topology.window.routes}, "the ways of another lab are seen"


@pytest.mark.lab
def test_looking_at_this_host_finds_nothing_missing_while_a_lab_runs(lab):
    assert preflight.obstacles(preflight.look(lab.topology), lab.topology) == ()
