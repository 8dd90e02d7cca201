"""How a lab is made and repaired, step by step. ``cleanup`` alone takes back every step, whichever was the last."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing
from ismgr_automation.core.events import Emit, StepReported, ignore
from ismgr_automation.lab import cleanup, image, keys, machines, networks, preflight, settings, shell
from ismgr_automation.lab.folder import (
    SUPERVISOR,
    Folder,
    Phase,
    Record,
    Shape,
    alone,
    labs_root,
    take_index,
    write_private,
)
from ismgr_automation.lab.topology import BMC_USER, ZONE, Machine, Role, Segment, Topology, draw

_HANDS = 4
_READY = timedelta(seconds=60)
_PAUSE = timedelta(seconds=0.05)
_LOST = {
    Segment.MANAGEMENT: "the host's management addresses are gone",
    Segment.WAN: "the controller's window on the wide area network is gone",
}


def make(home: Folder, shape: Shape, emit: Emit, cancelled: threading.Event) -> Record:
    """Make a lab where there is none; what was begun is taken away when a step fails or somebody cancels."""
    started = time.monotonic()
    _check(home, shape)
    # a run that was killed may have left anything
    take_away(home, emit)
    try:
        record = _claim(home, shape, emit, cancelled)
        for step in (_make_keys, _make_networks, _make_machines, _switch_on):
            _unless(cancelled)
            step(home, record.topology, record.image, emit)
    except BaseException:
        emit(StepReported(step="lab", detail="taking away what was begun"))
        take_away(home, ignore)
        raise
    record = replace(record, phase=Phase.UP)
    home.write(record)
    emit(StepReported(step="lab", detail=f"{home.name} is up", seconds=time.monotonic() - started))
    return record


def take_away(home: Folder, emit: Emit) -> tuple[str, ...]:
    """Remove a lab in whatever state; returns what was removed."""
    with alone():
        return cleanup.remove(home, emit)


def problems(home: Folder, record: Record, containers: Collection[str]) -> tuple[str, ...]:
    """What is wrong with a lab, in sentences; ``containers`` are those that there are."""
    topology = record.topology
    found = [f"no machine {one.name}" for one in topology.machines if topology.container(one) not in containers]
    if record.phase is not Phase.UP:
        found.append("`ismgr lab up` did not finish")
    if next(cleanup.supervisors(home.root), None) is None:
        found.append("the supervisor is gone")
    bridges = networks.bridges(topology)
    found += [f"no network {segment}" for segment in topology.segments if segment not in bridges]
    found += [_LOST[segment] for segment in networks.losses(topology, bridges)]
    if networks.routed(bridges):
        found.append("the host forwards packets of the lab's networks")
    if not networks.guarded(record.name):
        found.append("the filter of the networks is gone")
    return tuple(found)


def repair(home: Folder, record: Record, emit: Emit) -> None:
    """Bring back what a reboot of the host or a crash has taken; ``EngineFailed`` when a machine or network is lost."""
    topology = record.topology
    containers = machines.states(record.name)
    wrong = problems(home, record, containers)
    if not wrong:
        emit(StepReported(step="lab", detail=f"{record.name} is already up"))
        return
    bridges = networks.bridges(topology)
    if len(containers) < len(topology.machines) or len(bridges) < len(topology.segments):
        raise EngineFailed(
            f"The lab {record.name} is damaged: {'; '.join(wrong)}.",
            engine=shell.ENGINE,
            subject=record.name,
            next_step=f"`ismgr lab down --name {record.name}`, then `ismgr lab up` makes a new one.",
        )
    emit(StepReported(step="lab", detail=f"repairing: {'; '.join(wrong)}"))
    with alone():
        settings.raise_limits()
    networks.guard(topology, bridges)
    for process in cleanup.supervisors(home.root):
        process.terminate()
        process.wait(_READY.total_seconds())
    _switch_on(home, topology, record.image, emit)


def _check(home: Folder, shape: Shape) -> None:
    """Refuse what this host cannot hold. Where another lab has just taken the place that was drawn, draw another."""
    while True:
        index = take_index(home.name, networks.indexes())
        try:
            preflight.check(draw(home.name, index, shape.webs, spare=shape.spare))
        except EngineMissing:
            if take_index(home.name, networks.indexes()) == index:
                raise
        else:
            return


def _unless(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled("`ismgr lab up` was stopped.", untouched="What it had begun was taken away.")


def _claim(home: Folder, shape: Shape, emit: Emit, cancelled: threading.Event) -> Record:
    """Have the image, take a place in the address plan."""
    reference = image.ensure(emit, labs_root() / ".image.lock", cancelled)
    with alone():
        index = take_index(home.name, networks.indexes())
        record = Record(
            name=home.name, index=index, image=reference, phase=Phase.STARTING, webs=shape.webs, spare=shape.spare
        )
        home.root.mkdir(mode=0o700)
        home.write(record)
        raised = settings.raise_limits()
    if raised:
        emit(StepReported(step="host", detail=f"raised {', '.join(raised)} until `ismgr lab down`"))
    return record


def _make_keys(home: Folder, topology: Topology, _image: str, emit: Emit) -> None:
    operator = keys.ssh_key_pair(f"operator@{home.name}")
    write_private(home.operator_key, operator.private)
    write_private(home.operator_key.with_suffix(".pub"), operator.public + "\n")
    write_private(home.tsig, keys.tsig_secret())
    addresses = {one.name: one.bmc for one in topology.servers if one.bmc is not None}
    authority, certificates = keys.bmc_certificates(home.name, addresses)
    write_private(home.authority, authority)
    for machine in topology.servers:
        word, certificate = keys.password(), certificates[machine.name]
        write_private(home.bmc(machine, "password"), word)
        write_private(home.bmc(machine, "users"), keys.password_line(BMC_USER, word))
        write_private(home.bmc(machine, "pem"), certificate.certificate + certificate.key)
    emit(StepReported(step="keys", detail="made new ones: operator, BMCs, DNS updates"))


def _make_networks(home: Folder, topology: Topology, _image: str, emit: Emit) -> None:
    networks.create(topology, str(home.root))
    emit(StepReported(step="networks", detail=", ".join(str(topology.network(one)) for one in topology.segments)))


def _make_machines(home: Folder, topology: Topology, image_reference: str, emit: Emit) -> None:
    started = time.monotonic()
    operator = home.operator_key.with_suffix(".pub").read_text().strip()
    tsig = home.tsig.read_text()

    def create(machine: Machine) -> str:
        host_key = keys.ssh_key_pair(f"root@{machine.name}")
        identity = machines.Identity(host_key=host_key, operator=operator, tsig=tsig)
        machines.create(topology, machine, image_reference, identity)
        public = " ".join(host_key.public.split()[:2])
        write_private(home.host_key(machine), public + "\n")
        return f"{machine.management},{machine.name} {public}\n"

    with ThreadPoolExecutor(_HANDS) as hands:
        known = list(hands.map(create, topology.machines))
    write_private(home.known_hosts, "".join(known))
    detail = f"{len(known)} made, {len(topology.servers)} of them off until a BMC is told otherwise"
    emit(StepReported(step="machines", detail=detail, seconds=time.monotonic() - started))


def _switch_on(home: Folder, topology: Topology, _image: str, emit: Emit) -> None:
    """Start what is always on, and the supervisor; return when names are served and sshd answers."""
    started = time.monotonic()
    for machine in topology.infrastructure:
        machines.start(topology.container(machine))
    networks.settle(topology, networks.bridges(topology))
    shell.command(sys.executable, "-m", SUPERVISOR, str(home.root))
    for machine in topology.infrastructure:
        what = f"{machine.name} answers on {machine.management}"
        shell.wait_until(what, _ready_check(machine), _READY, _PAUSE)
    detail = f"ns, client and {len(topology.servers)} BMCs answer"
    emit(StepReported(step="machines", detail=detail, seconds=time.monotonic() - started))


def _ready_check(machine: Machine) -> Callable[[], bool]:
    if machine.role is Role.NAMES:
        return lambda: _greets(machine.management) and _serves_names(machine.management)
    return lambda: _greets(machine.management)


def _greets(address: IPv4Address) -> bool:
    try:
        with socket.create_connection((str(address), 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _serves_names(address: IPv4Address) -> bool:
    import dns.exception
    import dns.message
    import dns.query

    try:
        answer = dns.query.udp(dns.message.make_query(ZONE, "SOA"), str(address), timeout=1)
    except (OSError, dns.exception.DNSException):
        return False
    return bool(answer.answer)
