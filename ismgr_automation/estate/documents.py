"""The kinds of documents, as frozen pydantic models. Shapes and single-field rules only; what spans documents is in
``consistency``. The JSON Schemas of ``ismgr schema`` are generated from here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from ismgr_automation.estate.fields import (
    HOST_KEY,
    LABEL,
    PATTERNS,
    PUBLIC_KEY,
    SHARE,
    WEB_ADDRESS,
    ConfigEntry,
    Document,
    Duration,
    Name,
    RelativePath,
    SecretValue,
    Variable,
)
from ismgr_automation.estate.maintenance import Drain, Exemption, Freeze, MaintenanceWindow, PatchBaseline, Switchover
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.schedule import DrillSchedule


class EnvironmentBackend(Document):
    """Secrets from environment variables: ``env:NAME`` reads ``PREFIX`` + NAME."""

    kind: Literal["environment"]
    prefix: str = ""


class FileBackend(Document):
    """Secrets from files below ``root`` (relative to the estate's working folder), readable by their owner only."""

    kind: Literal["file"]
    root: str


class AnsibleVaultBackend(Document):
    """Secrets from YAML files that ``ansible-vault`` encrypted: ``NAME:key.below`` reads a key, dots go deeper."""

    kind: Literal["ansible-vault"]
    files: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    """Files in Git, encrypted as a whole or value by value; of two that have a key, the last wins."""
    password: SecretValue
    passwords: Mapping[Annotated[str, Field(pattern=LABEL, description=PATTERNS[LABEL])], SecretValue] = Field(
        default_factory=dict
    )
    """Passwords of other vault ids, by their label."""


class HashicorpVaultBackend(Document):
    """Secrets of a HashiCorp Vault (or OpenBao) server, key-value engine version 2: ``NAME:path/to/secret#field``."""

    kind: Literal["vault"]
    address: Annotated[str, Field(pattern=WEB_ADDRESS, description=PATTERNS[WEB_ADDRESS])]
    token: SecretValue | None = None
    role_id: str = ""
    """With ``secret_id``: log in as an AppRole instead of with a token."""
    secret_id: SecretValue | None = None
    approle: str = "approle"
    """Where AppRoles log in: the path of their auth method."""
    mount: str = "secret"
    """The path of the key-value engine."""
    namespace: str = ""
    ca: RelativePath | None = None
    """A PEM file with the authority of the server's certificate; without it the system's authorities count."""
    deadline: Duration = "10s"
    """How long one answer may take."""


Backend = Annotated[
    EnvironmentBackend | FileBackend | AnsibleVaultBackend | HashicorpVaultBackend, Field(discriminator="kind")
]


class Role(StrEnum):
    """What a person may do."""

    AUTHOR = "author"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    RUNNER = "runner"
    BREAK_GLASS = "break-glass"
    MANAGEMENT = "management"
    """Signs off drills for those who answer for the whole."""


class ApprovalRule(Document):
    """So many people must sign a plan that touches this; without any condition, every plan that changes something."""

    count: Annotated[int, Field(ge=1, le=20)] = 1
    role: Role = Role.APPROVER
    """Who counts: members of Teams with this role."""
    team: Name | None = None
    """Only members of this Team count."""
    stacks: tuple[Name, ...] = ()
    """The rule holds when one of these stacks is touched ..."""
    groups: tuple[Name, ...] = ()
    """... or one of these host groups ..."""
    data_classes: tuple[str, ...] = ()
    """... or something that a Service with one of these data classes runs on ..."""
    destroys: bool = False
    """... or something is deleted or replaced ..."""
    urgent: bool = False
    """... or windows and freezes are overridden. Without a rule that says so nobody can override them."""


class EvidenceSettings(Document):
    """How runs are recorded."""

    log: str = "file://.ismgr/evidence"
    """Where the chain lies; a relative file URL is relative to the estate's working folder."""
    runner_key: SecretValue | None = None
    """The private SSH key that closes each run; its public half stands in a Team with role runner. Without one the
    records are chained and not signed, and every plan says so."""
    runner_agent: Annotated[str, Field(pattern=PUBLIC_KEY, description=PATTERNS[PUBLIC_KEY])] | None = None
    """Instead of ``runner_key`` the public half of a key that is in the ssh-agent of whoever applies."""
    anchor: bool = True
    """Write the head of the chain to ``refs/ismgr/evidence`` after each run."""


class PlanCredentials(Document):
    """What planning uses instead: planning runs proposed code, and should only be able to read."""

    user: str = ""
    """The user to log in with on hosts, those that name a user of their own included; empty for the usual ones."""
    key: SecretValue | None = None
    """The private key to log in with."""
    become_password: SecretValue | None = None
    """The password of that user for sudo; with a ``user`` and without this none is asked for."""
    secrets: Mapping[Name, Backend] = Field(default_factory=dict)
    """Secret backends by the names of the estate's own, which they replace while planning."""


class Environment(Document):
    """One environment of the estate."""

    state: str = "file://.ismgr/state"
    """URL of the Pulumi state backend; a relative file URL is relative to the estate's working folder."""
    passphrase: SecretValue | None = None
    """The key that encrypts secrets inside Pulumi state; without one, whoever reads the state can read them."""
    database: str = "sqlite:///.ismgr/ismgr.db"
    """Where runs, leases and what was applied are kept: ``sqlite:///PATH`` or ``postgresql://...``; a password in it is
    written ``{secret}`` and comes from ``database_password``."""
    database_password: SecretValue | None = None
    approvals: tuple[ApprovalRule, ...] = ()
    """Every rule that holds must be met before an apply."""
    break_glass: bool = False
    """Whether one person with role break-glass may approve alone, with a reason, loud in the evidence."""
    signed_commits: bool = False
    """Only code whose commits are all signed by known authors is run, planning included."""
    plan_credentials: PlanCredentials | None = None
    plan_lifetime: Duration = "24h"
    """How old a plan may be when it is applied."""
    failure_budget: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=SHARE, description=PATTERNS[SHARE])] = 0
    """How many hosts and stacks of a run may fail, be unreachable or fail verification before it stops: a count, or a
    percentage of what the plan covers."""
    lease_ttl: Duration = "30s"
    """How long after its holder's last sign of life a lease is free again."""
    evidence: EvidenceSettings = EvidenceSettings()


class SshSettings(Document):
    """How ismgr logs in to hosts, unless a host says otherwise."""

    user: str = "root"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    key: SecretValue | None = None
    """A private key in OpenSSH format; it is given to an agent of the run's own and never written to disk."""
    known_hosts: RelativePath | None = None
    """A file in OpenSSH's format with keys of hosts that no stack made."""
    bastion: str = ""
    """The host to jump through: a host's name."""
    connect_timeout: Duration = "5s"
    boot_timeout: Duration = "10m"
    """How long a host may take to answer after it was created or powered on."""
    become: bool = False
    become_password: SecretValue | None = None


class AnsibleSettings(Document):
    """How playbooks run."""

    roles_path: tuple[RelativePath, ...] = ()
    requirements: RelativePath | None = None
    """A Galaxy requirements file; every entry has a version and a checksum in its lock beside it."""
    forks: Annotated[int, Field(ge=1, le=200)] = 10


class EstateDocument(Document):
    """The root document, in ``estate.yaml``."""

    kind: Literal["Estate"]
    name: Name
    owner: Name
    """The Team that answers for the estate."""
    description: str = ""
    environments: Annotated[Mapping[Name, Environment], Field(min_length=1)]
    default_environment: Name | None = None
    secrets: Mapping[Name, Backend] = Field(default_factory=dict)
    """Secret backends by the name that references use before the colon. ``env`` is always there."""
    ssh: SshSettings = SshSettings()
    ansible: AnsibleSettings = AnsibleSettings()
    inventories: tuple[RelativePath, ...] = ()
    """Existing Ansible inventories, named as they are."""


class Member(Document):
    """A person, or a machine account with role runner."""

    name: Annotated[str, Field(min_length=1)]
    email: str = ""
    ssh_keys: tuple[Annotated[str, Field(pattern=PUBLIC_KEY, description=PATTERNS[PUBLIC_KEY])], ...] = ()
    roles: tuple[Role, ...] = ()


class Team(Document):
    """People who answer for things."""

    kind: Literal["Team"]
    name: Name
    description: str = ""
    members: tuple[Member, ...] = ()
    on_call: str = ""
    """Where to reach whoever is on call now: a phone number, an address, a URL."""


class Bmc(Document):
    """A machine's management controller."""

    address: Annotated[str, Field(pattern=WEB_ADDRESS, description=PATTERNS[WEB_ADDRESS])]
    username: str
    password: SecretValue
    ca: RelativePath | None = None
    """A PEM file with the authority that signed the BMC's certificate; without it the system's authorities count."""
    system: str = ""
    """The Redfish system id; empty when the BMC manages exactly one."""


class Warranty(Document):
    """Until when the maker answers for the hardware."""

    until: date
    contract: str = ""


class Machine(Document):
    """A physical (or emulated) server at a site."""

    name: Name
    address: Annotated[str, Field(min_length=1)]
    """Where its operating system answers SSH: an IP address or a name."""
    bmc: Bmc
    """The machine's management controller."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    host_keys: tuple[Annotated[str, Field(pattern=HOST_KEY, description=PATTERNS[HOST_KEY])], ...] = ()
    user: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    bastion: str = ""
    addresses: Mapping[str, str] = Field(default_factory=dict)
    """Its address on each network of the site, by the network's name."""
    rack: str = ""
    position: Annotated[int, Field(ge=1, le=60)] | None = None
    serial: str = ""
    asset_tag: str = ""
    warranty: Warranty | None = None


class Network(Document):
    """A network of a site."""

    name: Name
    cidr: str
    purpose: str = ""


class Site(Document):
    """A data center or another place with machines."""

    kind: Literal["Site"]
    name: Name
    time_zone: str
    """An IANA name such as Europe/Berlin."""
    description: str = ""
    networks: tuple[Network, ...] = ()
    machines: tuple[Machine, ...] = ()


class OutputType(StrEnum):
    """What an output holds."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    OBJECT = "object"
    HOSTS = "hosts"
    """A list of hosts: name, address, labels, host_keys and what else a Host has."""


class OutputSpec(Document):
    """A declared output."""

    type: OutputType
    secret: bool = False


class Stack(Document):
    """A Pulumi program and how this estate runs it."""

    kind: Literal["Stack"]
    name: Name
    program: RelativePath
    """The folder with Pulumi.yaml and __main__.py."""
    description: str = ""
    config: Mapping[str, ConfigEntry] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Stacks (``NAME`` or ``stack/NAME``) and host groups (``group/NAME``) that must be done before."""
    outputs: Mapping[str, OutputSpec] = Field(default_factory=dict)
    hosts: str = ""
    """The output that lists hosts, if any; its type is hosts."""
    at_most: Annotated[int, Field(ge=1)] | None = None
    """The most resources that a run may touch in this stack when a plan cannot preview it yet, because it needs outputs
    that do not exist."""
    deadline: Duration = "30m"


class HostGroup(Document):
    """Hosts that are configured alike."""

    kind: Literal["HostGroup"]
    name: Name
    description: str = ""
    selector: Annotated[str, Field(min_length=1)]
    """A CEL expression over ``host`` (name, address, site, labels, groups): ``host.labels.role == "db"``."""
    playbook: RelativePath
    variables: Mapping[str, Variable] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Stacks and host groups that must be done before; the stacks that list its hosts always are."""
    waves: tuple[int | str, ...] = (1, "100%")
    """Sizes of the waves, in order: a count (1) or a percentage of the group ("50%"); what is left makes the last. One
    host goes first unless you say otherwise: a bad change must cost one host."""
    soak: Duration = "0s"
    """How long a wave must have been well before the next one begins; then its checks must pass again."""
    verify: tuple[RelativePath, ...] = ()
    """testinfra files or folders that must pass after each apply."""
    minimum_available: Annotated[int, Field(ge=0)] = 0
    """How many members must always be up."""
    quorum: bool = False
    """More than half of the members must always be up."""
    at_most: Annotated[int, Field(ge=1)] | None = None
    """The most hosts this group may grow to when a plan cannot yet know them."""
    drain: Drain | None = None
    """How a member is taken out of its load balancer before it is patched."""
    switchover: Switchover | None = None
    """How the primary role is moved before the member that has it is patched: standbys go first."""
    become: bool | None = None
    deadline: Duration = "30m"


class Objectives(Document):
    """What a service promises."""

    availability: Annotated[float, Field(gt=0, le=100)] | None = None
    """Per cent of a month."""
    rto: Duration | None = None
    rpo: Duration | None = None


class Service(Document):
    """A business service: who owns it, what it holds, what it promises."""

    kind: Literal["Service"]
    name: Name
    description: str = ""
    owner: Name
    tier: Annotated[int, Field(ge=0, le=4)] = 3
    """0 is the most critical."""
    data_classes: tuple[str, ...] = ()
    """For example phi, personal, public."""
    endpoint: str = ""
    """A URL that a client uses."""
    groups: tuple[Name, ...] = ()
    depends_on: tuple[Name, ...] = ()
    objectives: Objectives = Objectives()


AnyDocument = (
    EstateDocument
    | Team
    | Site
    | Stack
    | HostGroup
    | Service
    | PatchBaseline
    | MaintenanceWindow
    | Freeze
    | Exemption
    | RecoveryPlan
    | DrillSchedule
)
KINDS: Mapping[str, type[AnyDocument]] = {
    "Estate": EstateDocument,
    "Team": Team,
    "Site": Site,
    "Stack": Stack,
    "HostGroup": HostGroup,
    "Service": Service,
    "PatchBaseline": PatchBaseline,
    "MaintenanceWindow": MaintenanceWindow,
    "Freeze": Freeze,
    "Exemption": Exemption,
    "RecoveryPlan": RecoveryPlan,
    "DrillSchedule": DrillSchedule,
}
