"""The kinds of documents, as frozen pydantic models. Shapes and single-field rules only; what spans documents is in
``consistency``. The JSON Schemas of ``ismgr schema`` are generated from here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from ismgr_automation.core.secret import SecretRef

Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63, description="lower case, digits, dots, hyphens"),
]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("the path must stay inside the estate")
    return path


def _secret_path(text: str) -> str:
    SecretRef.parse(text)
    return text


RelativePath = Annotated[str, Field(min_length=1, description="a path inside the estate"), AfterValidator(_inside)]
Duration = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$", description="a number and ms, s, m, h or d: 30s, 15m, 4h")
]
SecretPath = Annotated[
    str,
    Field(description="backend:path, for example file:bmc/db1.dc1 or env:BMC_PASSWORD"),
    AfterValidator(_secret_path),
]


class Document(BaseModel):
    """What all parts share: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SecretValue(Document):
    """A reference to a secret, written ``{secret: backend:path}``."""

    secret: SecretPath


class OutputValue(Document):
    """Another stack's output, written ``{output: STACK.NAME}``."""

    output: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[A-Za-z_][A-Za-z0-9_]*$")]


class SiteValue(Document):
    """The machines and networks of a Site document, written ``{site: NAME}``."""

    site: Name


ConfigEntry = SecretValue | OutputValue | SiteValue | JsonValue
Variable = SecretValue | OutputValue | JsonValue


class EnvironmentBackend(Document):
    """Secrets from environment variables: ``env:NAME`` reads ``PREFIX`` + NAME."""

    kind: Literal["environment"]
    prefix: str = ""


class FileBackend(Document):
    """Secrets from files below ``root`` (relative to the estate's working folder), readable by their owner only."""

    kind: Literal["file"]
    root: str


class Environment(Document):
    """One environment of the estate."""

    state: str = "file://.ismgr/state"
    """URL of the Pulumi state backend; a relative file URL is relative to the estate's working folder."""
    passphrase: SecretValue | None = None
    """The key that encrypts secrets inside Pulumi state."""
    database: str = "sqlite:///.ismgr/ismgr.db"
    """Where runs are recorded."""


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
    secrets: Mapping[Name, EnvironmentBackend | FileBackend] = Field(default_factory=dict)
    """Secret backends by the name that references use before the colon. ``env`` is always there."""
    ssh: SshSettings = SshSettings()
    ansible: AnsibleSettings = AnsibleSettings()
    inventories: tuple[RelativePath, ...] = ()
    """Existing Ansible inventories, named as they are."""


class Role(StrEnum):
    """What a person may do."""

    AUTHOR = "author"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    RUNNER = "runner"


class Member(Document):
    """A person, or a machine account with role runner."""

    name: str
    email: str = ""
    ssh_keys: tuple[Annotated[str, Field(pattern=r"^(ssh|ecdsa|sk)-\S+ \S+.*$")], ...] = ()
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

    address: Annotated[str, Field(pattern=r"^https?://.+$")]
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
    address: str
    """Where its operating system answers SSH: an IP address or a name."""
    bmc: Bmc
    labels: Mapping[str, str] = Field(default_factory=dict)
    host_keys: tuple[Annotated[str, Field(pattern=r"^(ssh|ecdsa)-\S+ \S+.*$")], ...] = ()
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
    waves: tuple[int | str, ...] = ("100%",)
    """Sizes of the waves, in order: a count (1) or a percentage of the group ("50%"); what is left makes the last."""
    verify: tuple[RelativePath, ...] = ()
    """testinfra files or folders that must pass after each apply."""
    minimum_available: Annotated[int, Field(ge=0)] = 0
    """How many members must always be up."""
    quorum: bool = False
    """More than half of the members must always be up."""
    at_most: Annotated[int, Field(ge=1)] | None = None
    """The most hosts this group may grow to when a plan cannot yet know them."""
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


AnyDocument = EstateDocument | Team | Site | Stack | HostGroup | Service
KINDS: Mapping[str, type[AnyDocument]] = {
    "Estate": EstateDocument,
    "Team": Team,
    "Site": Site,
    "Stack": Stack,
    "HostGroup": HostGroup,
    "Service": Service,
}
