"""The networks of a lab on its host: bridges without a way out, the addresses of controller and BMCs, and the filter
that lets no machine reach another over the management network. Machines themselves are not known here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from ismgr_automation.lab.shell import attempt, command, podman, podman_json
from ismgr_automation.lab.topology import Segment, Topology, mac_prefix

LAB_LABEL, INDEX_LABEL, FOLDER_LABEL = "ismgr.lab", "ismgr.index", "ismgr.folder"


def create(topology: Topology, folder: str) -> Mapping[Segment, str]:
    """Make the networks and their filter; returns the name of each one's bridge on the host."""
    marks = {LAB_LABEL: topology.name, INDEX_LABEL: topology.index, FOLDER_LABEL: folder}
    labels = [part for name, value in marks.items() for part in ("--label", f"{name}={value}")]
    for segment in Segment:
        subnet, name = str(topology.network(segment)), topology.segment_name(segment)
        podman("network", "create", "--internal", "--disable-dns", "--subnet", subnet, *labels, name)
    found = bridges(topology)
    guard(topology, found)
    return found


def bridges(topology: Topology) -> Mapping[Segment, str]:
    """The name of each network's bridge on the host; networks that do not exist are left out."""
    by_name = {row.name: row.bridge for row in _listed(topology.name)}
    names = {segment: topology.segment_name(segment) for segment in Segment}
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


def missing_addresses(topology: Topology, bridge: str) -> tuple[str, ...]:
    """The host's addresses on the management network that it should have and has not, as ``10.40.0.1/24``."""
    shown = attempt("ip", "-json", "address", "show", "dev", bridge)
    rows = json.loads(shown.stdout or "[]") if shown.code == 0 else []
    there = {one["local"] for row in rows for one in row.get("addr_info", ())}
    prefix = topology.network(Segment.MANAGEMENT).prefixlen
    wanted = {str(topology.controller): prefix, **{str(machine.bmc): 32 for machine in topology.servers}}
    return tuple(f"{address}/{length}" for address, length in wanted.items() if address not in there)


def ensure_addresses(topology: Topology, bridge: str) -> None:
    """Give the host its address and those of the BMCs. The bridge takes them along when its last machine leaves, so
    this is done again after each start."""
    missing = missing_addresses(topology, bridge)
    if missing:
        script = "".join(f"address add {address} dev {bridge}\n" for address in missing)
        command("ip", "-batch", "-", stdin=script.encode())


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
