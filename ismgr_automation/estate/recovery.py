"""The documents about losing a site and coming back. Shapes and single-field rules only; what spans documents is in
``consistency``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from ismgr_automation.estate.fields import (
    ABSOLUTE_PATH,
    IDENTIFIER,
    PATTERNS,
    RATE,
    Document,
    Duration,
    Name,
    RelativePath,
    SecretValue,
)

Port = Annotated[int, Field(ge=1, le=65535)]


class RecoveryObjectives(Document):
    """What a recovery must reach. What is left out is the Service's own."""

    rto: Duration | None = None
    """The longest outage that a client may see."""
    rpo: Duration | None = None
    """The longest time whose acknowledged writes may be lost; ``0s``: none at all."""
    mtd: Duration | None = None
    """The maximum tolerable downtime: the whole recovery, redundancy included, may not take longer."""


class FenceWay(StrEnum):
    """How a member is kept from taking writes."""

    POWER = "power"
    """Its BMC cuts the power."""
    NETWORK = "network"
    """Its packet filter answers the service's clients with a reset; the management network stays open."""


class _Step(Document):
    name: Name
    needs: tuple[Name, ...] = ()
    """Steps of the same path that must have ended well; without any, those that stand before it."""
    deadline: Duration = "30s"
    """How long it may take; then it has failed. Plans, runbooks and windows add these up."""


class FenceStep(_Step):
    """The member that had the primary role is kept from taking writes, and others confirm it."""

    do: Literal["fence"]
    way: FenceWay = FenceWay.POWER
    witnesses: tuple[Name, ...] = ()
    """HostGroups whose hosts confirm it, by trying to connect; without any, the standby's own host does."""
    network: str = "{site}"
    """The network in the machine's ``addresses`` on which clients reach it; ``{site}`` is the name of its Site. A
    machine without that one is looked for at the address that it is managed at."""


class DemoteStep(_Step):
    """The primary is stopped cleanly, and all that it wrote has arrived at the other side. Planned paths only."""

    do: Literal["demote"]


class PromoteStep(_Step):
    """The other side takes the primary role."""

    do: Literal["promote"]


class HaproxyStep(_Step):
    """Balancers send clients to the new primary: its server becomes ready, all others of the backend go to maintenance
    and lose their sessions."""

    do: Literal["haproxy"]
    group: Name
    """The HostGroup of the balancers. One that cannot be reached is told, and the others are enough."""
    backend: Annotated[str, Field(min_length=1)]
    server: str = "{host}"
    """The server's name in the backend; ``{host}`` is the host's."""
    socket: str = "/run/haproxy/admin.sock"


class DnsStep(_Step):
    """A name points to the new side, by signed dynamic update (RFC 2136)."""

    do: Literal["dns"]
    server: Annotated[str, Field(min_length=1)]
    port: Port = 53
    zone: Annotated[str, Field(min_length=1)]
    record: Annotated[str, Field(min_length=1)]
    """The name inside the zone."""
    type: Literal["A", "AAAA", "CNAME"] = "A"
    ttl: Annotated[int, Field(ge=0, le=86400)] = 5
    values: Mapping[Name, tuple[str, ...]]
    """What it points to while a site has the primary role, by Site."""
    key_name: Annotated[str, Field(min_length=1)]
    key_secret: SecretValue
    secondaries: tuple[str, ...] = ()
    """The zone's other name servers, ``ADDRESS`` or ``ADDRESS:PORT``: the step has ended when they show it as well. One
    that does not answer is told, and waited for no longer."""


class VerifyStep(_Step):
    """The suites of a HostGroup pass on its hosts that are up."""

    do: Literal["verify"]
    group: Name
    deadline: Duration = "5m"
    """For all that is asked, again where it has to be; the HostGroup's own holds for each time."""


class PlayStep(_Step):
    """The playbook of a HostGroup is applied to it, or to those hosts of it that a selector takes."""

    do: Literal["play"]
    group: Name
    deadline: Duration = "10m"
    """Where the HostGroup's own is shorter, that one holds."""
    hot: bool = False
    """Says by name that clients may wait for Ansible: without it the plan is refused with this on a hot path."""


class StackStep(_Step):
    """A Stack is applied."""

    do: Literal["stack"]
    stack: Name
    deadline: Duration = "10m"
    """Where the Stack's own is shorter, that one holds."""
    hot: bool = False
    """As for a play."""


class FunctionStep(_Step):
    """A Python function of the estate is called, in a process of its own, with a mapping of plan, leg, old, new,
    old_site and new_site. What it returns is told; it fails by raising."""

    do: Literal["function"]
    file: RelativePath
    function: Annotated[str, Field(pattern=IDENTIFIER, description=PATTERNS[IDENTIFIER])]
    hot: bool = False
    """As for a play."""


class UnfenceStep(_Step):
    """The fence is lifted: power is on again, or the packet filter's table is gone. Only a member that cannot come up
    as a primary is let out."""

    do: Literal["unfence"]
    deadline: Duration = "5m"
    """A fence by power: longer than the machine boots. One that does not answer by then loses its power again."""


class RejoinStep(_Step):
    """The old primary becomes a standby of the new one and streams."""

    do: Literal["rejoin"]
    deadline: Duration = "10m"
    """Long enough to copy the whole database, where that may be needed."""
    way: Literal["auto", "rewind", "rebuild"] = "auto"
    """``auto`` rewinds where that is possible, and copies everything anew where it is not."""


HotStep = Annotated[
    FenceStep | DemoteStep | PromoteStep | HaproxyStep | DnsStep | PlayStep | StackStep | FunctionStep,
    Field(discriminator="do"),
]
ColdStep = Annotated[
    VerifyStep | UnfenceStep | RejoinStep | HaproxyStep | DnsStep | PlayStep | StackStep | FunctionStep,
    Field(discriminator="do"),
]


class _Fault(Document):
    name: Name
    lasts: Duration = "2m"
    """The dead-man's timer: when nobody lifts or renews it for so long, the hosts lift it themselves."""


class PowerFault(_Fault):
    """The old primary's machine loses its power."""

    do: Literal["power-off"]


class FreezeFault(_Fault):
    """Every process of the old primary's server is stopped (SIGSTOP): connections stay open, and nobody answers."""

    do: Literal["freeze"]


class PartitionFault(_Fault):
    """The old primary's site is cut off: gateways drop, without a word, what goes to it, comes from it, or both."""

    do: Literal["partition"]
    gateways: Name
    """The HostGroup of the sites' gateways; those of the old site do it."""
    direction: Literal["both", "in", "out"] = "both"
    network: str = "{site}"
    """The network of the Site that is cut off, by its name there."""


class RollingFault(_Fault):
    """A rolling disaster: replication between the sites is cut first, the whole site only after ``lead``."""

    do: Literal["rolling"]
    gateways: Name
    lead: Duration = "1s"
    network: str = "{site}"


class SlowFault(_Fault):
    """The link of the old primary's site has less bandwidth, and queues."""

    do: Literal["slow-link"]
    gateways: Name
    rate: Annotated[str, Field(pattern=RATE, description=PATTERNS[RATE])] = "1mbit"
    latency: Duration = "100ms"
    """The longest that a packet waits in the queue before it is dropped."""


class DiskFault(_Fault):
    """The old primary's server can write no more: its file system is full, or is read-only."""

    do: Literal["disk-full", "read-only"]


class StaleFault(_Fault):
    """The old primary's machine loses its power, and comes back as a primary once the other side was promoted."""

    do: Literal["stale-primary"]


class ClientFault(_Fault):
    """The measuring client misbehaves as real ones do: it never asks again for a name that it once knew, or has its
    commits cancelled while they wait for a synchronous standby."""

    do: Literal["ignores-ttl", "cancels-commits"]


Fault = Annotated[
    PowerFault | FreezeFault | PartitionFault | RollingFault | SlowFault | DiskFault | StaleFault | ClientFault,
    Field(discriminator="do"),
]


class Detector(Document):
    """When a site counts as lost: after ``misses`` looks in a row that found no primary, ``every`` apart."""

    every: Duration = "300ms"
    misses: Annotated[int, Field(ge=1, le=100)] = 3
    green: Annotated[int, Field(ge=1, le=100)] = 5
    """Looks in a row that must have found one before a fault: a detector that is always red proves nothing."""


class ProbeDocument(Document):
    """The client that measures: it writes numbered rows through the service's own endpoint."""

    endpoints: Annotated[tuple[str, ...], Field(min_length=1)]
    """``HOST`` or ``HOST:PORT``, tried in this order, as a client with several would."""
    resolvers: tuple[str, ...] = ()
    """The name servers that clients ask for a name in ``endpoints``, ``ADDRESS`` or ``ADDRESS:PORT``, tried in this
    order: the probe asks them itself, and keeps an answer for its time to live. Without any it asks for each connection
    as the machine that drills is set up to, whatever other clients have cached."""
    database: Annotated[str, Field(min_length=1)]
    user: Annotated[str, Field(min_length=1)]
    password: SecretValue
    table: Annotated[str, Field(pattern=IDENTIFIER, max_length=40, description=PATTERNS[IDENTIFIER])] = "ismgr_probe"
    """Made where it is not there, with two columns; rows of older drills are removed."""
    every: Duration = "5ms"
    """The time between two writes; at least 1 ms."""
    steady: Duration = "2s"
    """How long every write must have been acknowledged before anything is done."""
    patience: Duration = "500ms"
    """How long one write may take before the client gives up on the connection and connects anew."""


class Readiness(Document):
    """What must hold before a drill or a recovery begins."""

    lag: Annotated[int, Field(ge=0)] = 16 * 1024 * 1024
    """The most bytes that the standby may be behind."""
    verify: tuple[Name, ...] = ()
    """HostGroups whose suites must pass."""


class BackupCheck(Document):
    """What must hold in the restored database: a query and what it gives."""

    name: Name
    database: str = ""
    """The probe's own where none is named."""
    query: Annotated[str, Field(min_length=1)]
    expect: str | None = None
    """Its rows, columns apart by ``|``."""
    at_least: int | None = None
    """The number that it gives may not be less."""


class FilesBackup(Document):
    """Files that restic keeps, as the role backup sets it up."""

    name: Name
    group: Name
    """The HostGroup whose host at ``site`` has the files."""
    site: Name | None = None
    """Home where none is named."""
    settings: Annotated[str, Field(pattern=ABSOLUTE_PATH, description=PATTERNS[ABSOLUTE_PATH])] = (
        "/etc/ismgr/backup-files.env"
    )
    """Where the host's own settings of restic lie, password included."""
    fresh: Duration = "26h"
    """How old the newest snapshot may be when the loss is declared."""
    at_least: Annotated[int, Field(ge=0)] = 1
    """How many files must be in it."""


class BackupDocument(Document):
    """Backups of the cluster by pgBackRest, and how a drill of mode ``restore`` proves them."""

    stanza: Name
    group: Name | None = None
    """The HostGroup whose host at ``site`` holds the repository; the cluster itself where none is named."""
    site: Name | None = None
    """The other site where none is named: a backup that burns with its database is none."""
    restore_on: Name | None = None
    """The HostGroup whose host at ``site`` restores it; the repository's own host where none is named. It has
    PostgreSQL's programs, and a configuration of pgBackRest that knows the stanza."""
    fresh: Duration = "15m"
    """The RPO of a backup: how old the newest write may be that can be restored."""
    rto: Duration | None = None
    """How long it may take until what was restored answers."""
    deadline: Duration = "1h"
    """When a restore is broken off. The host itself takes away whatever is left of it by then."""
    checks: tuple[BackupCheck, ...] = ()
    """Besides what is always asked: that all of the archive was replayed, and which of the drill's writes are there."""
    sound: bool = True
    """Every table and index is checked by ``pg_amcheck``."""
    verify: bool = True
    """Everything in the repository is read, and its checksums are compared."""
    settings: Mapping[str, str] = Field(default_factory=dict)
    """More of the scratch server's settings, such as ``shared_preload_libraries``; none of them opens it."""
    files: tuple[FilesBackup, ...] = ()


class RecoverySites(Document):
    """The two sides. ``home`` has the primary role in quiet times."""

    home: Name
    away: Name


class RecoveryScenario(Document):
    """What a drill of this plan stands for. Reports show it, and say which standards ask for what is left out here."""

    threat: str = ""
    """What happened, in the words of the risk assessment."""
    severity: str = ""
    assumptions: tuple[str, ...] = ()
    """What is taken for granted, and challenged by it."""
    third_parties: tuple[str, ...] = ()
    """Who takes part besides; ``none`` where that is so."""
    left_out: tuple[str, ...] = ()
    """What is not drilled, each with why; ``nothing`` where that is so."""
    bia: str = ""
    """Where the business impact analysis of the service is."""


class CloneCheck(Document):
    """A query that a promoted clone must answer as expected."""

    name: Name
    query: Annotated[str, Field(min_length=1)]
    expect: str
    """The rows as text: columns by ``|``, rows by line ends."""
    database: str = ""
    """Without it, the probe's."""


class Bubble(Document):
    """Where a drill in isolation tries a clone: spare hosts on a network of their own, whose gateways are closed."""

    group: Name
    """The HostGroup of the spare hosts; the first one by name is taken. PostgreSQL's programs must be there, a cluster
    must not."""
    gateways: Name
    """The HostGroup of gateways; those that have an address in the network are closed."""
    network: Name = "bubble"
    """The network's name at the Site of the spare host, and in the machines' ``addresses``."""
    source: Literal["away", "home"] = "away"
    """Which side's member is copied. ``away``: the standby, so that the primary notices nothing."""
    port: Port = 5432
    checks: tuple[CloneCheck, ...] = ()
    verify: tuple[Name, ...] = ()
    """HostGroups whose suites must pass while the clone is there: what they test on the spare host."""
    deadline: Duration = "10m"
    """For the copy, and for each step after it."""
    lasts: Duration = "30m"
    """The dead-man's timer: a clone that nobody has removed for so long is removed by its own host. Longer than the
    deadline."""
    in_windows: bool = False
    """Whether the plan's windows hold for it too."""


class RecoveryPlan(Document):
    """How one service gets from one site to the other and back, when that is planned and when it is not."""

    kind: Literal["RecoveryPlan"]
    name: Name
    description: str = ""
    service: Name
    cluster: Name
    """The HostGroup of the database; its ``switchover`` says where the cluster lies on its hosts."""
    sites: RecoverySites
    objectives: RecoveryObjectives = RecoveryObjectives()
    probe: ProbeDocument
    ready: Readiness = Readiness()
    failover: Annotated[tuple[HotStep, ...], Field(min_length=1)]
    """The old side is lost, or is treated as lost. Clients wait until its last step has ended."""
    switchover: Annotated[tuple[HotStep, ...], Field(min_length=1)]
    """Both sides are well. Used for planned moves, and for the way back."""
    reprotect: Annotated[tuple[ColdStep, ...], Field(min_length=1)]
    """After a failover, until there are two sides again."""
    faults: tuple[Fault, ...] = ()
    """What a drill of a failover may break first, chosen by name with ``--fault``."""
    detector: Detector = Detector()
    bubble: Bubble | None = None
    """For drills in isolation."""
    after: tuple[ColdStep, ...] = ()
    """After each move, once clients are served: what proves that the service is well."""
    scenario: RecoveryScenario = RecoveryScenario()
    windows: tuple[Name, ...] = ()
    """MaintenanceWindows, one of which must be open for a drill on the live service; without any, always."""
    backup: BackupDocument | None = None
    """What is left when both sides are lost, or what they hold is wrong."""
