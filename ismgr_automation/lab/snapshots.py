"""Snapshots of a lab's machines: what a machine has written to its disk, copied aside and put back. They stand for what
a hypervisor or a storage array offers; taking one never needs a machine to be off, putting one back switches it off."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed, Refused, SettingsError
from ismgr_automation.lab import machines, shell
from ismgr_automation.lab.folder import Folder
from ismgr_automation.lab.shell import podman, podman_json
from ismgr_automation.lab.topology import BMC_USER, Machine, Topology

COPY_DEADLINE = timedelta(minutes=5)
_UNMOUNTED, _PAUSE = timedelta(seconds=30), timedelta(seconds=0.05)
_BMC_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot of one machine."""

    machine: str
    name: str
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of a lab's machines. Every method raises ``SettingsError`` for a machine or a name that there is
    not, or that cannot have snapshots: ``ns`` and ``client`` have none."""

    topology: Topology
    folder: Folder

    def create(self, machine: str, name: str) -> Snapshot:
        """Copy a machine's disk as it is at this moment; one that is on stands still meanwhile, for a fraction of a
        second. What it finds after ``restore`` is what it would find after a loss of power. Raises ``Refused`` where
        there is one of this name: it is never made over, and nothing that is half a copy has a name."""
        target = self._path(machine, name)
        if target.exists():
            raise Refused(
                f"{machine} has a snapshot {name} already, which stays as it is.",
                next_step="Take another name, or remove it first.",
            )
        container = self.topology.container(self.topology.machine(machine))
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = target.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with _standing_still(container):
            _copy(_disk(container), part)
        part.rename(target)
        return self._seen(machine, target)

    def restore(self, machine: str, name: str) -> Snapshot:
        """Put a machine's disk back; one that was on is switched off and on at its BMC."""
        source = self._existing(machine, name)
        server = self.topology.machine(machine)
        container = self.topology.container(server)
        was_on = machines.inspect(container).running
        self._press(server, "ForceOff")
        disk = _disk(container)
        # podman unmounts a moment after it knows that a machine is off
        podman("container", "cleanup", container)
        mounted = f"{disk.parent}/merged"
        shell.wait_until(f"the disk of {machine} is free", lambda: not _mounted(mounted), _UNMOUNTED, _PAUSE)
        for child in disk.iterdir():
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
        _copy(source, disk)
        if was_on:
            self._press(server, "On")
        return self._seen(machine, source)

    def remove(self, machine: str, name: str) -> None:
        """Remove a snapshot."""
        path = self._existing(machine, name)
        # half a copy must not look like a whole one, whenever somebody stops this
        shutil.rmtree(path.rename(path.with_name(f".{name}.part")))

    def of(self, machine: str) -> tuple[Snapshot, ...]:
        """The snapshots of a machine, the oldest first."""
        folder = self._path(machine, "x").parent
        paths = folder.iterdir() if folder.is_dir() else ()
        found = [self._seen(machine, path) for path in paths if not path.name.startswith(".")]
        return tuple(sorted(found, key=lambda one: one.taken_at))

    def _path(self, machine: str, name: str) -> Path:
        if self.topology.machine(machine).bmc is None:
            raise SettingsError(f"{machine} has no snapshots.", next_step="Only machines with a BMC have.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise SettingsError(
                f"{name!r} cannot be the name of a snapshot.",
                next_step="Use letters, digits, dots, hyphens and underscores, 64 at most.",
            )
        return self.folder.root / "snapshots" / machine / name

    def _existing(self, machine: str, name: str) -> Path:
        path = self._path(machine, name)
        if not path.is_dir():
            there = ", ".join(one.name for one in self.of(machine)) or "none"
            raise SettingsError(f"{machine} has no snapshot {name}.", next_step=f"It has: {there}.")
        return path

    def _seen(self, machine: str, path: Path) -> Snapshot:
        # a folder's change of status is when it got its name
        taken_at = datetime.fromtimestamp(path.stat().st_ctime, UTC)
        return Snapshot(machine=machine, name=path.name, taken_at=taken_at)

    def _press(self, machine: Machine, reset: str) -> None:
        """Ask the machine's BMC: it alone decides what runs."""
        import requests

        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.folder.authority)
        session.auth = (BMC_USER, self.folder.bmc(machine, "password").read_text())
        url = f"https://{machine.bmc}/redfish/v1/Systems/{machine.uuid}/Actions/ComputerSystem.Reset"
        try:
            session.post(url, json={"ResetType": reset}, timeout=_BMC_SECONDS).raise_for_status()
        except requests.RequestException as problem:
            raise EngineFailed(
                f"The BMC of {machine.name} did not do {reset}.",
                engine=shell.ENGINE,
                subject=machine.name,
                detail=str(problem),
                next_step="`ismgr lab status` shows the lab; `ismgr lab up` repairs it.",
            ) from problem


@contextmanager
def _standing_still(container: str) -> Iterator[None]:
    running = machines.inspect(container).running
    if running:
        podman("pause", container)
    try:
        yield
    finally:
        if running:
            podman("unpause", container)


def _disk(container: str) -> Path:
    """Where the files are that a machine has and its image has not."""
    return Path(podman_json("container", "inspect", container)[0]["GraphDriver"]["Data"]["UpperDir"])


def _mounted(path: str) -> bool:
    return any(line.split()[4] == path for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _copy(source: Path, target: Path) -> None:
    """Everything: owners, attributes, and the marks of files that were deleted."""
    target.mkdir(parents=True, exist_ok=True)
    shell.command("cp", "--archive", "--reflink=auto", f"{source}/.", str(target), deadline=COPY_DEADLINE)
