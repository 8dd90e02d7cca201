"""Taking a host out of service and back: load balancers, the primary role of a cluster, a machine's firmware, its disk
as it was before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One server of one backend, on every balancer of ``fleet.names``."""

    fleet: Fleet
    backend: str
    server: str
    socket: str
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a balancer said. ``before`` is the administrative state that was found (``ready``, ``drain``, ``maint``):
    what ``restore`` puts back."""

    balancer: str
    ok: bool
    before: str = ""
    sessions: int = 0
    """Sessions that were cut off at the deadline."""
    detail: str = ""
    seconds: float = 0.0


class Balancer(Protocol):
    """A load balancer. Raises ``Cancelled``; a balancer that cannot be reached is a result."""

    def drain(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """Send the server nothing new, and wait until nothing is left."""
        ...

    def restore(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """Put the server back, and wait until the balancer finds it healthy."""
        ...

    def states(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """The administrative state on each balancer, in ``before``."""
        ...


class Part(StrEnum):
    """What a member of a cluster is."""

    PRIMARY = "primary"
    STANDBY = "standby"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMember:
    """One member as it was seen. ``position`` is the write position in bytes (PostgreSQL's LSN); ``streaming``: a
    standby that receives from the primary, or a primary from which somebody receives."""

    host: str
    part: Part
    timeline: int = 0
    position: int = 0
    streaming: bool = False
    lag_bytes: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster on the hosts of ``fleet.names``."""

    fleet: Fleet
    version: str
    name: str
    port: int
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What a switchover did. ``steps`` are sentences, in order, with what each took."""

    ok: bool
    primary: str
    """Who is the primary afterwards; empty: nobody can tell."""
    steps: tuple[str, ...] = ()
    detail: str = ""
    without_primary: timedelta = timedelta()
    """From the moment when the old primary took no writes until the new one did."""


class ClusterManager(Protocol):
    """A replicated database. Raises ``Cancelled``; a member that cannot be reached is a result."""

    def members(self, cluster: Cluster, context: Context) -> tuple[ClusterMember, ...]:
        """Every member, as it is seen now."""
        ...

    def switchover(self, cluster: Cluster, to: str, context: Context) -> Switched:
        """Planned: the primary is stopped cleanly, the member ``to`` has all of it, is promoted, and the old primary
        becomes its standby. Refuses, before anything is done, when ``to`` does not stream or lags, and when there are
        two primaries."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BmcAccess:
    """How to reach a machine's management controller."""

    machine: str
    address: str
    username: str
    password: SecretRef
    ca: Path | None = None
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareItem:
    """One entry of a machine's firmware inventory."""

    id: str
    name: str
    version: str
    updateable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareUpdate:
    """One component to one version."""

    bmc: BmcAccess
    component: str
    version: str
    image: str
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareResult:
    """What became of it. ``before`` and ``after`` are versions as the BMC told them."""

    machine: str
    ok: bool
    before: str = ""
    after: str = ""
    detail: str = ""
    reset: bool = False
    """Whether the machine was restarted for it."""
    seconds: float = 0.0


class MachineUpkeep(Protocol):
    """A machine's management controller. Raises ``EngineError``."""

    def inventory(self, bmc: BmcAccess, context: Context) -> Sequence[FirmwareItem]:
        """What firmware the machine has."""
        ...

    def update(self, update: FirmwareUpdate, context: Context) -> FirmwareResult:
        """Read, compare, act, verify: nothing is done where the version is there already; the task is followed to its
        end, the machine restarted where the BMC says that it must be, and the version read again."""
        ...

    def restart(self, bmc: BmcAccess, within: timedelta, context: Context) -> str:
        """Ask the operating system to restart, once and never with force; returns what was ordered, in words. Whether
        it happened only the host can tell. A BMC that offers no such reset is an error that says what it offers."""
        ...

    def power_cycle(self, bmc: BmcAccess, within: timedelta, context: Context) -> str:
        """Off, and on again; returns how it went, in words."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """One snapshot of one host, and who is asked for it: ``command`` with a verb, the host and the name as further
    words, started in ``root``. ``secrets`` are environment variables by name."""

    host: str
    name: str
    command: tuple[str, ...]
    root: Path
    deadline: timedelta
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResult:
    """What became of one request. ``there``: it was not made, because one of this name is there already and stays as it
    is."""

    host: str
    ok: bool
    there: bool = False
    detail: str = ""
    """For people: why it failed, with the last lines of what was said; secrets taken out."""
    seconds: float = 0.0


class Snapshotter(Protocol):
    """Whoever keeps the disks of machines: a hypervisor, a storage array. What fails or takes too long is a result;
    raises ``Cancelled`` and ``LeaseLost``."""

    def create(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Keep the disk as it is now. One of the same name is never made over."""
        ...

    def restore(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Put the disk back as it was, and start the machine from it: in another life than before."""
        ...

    def remove(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Keep it no longer."""
        ...
