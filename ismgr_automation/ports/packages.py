"""Packages on hosts: what one reading of a host finds, what we ask of a package manager, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reachability, Ssh


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One package on a host, as dpkg knows it."""

    name: str
    architecture: str
    version: str
    source: str
    source_version: str
    section: str = ""
    status: str = "ii"
    """dpkg's own two or three letters: ``ii`` is well, ``iF`` half-configured, ``iU`` unpacked, ``hi`` held."""

    @property
    def well(self) -> bool:
        """Whether it is installed and configured."""
        return self.status[1:] == "i"

    @property
    def held(self) -> bool:
        """Whether the host itself holds it (``apt-mark hold``)."""
        return self.status[:1] == "h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One version of a package that a repository offers to a host: of an installed one newer or older than what is
    there, or of one that an update would bring."""

    name: str
    architecture: str
    version: str
    source: str
    source_version: str
    section: str = ""
    digest: str = ""
    """``sha256:...`` of the package file, as the signed index says."""
    size_bytes: int = 0
    origin: str = ""
    """The repository's ``Origin``: ``Debian``."""
    suite: str = ""
    """Its ``Suite``, or ``Codename`` where it has none: ``stable-security``."""
    component: str = ""
    candidate: bool = False
    """Whether the host's own apt would choose it."""


class Need(StrEnum):
    """Whether something must be restarted. What nobody could find out is ``unknown``, and never counts as no."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A process that still has the old file of something that was replaced in memory."""

    pid: int
    command: str
    unit: str = ""
    """Its systemd unit, where it has one."""
    files: tuple[str, ...] = ()
    """What it has mapped and is no longer on the disk."""


INIT = "init"
"""What PID 1 is called among units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Packages whose programs and libraries a running service has in memory; ``unit`` is ``INIT`` for PID 1."""

    unit: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One life of a host. Where there is a kernel of its own ``boot_id`` tells lives apart, in a container only the
    start of PID 1 does (clock ticks after the kernel's boot)."""

    boot_id: str
    init_started: int

    def after(self, other: Boot) -> bool:
        """Whether this is another life than ``other``."""
        return self.boot_id != other.boot_id or self.init_started != other.init_started


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """One reading of one host, by one script over one connection. Never called current: it has a time."""

    host: str
    read_at: datetime
    distribution: str
    """``ID`` of os-release: ``debian``."""
    release: str
    """``VERSION_ID``: ``12``."""
    codename: str
    """``VERSION_CODENAME``: ``bookworm``."""
    kernel: str
    """What runs (``uname -r``)."""
    kernel_installed: str
    """The newest installed kernel of that flavour; empty where there is none to compare (containers)."""
    boot: Boot
    installed: tuple[Installed, ...]
    offered: tuple[Offered, ...]
    broken: tuple[str, ...] = ()
    """What ``dpkg --audit`` says, one line for each package."""
    lists_read_at: datetime | None = None
    """When the host last read its repositories' indexes; None: never, or nobody knows."""
    stale: tuple[Stale, ...] = ()
    reboot: Need = Need.UNKNOWN
    reboot_why: tuple[str, ...] = ()
    """One line for each reason: another kernel is installed, PID 1 has mapped what was replaced, the host asks."""
    services: tuple[str, ...] = ()
    """Units that must be restarted."""
    mapped: tuple[Mapped, ...] | None = None
    """What runs from which packages, by unit; None: the host did not tell."""
    unseen: int = 0
    """Processes that could not be looked at: what they need is not known."""
    free_bytes: int = 0
    """Room where packages are unpacked (the least of ``/``, ``/usr``, ``/var``)."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Hosts to work on, by name; ``hosts`` holds the bastions as well."""

    hosts: Sequence[Host]
    names: Sequence[str]
    ssh: Ssh
    become_password: SecretRef | None = None


class FactsReader(Protocol):
    """Reads hosts, all at once, with one connection each. Changes nothing there."""

    def read(self, fleet: Fleet, context: Context) -> tuple[HostFacts | Reachability, ...]:
        """One answer for each name, in that order; a host that cannot be read gives a ``Reachability``, with why."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One package of one host from one exact version to another; older is a downgrade."""

    name: str
    architecture: str
    before: str
    """Empty: it is not installed."""
    after: str
    digest: str = ""
    """``sha256:...`` of the file that must be installed; empty: whatever the signed index says (rollback)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRequest:
    """Exact versions on one wave's hosts. ``moves`` by host. Each host is asked to do these moves and no other."""

    fleet: Fleet
    moves: Mapping[str, tuple[Move, ...]]
    run: str
    """The run that asks: names the folder on the host where former versions are kept."""
    deadline: timedelta
    keep_former: bool = True
    """Fetch the files of the versions that are replaced before anything is installed, for a rollback."""
    former_required: bool = False
    """Refuse (NO_FORMER, before anything is installed) a host on which one of these files cannot be had."""
    fence: str = ""
    """The name of the lease; as in ``PlaybookRequest``."""


class PackageFate(StrEnum):
    """How a host fared."""

    DONE = "done"
    """Every move was made, exactly."""
    NOTHING = "nothing"
    """Every move had been made before."""
    REFUSED = "refused"
    """Nothing was begun: apt would do something else than what was asked."""
    FAILED = "failed"
    """It began, and failed; see ``trouble``."""
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    """The connection was lost in the middle."""


class Trouble(StrEnum):
    """Why a host was refused or failed: what heals it depends on this."""

    NONE = ""
    LOCKED = "locked"
    """Somebody else holds dpkg's lock, and did so until the deadline."""
    VANISHED = "vanished"
    """A version is not offered any more."""
    WIDER = "wider"
    """apt would change other packages too."""
    DIGEST = "digest"
    """The offered file is not the one that was planned."""
    MOVED = "moved"
    """What is installed is neither the version before nor the one after."""
    NO_ROOM = "no-room"
    """The disk is full, or would be."""
    BROKEN = "broken"
    """A maintainer script failed: packages are half-installed."""
    NO_FORMER = "no-former"
    """A former version cannot be had."""
    FENCED = "fenced"
    """The host knows a larger fencing token."""
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A package that is not installed on a host and that apt would install besides the moves that were asked for."""

    name: str
    architecture: str
    version: str
    offers: tuple[Offered, ...]
    """This very version as the signed indexes know it, once for each repository that has it; never empty."""
    needed_by: tuple[str, ...] = ()
    """Names of the packages, asked for or brought, that depend on it; empty: nobody could tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageResult:
    """What became of one host. ``made`` are the moves that really happened, read back from dpkg."""

    host: str
    fate: PackageFate
    trouble: Trouble = Trouble.NONE
    detail: str = ""
    """For people: the last lines of what apt said."""
    headline: str = ""
    """The one line of it that says what went wrong, package and script."""
    made: tuple[Move, ...] = ()
    broken: tuple[str, ...] = ()
    """What ``dpkg --audit`` says afterwards."""
    former: tuple[str, ...] = ()
    """Packages whose former version's file is kept on the host."""
    brings: tuple[Brought, ...] = ()
    """Of a check that was refused as WIDER for these new packages and for nothing else."""
    seconds: float = 0.0


class PackageManager(Protocol):
    """Installs exact versions. A host that fails is a result; raises ``Cancelled``, and ``InputError`` for hosts that
    cannot be connected to by their description."""

    def refresh(self, fleet: Fleet, deadline: timedelta, context: Context) -> tuple[PackageResult, ...]:
        """Let hosts read their repositories' indexes."""
        ...

    def check(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """What ``apply`` would answer, found out by simulation: DONE, NOTHING or REFUSED with why. Changes nothing.
        Where only new packages are missing among the moves it names them (``brings``)."""
        ...

    def apply(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Make the moves, and pin these versions on the host. What was made is read back from dpkg."""
        ...

    def rollback(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Make moves back to exact former versions, from the kept files or a repository, healing what is half-installed
        on the way. A package that this run was to bring and that never got well is removed; one that is well stays."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartResult:
    """What became of one host that was restarted. ``proof`` says how we know: the boot before and after."""

    host: str
    ok: bool
    boot: Boot | None = None
    proof: str = ""
    detail: str = ""
    power_cycled: bool = False
    seconds: float = 0.0
    """From the order until the host answered and its services were up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Hosts to restart. ``within`` is how long each may take to come back; ``units``: only these services."""

    fleet: Fleet
    boots: Mapping[str, Boot]
    """The life of each host before; one that has another by now was restarted already."""
    within: timedelta
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Restarter(Protocol):
    """Restarts hosts and services, and proves it."""

    def reboot(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Through systemd; waits until each host answers in another life."""
        ...

    def services(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Restart ``units``, and see that they run."""
        ...

    def await_back(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Wait for hosts that somebody else restarts (a BMC)."""
        ...
