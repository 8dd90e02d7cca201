"""Where a lab keeps what it must remember: one folder per lab, readable by its owner only. Nothing here starts or stops
anything."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ismgr_automation.core.errors import Refused, SettingsError
from ismgr_automation.lab.topology import Machine, Topology, choose_index, draw, valid_name

FORMAT = "ismgr.lab/1"
RUN = Path("/run/ismgr-lab")
"""What all labs of this host share, whoever made them; a reboot clears it together with what it describes."""
SUPERVISOR = "ismgr_automation.lab.supervisor"
"""The module that looks after a lab; its one argument is the lab's folder."""


class Phase(StrEnum):
    """How far a lab has come."""

    STARTING = "starting"
    """Being made, or left behind by an ``up`` that was killed."""
    UP = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a new lab is asked to be: web machines of each site, and whether dc2 has a spare machine."""

    webs: int = 1
    spare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is remembered about one lab besides its keys."""

    name: str
    index: int
    image: str
    phase: Phase
    webs: int = 1
    """Web machines of each site."""
    spare: bool = False
    """Whether there is a spare machine for clones, in a network of its own."""

    @property
    def topology(self) -> Topology:
        """The lab's shape."""
        return draw(self.name, self.index, self.webs, spare=self.spare)


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths of one lab's folder."""

    root: Path

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.root.name

    @property
    def record(self) -> Path:
        """The lab's record."""
        return self.root / "lab.json"

    @property
    def operator_key(self) -> Path:
        """The private key that opens every machine."""
        return self.root / "operator"

    @property
    def known_hosts(self) -> Path:
        """Every machine's host key, in OpenSSH's format."""
        return self.root / "known_hosts"

    @property
    def tsig(self) -> Path:
        """The secret of signed DNS updates, base64."""
        return self.root / "tsig"

    @property
    def authority(self) -> Path:
        """The certificate of the BMCs' authority."""
        return self.root / "bmc" / "ca.pem"

    @property
    def pid(self) -> Path:
        """The supervisor's process id."""
        return self.root / "supervisor.pid"

    @property
    def log(self) -> Path:
        """What the supervisor says."""
        return self.root / "supervisor.log"

    def bmc(self, machine: Machine, ending: str) -> Path:
        """A file of one machine's BMC: ``pem``, ``users``, ``password`` or ``json``."""
        return self.root / "bmc" / f"{machine.name}.{ending}"

    def host_key(self, machine: Machine) -> Path:
        """The public half of a machine's host key."""
        return self.root / "host_keys" / f"{machine.name}.pub"

    def faults(self, machine: str) -> Path:
        """The faults that tests asked of one machine's BMC."""
        return self.root / "faults" / f"{machine}.json"

    def read(self) -> Record | None:
        """The record, or None where there is no lab or one that was killed before it had a record."""
        try:
            body = json.loads(self.record.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if body.get("format") != FORMAT:
            raise SettingsError(
                f"{self.record} is not of format {FORMAT}.",
                next_step=f"`ismgr lab down --name {self.name}` removes that lab, then `ismgr lab up` makes a new one.",
            )
        return Record(
            name=body["name"],
            index=body["index"],
            image=body["image"],
            phase=Phase(body["phase"]),
            webs=body.get("webs", 1),
            spare=body.get("spare", False),
        )

    def write(self, record: Record) -> None:
        """Remember a record."""
        body = {
            "format": FORMAT,
            "name": record.name,
            "index": record.index,
            "image": record.image,
            "phase": str(record.phase),
            "webs": record.webs,
            "spare": record.spare,
        }
        write_private(self.record, json.dumps(body, indent=2) + "\n")


def labs_root() -> Path:
    """The folder of all labs of this user."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "ismgr" / "lab"


def folder_of(name: str) -> Folder:
    """The folder of a lab, made or not."""
    return Folder(labs_root() / valid_name(name))


def all_folders() -> tuple[Folder, ...]:
    """The folders of this user's labs, by name."""
    root = labs_root()
    paths = sorted(root.iterdir()) if root.is_dir() else []
    return tuple(Folder(path) for path in paths if path.is_dir() and not path.name.startswith("."))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def take_index(name: str, elsewhere: Mapping[str, int]) -> int:
    """The place of a lab in the address plan: the one that it has, or a free one.

    ``elsewhere`` are places that the host's networks show as taken, by lab: other users have labs too.
    """
    records = [record for folder in all_folders() if (record := folder.read()) is not None]
    taken = {**elsewhere, **{record.name: record.index for record in records}}
    return taken[name] if name in taken else choose_index(name, taken.values())


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this host's labs: choosing an address range and counting labs are done by one at a time.

    The last lab takes the folder with it, so the lock that we got may be that of a folder that is gone: then again.
    """
    while True:
        with _locked(RUN / "lock", wait=True) as path:
            if path is not None:
                yield
                return


@contextmanager
def at_work(name: str) -> Iterator[None]:
    """Hold one lab's own lock while it is made or removed; raises ``Refused`` when somebody else does."""
    with _locked(labs_root() / f".{valid_name(name)}.lock", wait=False) as path:
        if path is None:
            raise Refused(
                f"Another `ismgr lab` is at work on the lab {name}.",
                next_step="Wait for it to end, or use another name with --name.",
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def tidy() -> None:
    """Remove the folders that all labs share when there is no lab left."""
    root = labs_root()
    if root.is_dir() and all(child.name.startswith(".") for child in root.iterdir()):
        shutil.rmtree(root)
        if not any(root.parent.iterdir()):
            root.parent.rmdir()
    if RUN.is_dir() and not (RUN / "settings.json").exists() and not all_folders():
        shutil.rmtree(RUN)


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[Path | None]:
    """Hold a file's lock; gives None when it is held by somebody else, or was removed before we got it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        here = os.fstat(file.fileno())
        yield path if path.exists() and os.path.samestat(here, path.stat()) else None
