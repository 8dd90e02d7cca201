"""The networks of a lab on its host: bridges without a way out, the addresses of controller and BMCs, the controller's
window on the wide area network, and the filter that lets no machine reach the host, or another machine over the
management network. Machines themselves are not known here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from ismgr_automation.lab.shell import attempt, command, podman, podman_json
from ismgr_automation.lab.topology import Route, Segment, Topology, mac_prefix

LAB_LABEL, INDEX_LABEL, FOLDER_LABEL = "ismgr.lab", "ismgr.index", "ismgr.folder"
_METRIC = 4000
"""Worse than any other way: a network that the host joins later keeps its own."""


def create(topology: Topology, folder: str) -> Mapping[Segment, str]:
    """Make the networks and their filter; returns the name of each one's bridge on the host."""
    marks = {LAB_LABEL: topology.name, INDEX_LABEL: topology.index, FOLDER_LABEL: folder}
    labels = [part for name, value in marks.items() for part in ("--label", f"{name}={value}")]
    for segment in topology.segments:
        subnet, name = str(topology.network(segment)), topology.segment_name(segment)
        podman("network", "create", "--internal", "--disable-dns", "--subnet", subnet, *labels, name)
    found = bridges(topology)
    guard(topology, found)
    return found


def bridges(topology: Topology) -> Mapping[Segment, str]:
    """The name of each network's bridge on the host; networks that do not exist are left out."""
    by_name = {row.name: row.bridge for row in _listed(topology.name)}
    names = {segment: topology.segment_name(segment) for segment in topology.segments}
    return {segment: by_name[name] for segment, name in names.items() if name in by_name}


def table(lab: str) -> str:
    """The name of a lab's tables in nftables."""
    return f"ismgr_lab_{lab.replace('-', '_')}"


def rules(topology: Topology, found: Mapping[Segment, str]) -> str:
    """The filter, as a script for nft that replaces what was there.

    The bridge table names the management network by its MACs and addresses instead of by its bridge: not every kernel
    can match a bridge's name there. What passes it goes from one machine to another; the host's own packets do not.
    """
    name, management = table(topology.name), topology.network(Segment.MANAGEMENT)
    macs = f"{mac_prefix(topology.index, Segment.MANAGEMENT)}:00"
    every = ", ".join(f'"{bridge}"' for bridge in found.values())
    apart = "".join(
        f'    iifname "{bridge}" oifname != "{bridge}" drop\n    iifname != "{bridge}" oifname "{bridge}" drop\n'
        for bridge in found.values()
    )
    return f"""table bridge {name}
delete table bridge {name}
table bridge {name} {{
  chain between_machines {{
    type filter hook forward priority 0; policy accept;
    ether saddr & ff:ff:ff:ff:ff:00 == {macs} counter drop
    ip saddr {management} counter drop
    arp saddr ip {management} counter drop
  }}
}}
table inet {name}
delete table inet {name}
table inet {name} {{
  chain to_host {{
    type filter hook input priority 0; policy accept;
    iifname {{ {every} }} icmp type redirect counter drop
    iifname {{ {every} }} ct state established,related accept
    iifname {{ {every} }} counter drop
  }}
  chain through_host {{
    type filter hook forward priority -10; policy accept;
{apart}  }}
}}
"""


def guard(topology: Topology, found: Mapping[Segment, str]) -> None:
    """Put the filter in place, before any machine can start."""
    command("nft", "-f", "-", stdin=rules(topology, found).encode())


def guarded(lab: str) -> bool:
    """Whether the filter is in place."""
    return all(attempt("nft", "list", "table", family, table(lab)).code == 0 for family in ("bridge", "inet"))


def losses(topology: Topology, found: Mapping[Segment, str]) -> Mapping[Segment, tuple[str, ...]]:
    """What the host should have on its bridges and has not, as lines for ip, by network; empty when nothing is lost."""
    every = {segment: _lost(topology, segment, bridge) for segment, bridge in found.items()}
    return {segment: lines for segment, lines in every.items() if lines}


def settle(topology: Topology, found: Mapping[Segment, str]) -> None:
    """Give the host its own addresses, those of the BMCs and its routes to the sites, and keep it from being a router.

    A bridge takes all of it along when its last machine leaves, so this is done again after each start. Safe to
    repeat, also at the same time.
    """
    # a bridge is there while one of its machines is on; the next one that starts settles it again
    there = {segment: bridge for segment, bridge in found.items() if _forwarding(bridge).exists()}
    for bridge in routed(there):
        _forwarding(bridge).write_text("0")
    script = "".join(f"{line}\n" for lines in losses(topology, there).values() for line in lines)
    if script:
        command("ip", "-batch", "-", stdin=script.encode())
    # a machine has a new port each time it starts, so this is no loss; one that stops meanwhile takes its port along
    ports = "".join(f"{line}\n" for line in _apart(there.get(Segment.MANAGEMENT, "")))
    if ports:
        attempt("ip", "-force", "-batch", "-", stdin=ports.encode())


def routed(found: Mapping[Segment, str]) -> tuple[str, ...]:
    """The bridges from which the host would forward packets. The filter cannot tell what the host sends back into the
    bridge that it came from from what only passes the bridge, so the kernel is told for each."""
    settings = {bridge: _forwarding(bridge) for bridge in found.values()}
    return tuple(bridge for bridge, one in settings.items() if one.exists() and one.read_text().strip() != "0")


def _forwarding(bridge: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf") / bridge / "forwarding"


def _lost(topology: Topology, segment: Segment, bridge: str) -> tuple[str, ...]:
    network = topology.network(segment)
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    match segment:
        case Segment.MANAGEMENT:
            bmcs = (f"{machine.bmc}/32" for machine in topology.servers)
            addresses = (f"{topology.controller}/{network.prefixlen}", *bmcs)
        case Segment.WAN:
            addresses = (f"{topology.window.address}/{network.prefixlen}",)
            routes = topology.window.routes
        case Segment.DC1 | Segment.DC2 | Segment.BUBBLE:
            pass
        case _:
            assert_never(segment)
    there = {one["local"] for row in _told("address", bridge) for one in row.get("addr_info", ())}
    ways = {(row.get("dst"), row.get("gateway")) for row in _told("route", bridge)}
    return (
        *(f"address replace {one} dev {bridge}" for one in addresses if one.partition("/")[0] not in there),
        *(
            f"route replace {one.to} via {one.via} dev {bridge} metric {_METRIC}"
            for one in routes
            if (one.to, str(one.via)) not in ways
        ),
    )


def _apart(bridge: str) -> tuple[str, ...]:
    """What keeps machines on a bridge from each other below all filters: its ports reach the host alone. The filter
    covers the moment between a machine's start and this, and both hold where the other fails."""
    if not bridge:
        return ()
    shown = attempt("ip", "-json", "-details", "link", "show", "master", bridge)
    rows: list[dict[str, Any]] = json.loads(shown.stdout or "[]") if shown.code == 0 else []
    # older releases of ip print an empty object for each link that is something else
    ports = [row for row in rows if row]
    return tuple(
        f"link set dev {row['ifname']} type bridge_slave isolated on"
        for row in ports
        if not row.get("linkinfo", {}).get("info_slave_data", {}).get("isolated")
    )


def _told(what: str, bridge: str) -> list[dict[str, Any]]:
    shown = attempt("ip", "-json", "-4", what, "show", "dev", bridge)
    rows: list[dict[str, Any]] = json.loads(shown.stdout or "[]") if shown.code == 0 else []
    return rows


def remove(lab: str) -> tuple[str, ...]:
    """Remove a lab's networks (with them their bridges and addresses) and its filter; returns what was removed."""
    networks = tuple(row.name for row in _listed(lab))
    if networks:
        podman("network", "rm", "--force", "--time", "0", *networks)
    tables = [family for family in ("bridge", "inet") if attempt("nft", "list", "table", family, table(lab)).code == 0]
    for family in tables:
        command("nft", "delete", "table", family, table(lab))
    return (*(f"network {name}" for name in networks), *(f"filter {family} {table(lab)}" for family in tables))


def indexes() -> Mapping[str, int]:
    """The place in the address plan of each lab on this host that has networks, whoever made it."""
    return {row.lab: row.index for row in _listed("")}


def any_bridge() -> bool:
    """Whether anything on this host still bridges networks: containers or virtual machines, ours or not."""
    # older releases of ip print an empty object for each link that is something else
    return any(json.loads(attempt("ip", "-json", "link", "show", "type", "bridge").stdout or "[]"))


def recorded_folder(lab: str) -> str:
    """The folder that a lab's networks say they belong to; empty without networks. Another user may have made it."""
    return next((row.folder for row in _listed(lab)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    name: str
    lab: str
    index: int
    bridge: str
    folder: str


def _listed(lab: str) -> tuple[_Network, ...]:
    """The networks of a lab, or with an empty name those of all labs; none without podman."""
    if shutil.which("podman") is None:
        return ()
    label = f"{LAB_LABEL}={lab}" if lab else LAB_LABEL
    rows = podman_json("network", "ls", "--filter", f"label={label}", "--format", "json")
    return tuple(
        _Network(
            name=row["name"],
            lab=row["labels"][LAB_LABEL],
            index=int(row["labels"].get(INDEX_LABEL, -1)),
            bridge=row["network_interface"],
            folder=row["labels"].get(FOLDER_LABEL, ""),
        )
        for row in rows
    )
