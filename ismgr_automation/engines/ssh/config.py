"""Renders OpenSSH client configuration and known hosts from values. Pure: reads and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.hosts import Host, Ssh

KEY_EXCHANGE = "^curve25519-sha256,curve25519-sha256@libssh.org"
"""First choice: a tenth of the processor time of OpenSSH 9's own first choice, and no weaker today."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*")
_ADDRESS = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]*(%[A-Za-z0-9_.-]+)?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\$-]*")
_HOST_KEY = re.compile(r"(?P<type>(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+) (?P<key>[A-Za-z0-9+/]+={0,3})( .*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the files of a configuration lie, and how the client logs in."""

    pinned: Path
    """Known hosts made from the hosts' own keys, by host name."""
    extra: Path
    """Known hosts that the estate gave as lines, by address."""
    agent: Path | None = None
    """Socket of an agent that holds the only key to use."""
    key_file: Path | None = None
    sockets: Path | None = None
    """Folder for the sockets of warm connections; None: no warm connections."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What every command on a host finds in its environment, where the host's sshd takes it over (``AcceptEnv``)."""


def validate(hosts: Sequence[Host]) -> None:
    """Raise ``InputError`` for a host that cannot stand in a client configuration: odd characters, an unknown bastion,
    bastions in a circle, two hosts with one name, a host key that is none."""
    by_name = {host.name: host for host in hosts}
    if len(by_name) != len(hosts):
        twice = sorted({host.name for host in hosts if sum(other.name == host.name for other in hosts) > 1})
        raise InputError(f"Two hosts have the same name: {', '.join(twice)}.")
    for host in hosts:
        for what, value, shape in (("name", host.name, _NAME), ("address", host.address, _ADDRESS)):
            if not shape.fullmatch(value):
                raise InputError(f"Host {host.name!r} (from {host.origin}): its {what} {value!r} is not usable in SSH.")
        if host.user and not _USER.fullmatch(host.user):
            raise InputError(f"Host {host.name!r} (from {host.origin}): its user {host.user!r} is not usable in SSH.")
        for key in host.host_keys:
            if not _HOST_KEY.fullmatch(key.strip()):
                raise InputError(
                    f"Host {host.name!r} (from {host.origin}): {key[:40]!r} is not a host key line.",
                    next_step="Write it as in /etc/ssh/ssh_host_ed25519_key.pub: ssh-ed25519 AAAA...",
                )
        chain(host, by_name)


def chain(host: Host, by_name: Mapping[str, Host]) -> tuple[Host, ...]:
    """The bastions on the way to a host, the one nearest to the host first. Raises ``InputError``."""
    jumps: list[Host] = []
    here = host
    while here.bastion:
        if here.bastion not in by_name:
            raise InputError(f"Host {here.name!r} (from {here.origin}): its bastion {here.bastion!r} is no known host.")
        here = by_name[here.bastion]
        if here == host or here in jumps:
            circle = " -> ".join([host.name, *(jump.name for jump in jumps), here.name])
            raise InputError(f"Bastions in a circle: {circle}.")
        jumps.append(here)
    return tuple(jumps)


def known_hosts(hosts: Sequence[Host]) -> str:
    """One line per pinned key, under the host's *name*: the key belongs to the host wherever its address moves."""
    return "".join(f"{host.name} {key_line(key)}\n" for host in hosts for key in host.host_keys)


def key_line(key: str) -> str:
    """Type and key without the comment.

    >>> key_line("ssh-ed25519 AAAA root@db1")
    'ssh-ed25519 AAAA'
    """
    return " ".join(key.split()[:2])


def client_config(hosts: Sequence[Host], ssh: Ssh, places: Places, by_name: Collection[str] = ()) -> str:
    """An OpenSSH client configuration with a block per host; OpenSSH takes the first value that it meets.

    ``by_name`` are hosts without keys of their own whose *name* stands in the estate's known hosts.
    """
    return "\n".join([*(_block(host, places, host.name in by_name) for host in hosts), _common(ssh, places)])


def _block(host: Host, places: Places, known_by_name: bool) -> str:
    lines = [
        f"Host {host.name}",
        f"HostName {_percent(host.address)}",
        f"Port {host.port}",
        *([f"User {host.user}"] if host.user else []),
        *([f"ProxyJump {host.bastion}"] if host.bastion else []),
    ]
    if host.host_keys or known_by_name:
        lines.append(f"HostKeyAlias {host.name}")
    lines.append(f"UserKnownHostsFile {_path(places.pinned if host.host_keys else places.extra)}")
    return "\n    ".join(lines) + "\n"


def _common(ssh: Ssh, places: Places) -> str:
    lines = [
        "Host *",
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {_path(places.extra)}",
        "GlobalKnownHostsFile /dev/null",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "VerifyHostKeyDNS no",
        "BatchMode yes",
        f"ConnectTimeout {_seconds(ssh.connect_timeout)}",
        "ConnectionAttempts 1",
        "ServerAliveInterval 10",
        "ServerAliveCountMax 3",
        f"KexAlgorithms {KEY_EXCHANGE}",
        "ForwardAgent no",
        "ForwardX11 no",
        "PermitLocalCommand no",
        "LogLevel ERROR",
    ]
    if places.agent is not None:
        # only the agent of this run: no key of the person who happens to run it
        lines += [f"IdentityAgent {_path(places.agent)}", "IdentityFile none", "PreferredAuthentications publickey"]
    elif places.key_file is not None:
        lines += [f"IdentityFile {_path(places.key_file)}", "IdentitiesOnly yes", "PreferredAuthentications publickey"]
    if places.sockets is not None:
        lines += ["ControlMaster auto", f"ControlPath {_path(places.sockets)}/%C", "ControlPersist 600"]
    if places.environment:
        lines.append("SetEnv " + " ".join(f"{name}={value}" for name, value in sorted(places.environment.items())))
    return "\n    ".join(lines) + "\n"


def _seconds(span: timedelta) -> int:
    return max(1, round(span.total_seconds()))


def _percent(text: str) -> str:
    """OpenSSH expands ``%``; an IPv6 zone has one."""
    return text.replace("%", "%%")


def _path(path: Path) -> str:
    text = str(path)
    if any(ord(char) < ord(" ") or char in "\"'\\${}" for char in text):
        raise InputError(f"The path {text!r} cannot stand in an SSH configuration.")
    return f'"{_percent(text)}"'
