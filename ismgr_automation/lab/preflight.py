"""Whether this host can carry a lab: every obstacle at once, each with a way around it. Looking changes nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from ismgr_automation.core.errors import EngineMissing
from ismgr_automation.lab import image
from ismgr_automation.lab.networks import bridges
from ismgr_automation.lab.shell import ENGINE, attempt
from ismgr_automation.lab.topology import Topology

COMMANDS = {
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "dpkg-deb": "dpkg",
    "gpg": "gnupg",
    "gpgconf": "gnupg",
}
"""Commands that the lab calls, and the Debian package of each."""
NETAVARK = (Path("/usr/lib/podman/netavark"), Path("/usr/libexec/podman/netavark"))
LIBRARIES = ("bcrypt", "cryptography", "sushy_tools", "werkzeug")
DISK_BYTES = 4 * 2**30
MEMORY_BYTES = 2 * 2**30

_KERNEL_PROBE = """
set -e
ip link add name lab0 type bridge
ip link add name lab1 type veth peer name lab2
ip link set lab1 master lab0
nft -f - <<'RULES'
table bridge lab {
  chain one {
    type filter hook forward priority 0; policy accept;
    ether saddr & ff:ff:ff:ff:ff:00 == 02:69:73:00:00:00 counter drop
    ip saddr 10.0.0.0/24 drop
    arp saddr ip 10.0.0.0/24 drop
  }
}
table inet lab {
  chain one {
    type filter hook input priority 0; policy accept;
    ct state established,related accept
  }
}
RULES
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What is missing, and how to get it: Debian packages, or a sentence."""

    what: str
    packages: tuple[str, ...] = ()
    way: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What was seen on this host."""

    root: bool
    debian: bool
    debian_sources: bool
    """Whether there is an image already, or apt could build one."""
    commands: frozenset[str]
    netavark: bool
    libraries: frozenset[str]
    control_groups: bool
    kernel_complaint: str
    """What the kernel said to a bridge and a filter in a network namespace of their own; empty when it can."""
    taken: tuple[tuple[str, IPv4Network], ...]
    """Networks that this host is on, with the device, those of the asked lab left out."""
    disk_free_bytes: int
    memory_free_bytes: int
    bridged_filter: bool
    """Whether a firewall with a closed forward chain sees bridged packets too."""


def obstacles(facts: HostFacts, topology: Topology) -> tuple[Obstacle, ...]:
    """Everything that keeps this host from carrying that lab; empty when nothing does."""
    return (*_software(facts), *_kernel(facts), *_room(facts, topology))


def check(topology: Topology) -> None:
    """Raise one ``EngineMissing`` with everything that is missing; return when the host can carry the lab."""
    found = obstacles(look(topology), topology)
    if found:
        raise EngineMissing(
            engine=ENGINE,
            needed=image.NEEDED,
            found=[one.what for one in found],
            ways=ways(found),
        )


def ways(found: Sequence[Obstacle]) -> tuple[str, ...]:
    """What to do about obstacles: one line for all packages, and one for each other way."""
    packages = sorted({package for one in found for package in one.packages})
    install = (f"apt-get install --no-install-recommends {' '.join(packages)}",) if packages else ()
    return (*install, *dict.fromkeys(one.way for one in found if one.way))


def look(topology: Topology) -> HostFacts:
    """See what there is."""
    storage = Path("/var/lib/containers")
    commands = frozenset(name for name in COMMANDS if shutil.which(name, path=_path()) is not None)
    root = os.geteuid() == 0
    recipe = image.recipe_of_this_host()
    return HostFacts(
        root=root,
        debian=recipe is not None,
        debian_sources="podman" not in commands or not root or (recipe is not None and image.obtainable(recipe)),
        commands=commands,
        netavark=any(path.exists() for path in NETAVARK) or shutil.which("netavark") is not None,
        libraries=frozenset(name for name in LIBRARIES if importlib.util.find_spec(name) is not None),
        control_groups=Path("/sys/fs/cgroup/systemd").exists() or Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        kernel_complaint=_probe_kernel() if root and {"ip", "nft", "unshare"} <= commands else "",
        taken=_taken(topology) if root and {"ip", "podman"} <= commands else (),
        disk_free_bytes=shutil.disk_usage(storage if storage.exists() else "/").free,
        memory_free_bytes=_memory_free(),
        bridged_filter=_bridged_filter() if root and "iptables" in commands else False,
    )


def _path() -> str:
    # an ordinary user's PATH may lack where ip and nft are
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _software(facts: HostFacts) -> Iterator[Obstacle]:
    if not facts.root:
        yield Obstacle(what="not root", way="running it as root (sudo)")
    if not facts.debian:
        yield Obstacle(what="not Debian", way="running the lab on Debian 12 or newer")
    elif not facts.debian_sources:
        yield Obstacle(what="apt knows no source of Debian itself", way="adding one below /etc/apt/sources.list.d")
    for command, package in COMMANDS.items():
        if command not in facts.commands:
            yield Obstacle(what=f"no command {command}", packages=(package,))
    if not facts.netavark:
        yield Obstacle(what="podman has no netavark", packages=("netavark",))
    missing = [name for name in LIBRARIES if name not in facts.libraries]
    if missing:
        yield Obstacle(what=f"no Python module {', '.join(missing)}", way="pip install 'ismgr_automation[lab]'")


def _kernel(facts: HostFacts) -> Iterator[Obstacle]:
    if not facts.control_groups:
        yield Obstacle(what="no control groups at /sys/fs/cgroup", way="a host that was booted with systemd")
    if facts.kernel_complaint:
        yield Obstacle(
            what=f"the kernel cannot do bridges, veth or nftables filters ({facts.kernel_complaint})",
            way="a kernel with the modules bridge, veth and nf_tables, and no container around this shell",
        )
    if facts.bridged_filter:
        yield Obstacle(
            what="a firewall drops forwarded packets, and the kernel shows it bridged ones",
            way="sysctl net.bridge.bridge-nf-call-iptables=0",
        )


def _room(facts: HostFacts, topology: Topology) -> Iterator[Obstacle]:
    for device, network in facts.taken:
        if _collides(network, topology):
            yield Obstacle(
                what=f"address range {network} is in use on {device}",
                way=f"a lab of another name, which gets another range, or taking {network} off {device}",
            )
    if facts.disk_free_bytes < DISK_BYTES:
        yield _too_small("disk below podman's storage", facts.disk_free_bytes, DISK_BYTES)
    if facts.memory_free_bytes < MEMORY_BYTES:
        yield _too_small("memory", facts.memory_free_bytes, MEMORY_BYTES)


def _collides(network: IPv4Network, topology: Topology) -> bool:
    return any(network.overlaps(topology.network(segment)) for segment in topology.segments)


def _too_small(what: str, free: int, needed: int) -> Obstacle:
    gib = 2**30
    return Obstacle(what=f"{what}: {free / gib:.1f} GiB free", way=f"freeing {what} up to {needed / gib:.0f} GiB")


def _probe_kernel() -> str:
    finished = attempt("unshare", "--net", "sh", "-c", _KERNEL_PROBE)
    lines = finished.stderr.strip().splitlines()
    return "" if finished.code == 0 else (lines[0] if lines else f"exit code {finished.code}")


def _taken(topology: Topology) -> tuple[tuple[str, IPv4Network], ...]:
    own = set(bridges(topology).values())
    routes = json.loads(attempt("ip", "-json", "-4", "route", "show", "table", "all").stdout or "[]")
    found = [
        (
            str(route.get("dev") or f"an {route.get('type', 'other')} route"),
            IPv4Network(str(route["dst"]), strict=False),
        )
        for route in routes
        if route.get("dst", "default") != "default" and route.get("dev") not in own
    ]
    listed = json.loads(attempt("podman", "network", "ls", "--format", "json").stdout or "[]")
    found += [
        (f"podman network {row['name']}", IPv4Network(subnet["subnet"]))
        for row in listed
        if row.get("network_interface") not in own
        for subnet in row.get("subnets", ())
        if ":" not in subnet["subnet"]
    ]
    return tuple(dict.fromkeys(found))


def _memory_free() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _bridged_filter() -> bool:
    seen = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not seen.exists() or seen.read_text().strip() == "0":
        return False
    return "-P FORWARD DROP" in attempt("iptables", "-S", "FORWARD").stdout
