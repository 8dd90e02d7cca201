"""Machines of a lab as containers with systemd: made, given an identity before their first boot, started and removed.
Whether one should be on is not decided here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.lab import names, repository
from ismgr_automation.lab.keys import KeyPair
from ismgr_automation.lab.networks import LAB_LABEL
from ismgr_automation.lab.shell import podman, podman_json
from ismgr_automation.lab.topology import USER, ZONE, Machine, Role, Topology

REBOOT = 129
"""Exit code of a container whose systemd asked for a reboot (it needs SYS_BOOT); after a power-off it is 130."""
CAPABILITIES = ("SYS_BOOT", "NET_ADMIN", "NET_RAW", "AUDIT_WRITE", "SYS_PTRACE")
_USER_ID = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What podman says of a machine. ``pid`` is that of its init, 0 when it is off; ``exit_code`` of the last run."""

    running: bool
    exit_code: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes a machine itself: its host key, who may log in, and for the name server the key of signed updates."""

    host_key: KeyPair
    operator: str
    """The operator's public key."""
    tsig: str


def create(topology: Topology, machine: Machine, image: str, identity: Identity) -> None:
    """Make a machine that is off, with its identity in its file system."""
    container = topology.container(machine)
    podman("create", "--name", container, *_arguments(topology, machine), image, "/lib/systemd/systemd")
    root = Path(podman("mount", container).strip())
    try:
        _provision(root, topology, machine, identity)
    finally:
        podman("umount", container)


def start(container: str) -> None:
    """Switch a machine on; nothing happens when it is on."""
    podman("start", container)


def signal(container: str, name: str) -> None:
    """Send a signal to a machine's init; it must be running."""
    podman("kill", "--signal", name, container)


def wait(container: str) -> None:
    """Return when podman knows that a machine is off; at once when it is."""
    podman("wait", container)


def inspect(container: str) -> State:
    """How a machine is now."""
    told = podman_json("container", "inspect", container)[0]["State"]
    return State(running=bool(told["Running"]), exit_code=int(told["ExitCode"]), pid=int(told["Pid"]))


def died_command(lab: str) -> tuple[str, ...]:
    """The command that reports each machine of a lab that ended, one JSON object per line."""
    return ("podman", "events", "--filter", "event=died", "--filter", f"label={LAB_LABEL}={lab}", "--format", "json")


def states(lab: str) -> Mapping[str, str]:
    """The state of each container of a lab, in podman's words, by the container's name."""
    if shutil.which("podman") is None:
        return {}
    rows = podman_json("ps", "--all", "--filter", f"label={LAB_LABEL}={lab}", "--format", "json")
    return {row["Names"][0]: row["State"] for row in rows}


def remove_all(lab: str) -> tuple[str, ...]:
    """Remove every machine of a lab, on or off; returns what was removed."""
    containers = tuple(states(lab))
    if containers:
        podman("rm", "--force", "--time", "0", *containers)
    return tuple(f"machine {name}" for name in containers)


def _arguments(topology: Topology, machine: Machine) -> list[str]:
    arguments = [
        *("--runtime", "runc", "--systemd", "always", "--hostname", machine.name),
        # files of its own instead of mounts, so that configuration management can replace them
        *("--no-hosts", "--dns", "none"),
        # podman's default limits are above what an unprivileged host lets it set
        *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
        *("--label", f"{LAB_LABEL}={topology.name}"),
    ]
    for capability in CAPABILITIES:
        arguments += ["--cap-add", capability]
    if machine.forwards:
        arguments += ["--sysctl", "net.ipv4.ip_forward=1"]
    for interface in machine.interfaces:
        plug = f"ip={interface.address},mac={interface.mac},interface_name={interface.name}"
        arguments += ["--network", f"{topology.segment_name(interface.segment)}:{plug}"]
    return arguments


def _provision(root: Path, topology: Topology, machine: Machine, identity: Identity) -> None:
    """Do what an installer does on a real machine: a name, an account, keys, routes."""
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    _write(host_key, identity.host_key.private, 0o600)
    _write(host_key.with_suffix(".pub"), identity.host_key.public + "\n")
    _write(root / "etc/hostname", f"{machine.name}\n")
    _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {machine.name} {machine.short}\n")
    _write(root / "etc/resolv.conf", f"search {ZONE}\nnameserver {machine.resolver}\noptions timeout:1 attempts:2\n")
    _add_user(root, identity.operator)
    _write(root / "etc/systemd/system/routes.service", _routes_unit(machine))
    _enable(root, "/etc/systemd/system/routes.service")
    if machine.role is Role.NAMES:
        _write(root / names.CONFIGURATION_PATH, names.configuration(topology, identity.tsig), 0o640)
        _write(root / names.ZONE_PATH, names.zone(topology))
        for path in (names.CONFIGURATION_PATH, names.ZONE_PATH):
            shutil.chown(root / path, *_owner(root, "knot"))
        _enable(root, "/lib/systemd/system/knot.service")
        _write(root / repository.UNIT, repository.SERVER)
        (root / repository.SERVED.lstrip("/")).parent.mkdir(exist_ok=True)
        _enable(root, f"/{repository.UNIT}")


def _routes_unit(machine: Machine) -> str:
    steps = "".join(f"ExecStart=/usr/sbin/ip route replace {route.to} via {route.via}\n" for route in machine.routes)
    return f"""[Unit]
Description=Routes to the other networks
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
{steps}
[Install]
WantedBy=multi-user.target
"""


def _add_user(root: Path, authorized_key: str) -> None:
    home = f"/home/{USER}"
    for path, line in (
        ("etc/passwd", f"{USER}:x:{_USER_ID}:{_USER_ID}:Operator:{home}:/bin/bash\n"),
        ("etc/group", f"{USER}:x:{_USER_ID}:\n"),
        ("etc/shadow", f"{USER}:*:19000:0:99999:7:::\n"),
    ):
        with (root / path).open("a") as file:
            file.write(line)
    _write(root / f"etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD:ALL\n", 0o440)
    shutil.copytree(root / "etc/skel", root / home.lstrip("/"))
    _write(root / home.lstrip("/") / ".ssh/authorized_keys", authorized_key + "\n", 0o600)
    for owned in (root / home.lstrip("/"), *(root / home.lstrip("/")).rglob("*")):
        os.chown(owned, _USER_ID, _USER_ID)
    (root / home.lstrip("/") / ".ssh").chmod(0o700)


def _owner(root: Path, user: str) -> tuple[int, int]:
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == user:
            return int(fields[2]), int(fields[3])
    raise KeyError(user)


def _enable(root: Path, unit: str) -> None:
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / Path(unit).name).symlink_to(unit)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
