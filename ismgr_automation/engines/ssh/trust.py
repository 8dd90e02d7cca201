"""Says by what a host's key is known: its own pinned keys, or lines that the estate gave. Nothing is learnt on use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.ssh.config import chain
from ismgr_automation.ports.hosts import Host, Reach, Reachability

if TYPE_CHECKING:
    import asyncssh

Keys = tuple[Sequence["asyncssh.SSHKey"], Sequence["asyncssh.SSHKey"], Sequence["asyncssh.SSHKey"]]
"""Keys of hosts, keys of authorities, revoked keys: what asyncssh takes as ``known_hosts``."""

SSH_PORT = 22


class Trust(StrEnum):
    """How we know a host's key."""

    PINNED = "pinned"
    """The host carries its keys."""
    BY_ADDRESS = "by-address"
    """A line of the estate's known hosts covers its address and port."""
    BY_NAME = "by-name"
    """A line of the estate's known hosts covers its name."""
    NONE = "none"


def read_lines(lines: str) -> asyncssh.SSHKnownHosts | None:
    """The estate's known hosts, or None when it gave no line. Raises ``InputError`` for a line that is none."""
    if not lines.strip():
        return None
    import asyncssh

    for number, line in enumerate(lines.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        patterns, *key = fields[fields[0].startswith("@") :] or [line]
        try:
            # asyncssh leaves out lines that it does not understand, which would look like an unknown host later
            asyncssh.import_known_hosts(line)
            asyncssh.import_public_key(" ".join(key))
        except (ValueError, asyncssh.KeyImportError) as error:
            raise InputError(f"Line {number} of the known hosts ({patterns}) is not usable: {error}.") from error
    return asyncssh.import_known_hosts(lines)


def trust_of(host: Host, known: asyncssh.SSHKnownHosts | None) -> Trust:
    """By what this host's key is known."""
    if host.host_keys:
        return Trust.PINNED
    if known is not None:
        if any(lines_for(known, host.address, host.port)[:2]):
            return Trust.BY_ADDRESS
        if any(lines_for(known, host.name, SSH_PORT)[:2]):
            return Trust.BY_NAME
    return Trust.NONE


def lines_for(known: asyncssh.SSHKnownHosts, name: str, port: int) -> Keys:
    """The keys, authorities and revoked keys that the lines hold for a name or address."""
    # asked form by form: given a port, asyncssh forgets the revoked keys where no other line matches
    forms = [name] if port == SSH_PORT else [f"[{name}]:{port}", name]
    found = [known.match(form, "", None) for form in forms]
    return _flat(one[0] for one in found), _flat(one[1] for one in found), _flat(one[2] for one in found)


def _flat(groups: Iterable[Sequence[asyncssh.SSHKey]]) -> list[asyncssh.SSHKey]:
    return [key for group in groups for key in group]


def without_revoked(hosts: Sequence[Host], known: asyncssh.SSHKnownHosts | None) -> tuple[Host, ...]:
    """The hosts without those of their keys that a line of the estate revokes, by address or by name."""
    if known is None:
        return tuple(hosts)
    return tuple(replace(host, host_keys=_still_good(host, known)) for host in hosts)


def _still_good(host: Host, known: asyncssh.SSHKnownHosts) -> tuple[str, ...]:
    import asyncssh

    revoked = [*lines_for(known, host.address, host.port)[2], *lines_for(known, host.name, SSH_PORT)[2]]
    if not revoked:
        return host.host_keys
    return tuple(key for key in host.host_keys if asyncssh.import_public_key(key) not in revoked)


def untrusted(hosts: Sequence[Host], trusts: Mapping[str, Trust]) -> tuple[Reachability, ...]:
    """The hosts that nobody may connect to: their key, or that of a bastion on the way, is not known."""
    by_name = {host.name: host for host in hosts}
    refused = []
    for host in hosts:
        for hop in (host, *chain(host, by_name)):
            if trusts[hop.name] is Trust.NONE:
                who = "no host key is pinned" if hop is host else f"no host key is pinned for its bastion {hop.name}"
                refused.append(Reachability(host=host.name, reach=Reach.HOST_KEY, detail=who))
                break
    return tuple(refused)
