"""Hosts and playbooks: what we ask of a configuration engine such as Ansible, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.address import Address
from ismgr_automation.core.json import Json
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host as the inventory knows it. ``host_keys`` are OpenSSH public key lines (``ssh-ed25519 AAAA...``); a host
    without one is not connected to unless its inventory pins it elsewhere (``known_hosts``). ``bastion`` is the name
    of another host to jump through. ``origin`` says where we know it from: a stack's address or an inventory's path."""

    name: str
    address: str
    origin: str
    user: str = "root"
    port: int = 22
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()
    bastion: str = ""
    site: str = ""
    machine: str = ""
    variables: Mapping[str, Json | SecretRef] = field(default_factory=dict)


class Reach(StrEnum):
    """Whether we can work on a host: a state, not an error string."""

    OK = "ok"
    DNS = "dns"
    """The name does not resolve."""
    REFUSED = "refused"
    """The machine answered that nobody listens."""
    TIMEOUT = "timeout"
    """No answer, or no route."""
    AUTH = "auth"
    """Our key or user is not accepted."""
    HOST_KEY = "host-key"
    """The key shown is not the pinned one, or none is pinned."""
    SUDO = "sudo"
    """Logged in, and may not become root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
    """What a probe of one host found; ``detail`` is one line for people."""

    host: str
    reach: Reach
    detail: str = ""
    seconds: float = 0.0


class Status(StrEnum):
    """How one task ended on one host."""

    OK = "ok"
    CHANGED = "changed"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """One task on one host. In check mode CHANGED means *would change*. ``unpredictable`` says why check mode could not
    tell (``command`` is skipped there, no check mode support, ...), else it is empty. ``before`` and ``after`` are the
    diff as text, secrets taken out; ``no_log`` tasks have none."""

    host: str
    task: str
    role: str
    status: Status
    unpredictable: str = ""
    before: str = ""
    after: str = ""
    message: str = ""
    path: str = ""
    """The task's identity on this host, the same in check mode and in the run: ``playbook.yml:LINE``, relative to the
    estate where it is inside, then ``#2`` when the same lines run for the second time on the host (``#*``: whenever
    they run), then ``[LABEL]`` for one item of a loop. A result without a path speaks of all tasks of its host that
    nothing else is said about: check mode ended there."""
    within: tuple[str, ...] = ()
    """Places (without ``#``) of the includes that brought the task, outermost first."""
    once: bool = False
    """``run_once``: it ran on this host for all that are worked on together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """How the estate logs in. ``key`` is a private key (never written to disk: it goes into an agent of the run's own);
    ``known_hosts`` are extra pinned lines in OpenSSH's format, for hosts that no stack made."""

    key: SecretRef | None = None
    key_file: Path | None = None
    known_hosts: str = ""
    connect_timeout: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookRequest:
    """A playbook on a set of hosts. ``inventory`` holds *every* host (roles look at other hosts' variables); ``limit``
    is who is worked on. ``root`` is the estate's folder; ``roles_path`` folders come after those beside the playbook.
    Values of ``variables`` that are secret references are opened inside the engine, one at a time, when a task asks."""

    address: Address
    playbook: Path
    root: Path
    inventory: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]
    """Ansible groups by name with their hosts: one for each HostGroup, site and label (``role_db``)."""
    limit: tuple[str, ...]
    variables: Mapping[str, Json | SecretRef]
    ssh: Ssh
    become: bool
    become_password: SecretRef | None
    roles_path: tuple[Path, ...]
    deadline: timedelta
    forks: int = 10
    collections_path: tuple[Path, ...] = ()
    """Folders with collections (an installed Galaxy lock, for example), after those that an ``ansible.cfg`` names."""
    fence: str = ""
    """The name of the lease under which ``run`` works, ``ESTATE/ENVIRONMENT``. Each host remembers the largest token of
    it (``Context.token``) and refuses a smaller one. Empty, or token 0: no fencing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookResult:
    """What a play did (or, in check mode, would do). Unreachable and failed hosts are results.
    ``tasks`` leaves out those that were OK, and has a loop as one result for each item that changed; ``counts`` has
    per host how many tasks ended in which status."""

    tasks: tuple[TaskResult, ...]
    counts: Mapping[str, Mapping[Status, int]]
    unreachable: tuple[Reachability, ...]
    failed: tuple[str, ...]
    engine: str
    """Name and version, for example ``ansible-core 2.19.14``."""
    leftovers: tuple[str, ...] = ()
    """A sentence for each process that may still work on a host though its task is over for us (the host went away in
    the middle), with host, pid and command."""


class PlaybookEngine(Protocol):
    """A configuration engine. Raises ``EngineError``; ``InputError`` when the playbook or inventory itself is wrong."""

    def check(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        """Check mode with diff: looks, and changes nothing."""
        ...

    def run(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        """Make it so. Raises ``LeaseLost`` before the first task when a host knows a larger fencing token.

        When it is cancelled, times out or fails, what it left running on hosts is ended; the error names the rest.
        """
        ...

    def sweep(self, request: PlaybookRequest, context: Context) -> tuple[str, ...]:
        """End what a ``run`` of this address in the run ``context.run`` left running on the hosts of ``limit``, after a
        crash for example. A sentence for each host that could not be looked at and each process that would not end,
        with host, pid and command; empty when nothing runs any more. Never raises for a host."""
        ...

    def read_inventory(self, path: Path, root: Path) -> tuple[Host, ...]:
        """Hosts of an existing Ansible inventory (file, folder or script), with their groups and variables."""
        ...


class Prober(Protocol):
    """Looks whether hosts can be worked on, all at once."""

    def probe(self, hosts: Sequence[Host], ssh: Ssh, become: bool, context: Context) -> tuple[Reachability, ...]:
        """One answer per host, in the order given; never raises for a host."""
        ...
