"""A lab as a whole: made, looked at, used and taken away. Commands and tests call this and nothing below it."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from ismgr_automation.core.errors import Cancelled, EngineFailed, SettingsError
from ismgr_automation.core.events import Emit, StepReported, ignore
from ismgr_automation.engines.process import Finished
from ismgr_automation.lab import (
    cleanup, documents, faults, folder, image, keys, machines, networks, preflight, settings, shell,
)  # fmt: skip
from ismgr_automation.lab.folder import Folder, Phase, Record
from ismgr_automation.lab.supervisor import MODULE
from ismgr_automation.lab.topology import BMC_USER, DEMO, USER, ZONE, Machine, Role, Segment, Topology, draw

_HANDS = 4
_READY = timedelta(seconds=60)
_PAUSE = timedelta(seconds=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineStatus:
    """One machine as it is now."""

    machine: Machine
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A lab as it is now. ``problems`` are sentences; a lab without any works."""

    record: Record
    machines: tuple[MachineStatus, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that was made. ``Lab.up`` makes one, ``Lab.find`` finds one."""

    folder: Folder
    record: Record

    @classmethod
    def up(cls, name: str = DEMO, emit: Emit = ignore, cancelled: threading.Event | None = None) -> Self:
        """Make a lab, or repair the one of that name; safe to repeat. What was begun is taken away when it fails.

        Raises ``EngineMissing`` with everything that this host lacks, ``EngineFailed`` or ``EngineTimedOut`` when a
        step fails, ``Cancelled`` when somebody cancelled.
        """
        home = folder.folder_of(name)
        with folder.at_work(name):
            record = home.read()
            if record is not None and record.phase is Phase.UP:
                lab = cls(home, record)
                lab._repair(emit)
                return lab
            cleanup.remove(home, emit)
            return cls._make(home, emit, cancelled or threading.Event())

    @classmethod
    def find(cls, name: str = DEMO) -> Self:
        """The lab of that name; raises ``SettingsError`` when there is none."""
        home = folder.folder_of(name)
        record = home.read()
        if record is None:
            raise SettingsError(f"There is no lab {name}.", next_step=f"`ismgr lab up --name {name}` makes one.")
        return cls(home, record)

    @property
    def topology(self) -> Topology:
        """Its shape and addresses."""
        return self.record.topology

    def machine(self, name: str) -> Machine:
        """A machine by its full name (``db1.dc1``, ``ns``, ``client``); raises ``SettingsError``."""
        return self.topology.machine(name)

    def status(self) -> Status:
        """How it is now."""
        states = machines.states(self.record.name)
        found = tuple(
            MachineStatus(machine=one, on=states.get(self.topology.container(one)) == "running")
            for one in self.topology.machines
        )
        return Status(record=self.record, machines=found, problems=self._problems(states.keys()))

    def write(self, estate: Path) -> tuple[Path, ...]:
        """Write its Site documents and secrets below an estate's folder; see ``documents.write``."""
        return documents.write(self.topology, self.folder, estate)

    def run(self, name: str, argv: Sequence[str], *, stdin: bytes | None = None) -> Finished:
        """Run a command on a machine that is on, as root, without SSH; for tests and the client of a service."""
        return shell.attempt(
            "podman", "exec", "--interactive", self.topology.container(self.machine(name)), *argv, stdin=stdin
        )

    def ssh_command(self, name: str, command: Sequence[str] = ()) -> tuple[str, ...]:
        """The command line that opens a session on a machine, its host key checked."""
        options = ("UserKnownHostsFile=" + str(self.folder.known_hosts), "StrictHostKeyChecking=yes", "LogLevel=ERROR")
        return (
            *("ssh", "-i", str(self.folder.operator_key), "-o", "IdentitiesOnly=yes"),
            *(part for option in options for part in ("-o", option)),
            *(f"{USER}@{self.machine(name).management}", *command),
        )

    def bmc_url(self, name: str) -> str:
        """Where a machine's BMC answers; raises ``SettingsError`` for one without."""
        address = self.machine(name).bmc
        if address is None:
            raise SettingsError(f"{name} has no BMC.", next_step="ns and client are always on.")
        return f"https://{address}"

    def bmc_credential(self, name: str) -> tuple[str, str]:
        """User and password of a machine's BMC."""
        return BMC_USER, self.folder.bmc(self.machine(name), "password").read_text()

    def arrange(self, name: str, *wanted: faults.Fault) -> None:
        """Make a machine's BMC commit faults, the first one first; none clears what was ordered."""
        path = self.folder.faults(self.machine(name).name)
        if wanted:
            faults.arrange(path, wanted)
        else:
            faults.clear(path)

    def down(self, emit: Emit = ignore) -> tuple[str, ...]:
        """Take it away; see the function ``down``."""
        return down(self.record.name, emit)

    @classmethod
    def _make(cls, home: Folder, emit: Emit, cancelled: threading.Event) -> Self:
        started = time.monotonic()
        try:
            lab = cls._prepare(home, emit)
            for step in (lab._write_keys, lab._plug, lab._create_machines, lab._switch_on):
                if cancelled.is_set():
                    raise Cancelled("`ismgr lab up` was stopped.", untouched="What it had begun was taken away.")
                step(emit)
        except BaseException:
            emit(StepReported(step="lab", detail="taking away what was begun"))
            _take_away(home, ignore)
            raise
        record = Record(name=home.name, index=lab.record.index, image=lab.record.image, phase=Phase.UP)
        home.write(record)
        emit(StepReported(step="lab", detail=f"{home.name} is up", seconds=time.monotonic() - started))
        return cls(home, record)

    @classmethod
    def _prepare(cls, home: Folder, emit: Emit) -> Self:
        preflight.check(draw(home.name, folder.index_for(home.name)))
        reference = image.ensure(emit, folder.labs_root() / ".image.lock")
        with folder.alone():
            index = folder.index_for(home.name)
            home.root.mkdir(mode=0o700)
            record = Record(name=home.name, index=index, image=reference, phase=Phase.STARTING)
            home.write(record)
            raised = settings.raise_limits()
        if raised:
            emit(StepReported(step="host", detail=f"raised {', '.join(raised)} until `ismgr lab down`"))
        return cls(home, record)

    def _write_keys(self, emit: Emit) -> None:
        home, topology = self.folder, self.topology
        operator = keys.ssh_key_pair(f"operator@{home.name}")
        folder.write_private(home.operator_key, operator.private)
        folder.write_private(home.operator_key.with_suffix(".pub"), operator.public + "\n")
        folder.write_private(home.tsig, keys.tsig_secret())
        addresses = {one.name: one.bmc for one in topology.servers if one.bmc is not None}
        authority, certificates = keys.bmc_certificates(home.name, addresses)
        folder.write_private(home.authority, authority)
        for machine in topology.servers:
            word, certificate = keys.password(), certificates[machine.name]
            folder.write_private(home.bmc(machine, "password"), word)
            folder.write_private(home.bmc(machine, "users"), keys.password_line(BMC_USER, word))
            folder.write_private(home.bmc(machine, "pem"), certificate.certificate + certificate.key)
        emit(StepReported(step="keys", detail="made new ones: operator, BMCs, DNS updates"))

    def _plug(self, emit: Emit) -> None:
        networks.create(self.topology, str(self.folder.root))
        emit(StepReported(step="networks", detail=", ".join(str(self.topology.network(one)) for one in Segment)))

    def _create_machines(self, emit: Emit) -> None:
        started = time.monotonic()
        operator = self.folder.operator_key.with_suffix(".pub").read_text().strip()
        tsig = self.folder.tsig.read_text()
        known: list[str] = []

        def create(machine: Machine) -> str:
            pair = keys.ssh_key_pair("root@" + machine.name)
            identity = machines.Identity(host_key=pair, operator=operator, tsig=tsig)
            machines.create(self.topology, machine, self.record.image, identity)
            public = " ".join(pair.public.split()[:2])
            folder.write_private(self.folder.host_key(machine), public + "\n")
            return f"{machine.management},{machine.name} {public}\n"

        with ThreadPoolExecutor(_HANDS) as hands:
            known += hands.map(create, self.topology.machines)
        folder.write_private(self.folder.known_hosts, "".join(known))
        detail = f"{len(known)} made, {len(self.topology.servers)} of them off until a BMC is told otherwise"
        emit(StepReported(step="machines", detail=detail, seconds=time.monotonic() - started))

    def _switch_on(self, emit: Emit) -> None:
        """Start what is always on, and the supervisor; return when names are served and sshd answers."""
        started = time.monotonic()
        for machine in self.topology.infrastructure:
            machines.start(self.topology.container(machine))
        networks.ensure_addresses(self.topology, networks.bridges(self.topology)[Segment.MANAGEMENT])
        self._start_supervisor()
        for machine in self.topology.infrastructure:
            what = f"{machine.name} answers on {machine.management}"
            shell.wait_until(what, _ready_check(machine), _READY, _PAUSE)
        detail = f"ns, client and {len(self.topology.servers)} BMCs answer"
        emit(StepReported(step="machines", detail=detail, seconds=time.monotonic() - started))

    def _start_supervisor(self) -> None:
        shell.command(sys.executable, "-m", MODULE, str(self.folder.root))

    def _repair(self, emit: Emit) -> None:
        """Bring back what a reboot of the host or a crash has taken; what is lost for good is an error."""
        states = machines.states(self.record.name)
        problems = self._problems(states.keys())
        if not problems:
            emit(StepReported(step="lab", detail=f"{self.record.name} is already up"))
            return
        lost = [one.name for one in self.topology.machines if self.topology.container(one) not in states]
        found = networks.bridges(self.topology)
        if lost or len(found) != len(Segment):
            raise EngineFailed(
                f"The lab {self.record.name} is damaged: {'; '.join(problems)}.",
                engine=shell.ENGINE,
                subject=self.record.name,
                next_step=f"`ismgr lab down --name {self.record.name}`, then `ismgr lab up` makes a new one.",
            )
        emit(StepReported(step="lab", detail=f"repairing: {'; '.join(problems)}"))
        with folder.alone():
            settings.raise_limits()
        networks.guard(self.topology, found)
        for process in cleanup.supervisors(self.folder.root):
            process.terminate()
            process.wait(_READY.total_seconds())
        self._switch_on(emit)

    def _problems(self, containers: Collection[str]) -> tuple[str, ...]:
        lost = [one.name for one in self.topology.machines if self.topology.container(one) not in containers]
        problems = [f"no machine {name}" for name in lost]
        if self.record.phase is not Phase.UP:
            problems.append("`ismgr lab up` did not finish")
        if next(cleanup.supervisors(self.folder.root), None) is None:
            problems.append("the supervisor is gone")
        bridge = networks.bridges(self.topology).get(Segment.MANAGEMENT)
        if bridge is None:
            problems.append("no management network")
        elif networks.missing_addresses(self.topology, bridge):
            problems.append("the host's management addresses are gone")
        if not networks.guarded(self.record.name):
            problems.append("the filter of the management network is gone")
        return tuple(problems)


def down(name: str = DEMO, emit: Emit = ignore) -> tuple[str, ...]:
    """Take a lab away, whatever state it is in; returns what was removed, empty when there was nothing."""
    home = folder.folder_of(name)
    with folder.at_work(name):
        removed = _take_away(home, emit)
    folder.tidy()
    return removed


def _take_away(home: Folder, emit: Emit) -> tuple[str, ...]:
    with folder.alone():
        return cleanup.remove(home, emit)


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
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415
    import dns.query  # noqa: PLC0415

    try:
        answer = dns.query.udp(dns.message.make_query(ZONE, "SOA"), str(address), timeout=1)
    except (OSError, dns.exception.DNSException):
        return False
    return bool(answer.answer)
