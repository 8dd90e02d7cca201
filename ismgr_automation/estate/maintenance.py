"""The kinds of documents about keeping hosts up to date: baselines, windows, freezes and exemptions, and how a group is
taken out of service. Shapes and single-field rules only; what spans documents is in ``consistency``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, NaiveDatetime

from ismgr_automation.estate.fields import PATTERNS, VARIABLE, Document, Duration, Name, RelativePath, SecretValue

EXPRESSION = Field(min_length=1, max_length=4096)


class Severity(StrEnum):
    """How bad a vulnerability is. What nobody has rated is ``unknown``, and counts as the worst."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NEGLIGIBLE = "negligible"
    UNKNOWN = "unknown"


class AdvisoryFormat(StrEnum):
    """What a source of advisories is written in."""

    DEBIAN = "debian"
    """The JSON of Debian's security tracker."""
    OSV = "osv"
    """Open Source Vulnerability records: a JSON file, a JSON list, a folder or zip archive of them."""
    KEV = "kev"
    """CISA's catalog of known exploited vulnerabilities, JSON."""
    EPSS = "epss"
    """FIRST's exploit prediction scores, CSV, also compressed with gzip."""


class AdvisorySource(Document):
    """Where advisories come from."""

    format: AdvisoryFormat
    source: Annotated[str, Field(min_length=1)]
    """A path inside the estate, or a URL (``https://``, or ``file://`` for a mirror on this machine)."""
    max_age: Duration = "3d"
    """Older than this, every plan and status warns: nobody looked for new vulnerabilities since."""


class Verdict(StrEnum):
    """What a rule says of a version that it holds for."""

    APPROVE = "approve"
    DEFER = "defer"
    """Not now: listed, and looked at again next time."""
    DENY = "deny"
    """Never: not installed whatever else says yes."""


class BaselineRule(Document):
    """One rule of a baseline; the first whose ``when`` holds decides."""

    name: Name
    when: Annotated[str, EXPRESSION]
    """A CEL expression over ``package``: name, source, version, installed, section, origin, suite, severity, cves,
    security, exploited, epss, age_days, downgrade; and ``host`` as in selectors."""
    then: Verdict = Verdict.APPROVE
    after: Duration = "0s"
    """How long a version must have been seen by us before it is approved."""
    reason: str = ""


class Sla(Document):
    """By when a vulnerability must be gone: days from its advisory, or from when we first saw the mended version."""

    profile: Literal["cis", "hipaa-2025", "custom"] = "cis"
    """``cis``: critical 14 days, high 30, others 90. ``hipaa-2025``: the proposed rule of January 2025, critical 15
    days, high 30. ``custom``: only what ``days`` says."""
    days: Mapping[Severity, Annotated[int, Field(ge=0, le=3650)]] = Field(default_factory=dict)
    """Days by severity, which replace those of the profile."""
    data_classes: Mapping[str, Mapping[Severity, Annotated[int, Field(ge=0, le=3650)]]] = Field(default_factory=dict)
    """Days for hosts of services with a data class (``phi: {critical: 7}``); the shortest that applies counts."""
    exploited: Annotated[int, Field(ge=0, le=3650)] | None = 3
    """Days for what is known to be exploited, whatever its severity; None: as its severity says."""
    due_soon: Duration = "3d"
    """How long before it is due a vulnerability is called due soon."""


class RebootPolicy(StrEnum):
    """What is done about a reboot that is needed."""

    NEVER = "never"
    """It is told, and done by somebody else."""
    IF_NEEDED = "if-needed"
    """A reboot of which nobody can tell whether it is needed is done."""
    ALWAYS = "always"


class Through(StrEnum):
    """Who is told to restart a host."""

    SYSTEMD = "systemd"
    """The host's own systemd, over SSH."""
    REDFISH = "redfish"
    """Its machine's BMC, which asks the operating system to restart: for hosts whose systemd does not do it well. Never
    a hard reset; each host must run on a machine of a Site."""


class Reboot(Document):
    """How hosts are restarted."""

    policy: RebootPolicy = RebootPolicy.IF_NEEDED
    through: Through = Through.SYSTEMD
    """Who is told; that the host was restarted is proven by its boot in either case."""
    back_within: Duration = "10m"
    """How long a host may take to answer again, as long as there is no history of it."""
    power_cycle: bool = False
    """Whether a machine that does not come back is switched off and on at its BMC."""


class RollbackPolicy(StrEnum):
    """What is done when a host is not well after it was patched."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    """The exact former versions are installed again, where they can be had."""
    REQUIRED = "required"
    """As ``on-failure``; a host whose former versions cannot be had is not patched at all. A snapshot is a way to have
    them."""


class Snapshots(Document):
    """How a host's disk is kept before its packages move, and put back where the way back by packages fails or the host
    does not answer any more. Whatever was written on the host since then is lost, data of applications included."""

    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    """A program and its first words. It is called without a shell as ``COMMAND create HOST NAME``, with ``restore`` or
    ``remove`` in place of ``create``, in the estate's folder on the machine that applies, with the rights of whoever
    applies: it is code, as a stack's program is. Where ``signed_commits`` is asked it is run from signed commits only,
    and words that name files of the estate are inputs of the plan with the folders that these lie in; what is found
    elsewhere is trusted as the machine itself is. Exit code 0: done; of ``create`` 3: a snapshot of this name is there
    already, and was left as it is."""
    deadline: Duration = "5m"
    """How long one call may take."""
    selector: Annotated[str, EXPRESSION] = "true"
    """A CEL expression over ``host``: the hosts that have snapshots."""
    databases: tuple[Name, ...] = ()
    """HostGroups with a ``switchover`` whose hosts are put back as well. Those of all other such groups have no
    snapshots, whatever ``selector`` says: what a database took since would be lost."""
    secrets: Mapping[Annotated[str, Field(pattern=VARIABLE, description=PATTERNS[VARIABLE])], SecretValue] = Field(
        default_factory=dict
    )
    """Environment variables that the command finds besides ours, each ``{secret: BACKEND:PATH}``."""


class Ring(Document):
    """Hosts that are patched together; a host belongs to the first ring that selects it."""

    name: Name
    selector: Annotated[str, EXPRESSION]
    """A CEL expression over ``host``."""
    waves: tuple[int | str, ...] = (1, "100%")
    """Sizes of the waves inside the ring, as those of a HostGroup."""
    soak: Duration = "0s"
    """How long the ring must have been well before the next one begins; then its checks must pass again."""


class Firmware(Document):
    """The firmware that machines should have."""

    component: Annotated[str, Field(min_length=1)]
    """The Id or Name of an entry of the BMC's firmware inventory, for example ``BIOS``."""
    version: Annotated[str, Field(min_length=1)]
    image: Annotated[str, Field(min_length=1)]
    """The URL that the BMC fetches the image from."""
    selector: Annotated[str, EXPRESSION] = "true"
    """A CEL expression over ``host``: the hosts whose machines are meant."""


class PatchBaseline(Document):
    """What is approved on which hosts, how fast it must be there, and how it gets there."""

    kind: Literal["PatchBaseline"]
    name: Name
    description: str = ""
    selector: Annotated[str, EXPRESSION]
    """A CEL expression over ``host``: the hosts that it is for. A host has one baseline at most."""
    rules: Annotated[tuple[BaselineRule, ...], Field(min_length=1)]
    """In order; the first that holds decides. A version that no rule holds for is deferred."""
    severities: Mapping[str, Severity] = Field(default_factory=dict)
    """Severities of ours, by CVE, which replace those of all advisories."""
    pins: Mapping[str, str] = Field(default_factory=dict)
    """Exact versions by package. A pin is approved whatever the rules say, and may be older than what is installed if
    ``allow_downgrades`` names the package."""
    holds: tuple[str, ...] = ()
    """Packages that are left as they are: names, or patterns with ``*``."""
    deny: tuple[str, ...] = ()
    """Versions that are never installed: ``PACKAGE=VERSION``, either may be a pattern with ``*``."""
    allow_downgrades: tuple[str, ...] = ()
    """Packages whose pin may be a downgrade."""
    advisories: tuple[AdvisorySource, ...] = ()
    sla: Sla = Sla()
    rings: tuple[Ring, ...] = ()
    """In order; hosts of no ring come last, all together. Without any, one host goes first and the rest after it."""
    windows: tuple[Name, ...] = ()
    """MaintenanceWindows, one of which must be open; without any, always."""
    reboot: Reboot = Reboot()
    rollback: RollbackPolicy = RollbackPolicy.ON_FAILURE
    snapshots: Snapshots | None = None
    """How hosts are put back as a whole where ``rollback`` is not ``never`` and their packages cannot go back."""
    offline_for: Duration = "7d"
    """How long a host that could not be reached is kept in the queue to be patched when it answers again."""
    firmware: tuple[Firmware, ...] = ()
    deadline: Duration = "30m"
    """How long a wave's hosts may take, reboots left out."""


class MaintenanceWindow(Document):
    """When hosts may be patched. Its length is elapsed time: three hours are three hours, also when clocks change."""

    kind: Literal["MaintenanceWindow"]
    name: Name
    description: str = ""
    time_zone: str
    """An IANA name such as Europe/Berlin: ``start`` and ``rule`` are wall-clock time there."""
    start: NaiveDatetime | None = None
    """The first occurrence, as ``2026-01-04T01:00:00``."""
    rule: str = ""
    """A recurrence rule of iCalendar, such as ``FREQ=WEEKLY;BYDAY=SU``; without one the window is open once."""
    duration: Duration = "3h"
    except_dates: tuple[date, ...] = ()
    """Days (in ``time_zone``) on which no occurrence begins."""
    calendar: RelativePath | None = None
    """An iCalendar file, instead of ``start`` and ``rule``: each event is an occurrence, with its own length."""
    cutoff: Duration = "0s"
    """Nothing is begun so long before the end, besides what past runs say that it takes."""


class Scope(StrEnum):
    """Which kinds of work a freeze holds up."""

    PATCH = "patch"
    APPLY = "apply"
    DRILL = "drill"


class Freeze(Document):
    """A time in which nothing may be changed: the end of a quarter, an election, a move."""

    kind: Literal["Freeze"]
    name: Name
    reason: Annotated[str, Field(min_length=1)]
    owner: Name
    """The Team that asked for it."""
    begins: AwareDatetime
    """With its offset from UTC: ``2026-12-20T00:00:00+01:00``."""
    ends: AwareDatetime
    selector: Annotated[str, EXPRESSION] = "true"
    """A CEL expression over ``host``: whom it protects. Stacks are held up by a freeze that is for everybody."""
    work: tuple[Scope, ...] = (Scope.PATCH, Scope.APPLY, Scope.DRILL)


class Exemption(Document):
    """A waiver: what is left unpatched, where, why, by whose leave, and until when. It is shown, never hidden."""

    kind: Literal["Exemption"]
    name: Name
    scope: Annotated[str, EXPRESSION]
    """A CEL expression over ``host``, ``package`` (name, source, version) and ``cve`` (a text, empty for an update
    that mends none)."""
    owner: Name
    """The Team that answers for it."""
    approver: Annotated[str, Field(min_length=1)]
    """The Member who agreed: a name or e-mail address of a Team, with role approver."""
    reason: Annotated[str, Field(min_length=1)]
    ticket: str = ""
    compensating_control: str = ""
    """What keeps the hosts safe meanwhile."""
    justification: Literal[
        "",
        "component_not_present",
        "vulnerable_code_not_present",
        "vulnerable_code_not_in_execute_path",
        "vulnerable_code_cannot_be_controlled_by_adversary",
        "inline_mitigations_already_exist",
    ] = ""
    """In OpenVEX's words, why the hosts are not affected; empty: they are, and the risk is carried."""
    issued: date
    expires: date
    """The last day (UTC) on which it holds. How far it may lie ahead depends on the severity: see ``MOST_DAYS``."""


MOST_DAYS: Mapping[Severity, int] = {
    Severity.CRITICAL: 30,
    Severity.HIGH: 90,
    Severity.MEDIUM: 180,
    Severity.LOW: 365,
    Severity.NEGLIGIBLE: 365,
    Severity.UNKNOWN: 30,
}
"""The longest that an Exemption may last, from its issue, by the severity of what it waives."""


class Drain(Document):
    """How a host is taken out of a load balancer before it is worked on, and put back afterwards."""

    balancer: Literal["haproxy"] = "haproxy"
    group: Name
    """The HostGroup of the balancers."""
    backend: Annotated[str, Field(min_length=1)]
    server: str = "{host}"
    """The server's name in the backend; ``{host}`` is the host's."""
    socket: str = "/run/haproxy/admin.sock"
    """HAProxy's runtime socket, with level admin."""
    deadline: Duration = "2m"
    """How long to wait until no session is left; then what is left is cut off."""


class Switchover(Document):
    """How the primary role of a cluster is moved before its holder is worked on."""

    cluster: Literal["postgresql"] = "postgresql"
    version: str = "15"
    name: str = "main"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    deadline: Duration = "2m"
    back: bool = True
    """Whether the role goes back to its former holder once that one is done, and before it is checked: Git goes on to
    be right. Without, the role stays where it went, and Git has to follow."""
    variable: str = "postgresql_primary"
    """The variable of the HostGroup that names the primary. Without ``back``, suites that check a patch run are given
    the present primary in it, whatever Git still says."""
