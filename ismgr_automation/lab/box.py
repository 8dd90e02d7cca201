"""A lab as a whole: made, looked at, used and taken away. Commands and tests call this and nothing below it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.events import Emit, ignore
from ismgr_automation.engines.process import Finished
from ismgr_automation.lab import documents, faults, folder, machines, making, patches, shell
from ismgr_automation.lab.folder import Folder, Phase, Record, Shape
from ismgr_automation.lab.repository import Repository
from ismgr_automation.lab.snapshots import Snapshots
from ismgr_automation.lab.topology import BMC_USER, DEMO, USER, Machine, Topology


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
    def up(
        cls,
        name: str = DEMO,
        emit: Emit = ignore,
        cancelled: threading.Event | None = None,
        *,
        webs: int = 1,
        spare: bool = False,
    ) -> Self:
        """Make a lab, or repair the one of that name; safe to repeat. What was begun is taken away when it fails.
        ``webs`` is how many web machines each site of a new one has; one that is there keeps those that it has.
        ``spare``: dc2 has a machine for clones on a network of its own behind its gateway.

        Raises ``EngineMissing`` with everything that this host lacks, ``EngineFailed`` or ``EngineTimedOut`` when a
        step fails, ``Cancelled`` when somebody cancelled.
        """
        home = folder.folder_of(name)
        with folder.at_work(name):
            record = home.read()
            if record is not None and record.phase is Phase.UP:
                making.repair(home, record, emit)
                return cls(home, record)
            return cls(home, making.make(home, Shape(webs=webs, spare=spare), emit, cancelled or threading.Event()))

    @classmethod
    def find(cls, name: str = DEMO) -> Self:
        """The lab of that name; raises ``SettingsError`` when there is none."""
        _only_root()
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
        return Status(record=self.record, machines=found, problems=making.problems(self.folder, self.record, states))

    def write(self, estate: Path) -> tuple[Path, ...]:
        """Write its Site documents and secrets below an estate's folder; see ``documents.write``."""
        return documents.write(self.topology, self.folder, estate)

    @property
    def repository(self) -> Repository:
        """Its package repository: what is offered to its machines."""
        return Repository(self.topology, self.folder)

    @property
    def snapshots(self) -> Snapshots:
        """Snapshots of its machines."""
        return Snapshots(self.topology, self.folder)

    def publish_patches(self, *, reset: bool = False) -> tuple[patches.Prepared, ...]:
        """Offer both versions of each package of ``patches``, and see that machines that are on have the first; with
        ``reset`` also those that have others by now. Firmware images are served too. Raises ``EngineFailed``.
        """
        self.repository.publish(patches.ALL, patches.FIRMWARE)
        on = [one.machine.name for one in self.status().machines if one.on]
        return patches.prepare(self.repository, on, reset=reset)

    def run(
        self, name: str, argv: Sequence[str], *, stdin: bytes | None = None, deadline: timedelta = shell.SHORT
    ) -> Finished:
        """Run a command on a machine that is on, as root, without SSH; for tests and the client of a service."""
        container = self.topology.container(self.machine(name))
        return shell.attempt("podman", "exec", "--interactive", container, *argv, stdin=stdin, deadline=deadline)

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


def down(name: str = DEMO, emit: Emit = ignore) -> tuple[str, ...]:
    """Take a lab away, whatever state it is in; returns what was removed, empty when there was nothing."""
    _only_root()
    home = folder.folder_of(name)
    with folder.at_work(name):
        removed = making.take_away(home, emit)
    folder.tidy()
    return removed


def _only_root() -> None:
    if os.geteuid() != 0:
        raise SettingsError("Labs belong to root.", next_step="Run the same command with sudo.")
