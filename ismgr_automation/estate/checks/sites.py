"""Checks of data centers: networks, machines, addresses, host keys, time zones. Pure, besides the zone database."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import zoneinfo
from collections.abc import Iterator

from ismgr_automation.core.diagnostic import Diagnostic, Position, Severity, did_you_mean
from ismgr_automation.estate.documents import Machine, Site, Team
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def time_zones(draft: Draft) -> Iterator[Diagnostic]:
    """Names of time zones that the zone database has."""
    for entry, site in draft.each(Site):
        yield from time_zone(entry, site.time_zone)


def time_zone(entry: Entry, name: str) -> Iterator[Diagnostic]:
    """What is wrong with the ``time_zone`` of a document."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        suggestion = did_you_mean(name, sorted(zoneinfo.available_timezones()))
        expected = "" if suggestion else "an IANA name such as Europe/Berlin"
        yield wrong(entry.marked.at("time_zone"), f"there is no time zone {name!r}", expected, suggestion)


def networks(draft: Draft) -> Iterator[Diagnostic]:
    """CIDR blocks that are ones, and each network's name once per site."""
    for entry, site in draft.each(Site):
        first: dict[str, int] = {}
        for index, network in enumerate(site.networks):
            if first.setdefault(network.name, index) != index:
                place = entry.marked.at("networks", index, "name")
                yield wrong(place, f"{entry.label} already has a network {network.name!r}", "each name once")
            place = entry.marked.at("networks", index, "cidr")
            try:
                ipaddress.ip_network(network.cidr)
            except ValueError:
                yield _cidr(network.cidr, place)


def machine_names(draft: Draft) -> Iterator[Diagnostic]:
    """No two machines have one full name: the name and, unless it ends with that, the site's name."""
    first: dict[str, Position] = {}
    for entry, index, machine in _machines(draft):
        place = entry.marked.at("machines", index, "name")
        before = first.setdefault(machine.name.removesuffix(f".{entry.name}") + f".{entry.name}", place)
        if before != place:
            yield wrong(place, f"machine {machine.name!r} is already at {before}", "a name that is not taken")


def machine_addresses(draft: Draft) -> Iterator[Diagnostic]:
    """No two machines or BMCs answer at one address, and each machine's addresses lie in its site's networks."""
    first: dict[str, tuple[str, Position]] = {}
    for entry, index, machine in _machines(draft):
        places = {
            machine.address: ("address",),
            machine.bmc.address.rstrip("/"): ("bmc", "address"),
            **{value: ("addresses", name) for name, value in machine.addresses.items()},
        }
        for address, path in places.items():
            place = entry.marked.at("machines", index, *path)
            full = f"{machine.name.removesuffix(f'.{entry.name}')}.{entry.name}"
            who, before = first.setdefault(address, (full, place))
            if who != full and not (path == ("bmc", "address") and machine.bmc.system):
                yield wrong(place, f"address {address} is already that of machine {who!r}, at {before}", "its own")
    for entry, site in draft.each(Site):
        yield from _in_networks(entry, site)


def host_keys(draft: Draft) -> Iterator[Diagnostic]:
    """Public keys that hold what they say."""
    for entry, index, machine in _machines(draft):
        for count, line in enumerate(machine.host_keys):
            if not key_is_sound(line):
                place = entry.marked.at("machines", index, "host_keys", count)
                yield wrong(
                    place,
                    f"this host key of {machine.name!r} is damaged",
                    "a line as ssh-keyscan prints it, without the host",
                )
    for entry, team in draft.each(Team):
        for index, member in enumerate(team.members):
            for count, line in enumerate(member.ssh_keys):
                if not key_is_sound(line):
                    place = entry.marked.at("members", index, "ssh_keys", count)
                    yield wrong(place, f"this SSH key of {member.name} is damaged", "the line of a .pub file")


def key_is_sound(line: str) -> bool:
    """Whether the base64 part of a public key line decodes, and names the same algorithm as the word before it.

    >>> key_is_sound("ssh-ed25519 AAAA")
    False
    """
    algorithm, encoded = line.split()[:2]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    length = int.from_bytes(blob[:4], "big")
    return blob[4 : 4 + length] == algorithm.encode() and len(blob) > 4 + length


def _machines(draft: Draft) -> Iterator[tuple[Entry, int, Machine]]:
    for entry, site in draft.each(Site):
        for index, machine in enumerate(site.machines):
            yield entry, index, machine


def _cidr(text: str, place: Position) -> Diagnostic:
    try:
        block = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return wrong(place, f"{text!r} is not a network", "an address block such as 10.41.0.0/24")
    return wrong(place, f"{text!r} is an address inside a network", suggestion=str(block))


def _in_networks(entry: Entry, site: Site) -> Iterator[Diagnostic]:
    blocks: dict[str, Network] = {}
    for network in site.networks:
        try:
            blocks[network.name] = ipaddress.ip_network(network.cidr, strict=False)
        except ValueError:
            return  # said by networks()
    for index, machine in enumerate(site.machines):
        address = _ip(machine.address)
        if blocks and address is not None and not any(address in block for block in blocks.values()):
            yield Diagnostic(
                summary=f"the address of machine {machine.name!r} is in no network of {entry.label}",
                position=entry.marked.at("machines", index, "address"),
                expected="an address in " + ", ".join(map(str, blocks.values())),
                severity=Severity.WARNING,
            )
        for name, text in machine.addresses.items():
            place = entry.marked.at("machines", index, "addresses", name)
            inner = _ip(text)
            if name not in blocks:
                key = entry.marked.key("machines", index, "addresses", name)
                yield unknown("network", name, frozenset(blocks), key, f"machine {machine.name!r}")
            elif inner is None:
                yield wrong(place, f"{text!r} is not an IP address", f"an address in {blocks[name]}")
            elif inner not in blocks[name]:
                summary = f"the address of machine {machine.name!r} on {name!r} is outside that network"
                yield wrong(place, summary, f"an address in {blocks[name]}")


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None  # a name; whether it resolves is seen when it is used
