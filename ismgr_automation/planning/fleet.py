"""Hosts as stacks and inventories tell of them: reading outputs, and who belongs to a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ismgr_automation.core.address import Address, group
from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.json import Json, JsonObject, digest
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import SshSettings
from ismgr_automation.ports.hosts import Host

UNKNOWN = "<unknown>"

Match = Callable[[Host], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A host as it is known now. ``pending`` says what is not known yet, and is empty for a host that can be reached
    as soon as it is up. ``stack`` is who made it, None for a host of an existing inventory."""

    host: Host
    stack: Address | None = None
    pending: str = ""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All hosts that are known, and who belongs to which group; ``unbounded`` are stacks whose hosts are unknown.

    What every group asks of its fleet is found out once: with thousands of hosts that is most of a plan.
    """

    sightings: tuple[Sighting, ...]
    membership: Mapping[str, tuple[str, ...]]
    unbounded: tuple[Address, ...]

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts with the groups that they belong to."""
        return with_groups([one.host for one in self.sightings], self.membership)

    @cached_property
    def digest(self) -> str:
        """Digest of who the hosts are and where."""
        return digest([_host_json(one) for one in sorted(self.hosts, key=lambda one: one.name)])

    @cached_property
    def ansible_groups(self) -> Mapping[str, tuple[str, ...]]:
        """The groups of an Ansible inventory of these hosts."""
        return ansible_groups(self.hosts, self.membership)

    @cached_property
    def made_by(self) -> Mapping[str, Address]:
        """The stack of each host that a stack made, by the host's name."""
        return {one.host.name: one.stack for one in self.sightings if one.stack is not None}

    @cached_property
    def makers(self) -> Mapping[Address, frozenset[Address]]:
        """For each host group the stacks that made its members."""
        made = self.made_by
        return {
            group(name): frozenset(made[host] for host in who if host in made) for name, who in self.membership.items()
        }

    def of(self, name: str) -> tuple[Sighting, ...]:
        """The members of one group, in the order of their names."""
        return tuple(self._by_name[one] for one in sorted(set(self.membership[name])) if one in self._by_name)

    @cached_property
    def _by_name(self) -> Mapping[str, Sighting]:
        return {one.host.name: one for one in self.sightings}


def sightings(
    value: Json, stack: Address, ssh: SshSettings, place: Position | None
) -> tuple[tuple[Sighting, ...], tuple[Diagnostic, ...]]:
    """Read a ``hosts`` output. What is unknown, or has no name yet, has no sighting; a malformed entry is a
    diagnostic."""
    if value == UNKNOWN or value is None:
        return (), ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (), (_wrong(stack, place, "is not a list"),)
    found: list[Sighting] = []
    wrong: list[Diagnostic] = []
    for index, entry in enumerate(value):
        if entry == UNKNOWN or (isinstance(entry, Mapping) and entry.get("name") == UNKNOWN):
            continue
        sighting = _sighting(entry, stack, ssh) if isinstance(entry, Mapping) else "is not an object"
        if isinstance(sighting, Sighting):
            found.append(sighting)
        else:
            wrong.append(_wrong(stack, place, f"has an entry {index} that {sighting}"))
    return tuple(found), tuple(wrong)


def telling(value: Json) -> bool:
    """Whether a ``hosts`` output tells the name and the labels of every host, so that groups can count them."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return not any(
        entry == UNKNOWN
        or (isinstance(entry, Mapping) and any(_unknown(entry.get(key)) for key in ("name", "labels", "site")))
        for entry in value
    )


def _wrong(stack: Address, place: Position | None, what: str) -> Diagnostic:
    return Diagnostic(
        summary=f"the hosts output of {stack} {what}",
        position=place,
        expected="a list of objects with name, address, labels and host_keys",
    )


def _sighting(entry: Mapping[str, Json], stack: Address, ssh: SshSettings) -> Sighting | str:
    name, address = entry.get("name"), entry.get("address")
    if not isinstance(name, str) or not name:
        return "has no name"
    if not isinstance(address, str) or not address:
        return f"has no address ({name})"
    keys = entry.get("host_keys", [])
    unknown = sorted(key for key, item in entry.items() if _unknown(item))
    port = entry.get("port")
    host = Host(
        name=name,
        address=address,
        origin=str(stack),
        user=_text(entry, "user") or ssh.user,
        port=int(port) if isinstance(port, int | float) and not isinstance(port, bool) else ssh.port,
        labels=_texts(entry.get("labels")),
        groups=tuple(str(one) for one in _items(entry.get("groups"))),
        host_keys=tuple(str(one) for one in _items(keys) if one != UNKNOWN),
        bastion=_text(entry, "bastion") or ssh.bastion,
        site=_text(entry, "site"),
        machine=_text(entry, "machine"),
        variables=_variables(entry),
    )
    return Sighting(host=host, stack=stack, pending=f"{', '.join(unknown)} not known yet" if unknown else "")


def _variables(entry: Mapping[str, Json]) -> Mapping[str, Json]:
    """What roles may read of a host: its site, labels and addresses on each network, where the output has them."""
    found: dict[str, Json] = {"site": _text(entry, "site")} if _text(entry, "site") else {}
    for key in ("labels", "addresses"):
        if entry.get(key):
            found[key] = dict(_texts(entry[key]))
    return found


def _unknown(item: Json) -> bool:
    """Whether something is unknown, or holds something that is."""
    if isinstance(item, str):
        return item == UNKNOWN
    if isinstance(item, Mapping):
        return any(map(_unknown, item.values()))
    return isinstance(item, Sequence) and any(map(_unknown, item))


def _text(entry: Mapping[str, Json], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) and value != UNKNOWN else ""


def _texts(value: Json) -> Mapping[str, str]:
    return {key: str(item) for key, item in value.items()} if isinstance(value, Mapping) else {}


def _items(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def twice(found: Iterable[Sighting]) -> tuple[str, ...]:
    """Names that more than one source claims, with who claims them."""
    claims: dict[str, list[str]] = {}
    for one in found:
        claims.setdefault(one.host.name, []).append(one.host.origin)
    return tuple(f"{name} ({' and '.join(who)})" for name, who in sorted(claims.items()) if len(who) > 1)


def members(found: Iterable[Sighting], match: Match) -> tuple[Sighting, ...]:
    """The hosts that a selector takes, sorted by name; the order is the order of waves."""
    return tuple(sorted((one for one in found if match(one.host)), key=lambda one: one.host.name))


def with_groups(hosts: Iterable[Host], groups: Mapping[str, Sequence[str]]) -> tuple[Host, ...]:
    """Hosts with the names of the host groups that they belong to."""
    belongs: dict[str, list[str]] = {}
    for name, who in groups.items():
        for one in who:
            belongs.setdefault(one, []).append(name)
    return tuple(replace(host, groups=tuple(sorted({*host.groups, *belongs.get(host.name, ())}))) for host in hosts)


def ansible_groups(hosts: Iterable[Host], groups: Mapping[str, Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    """The groups of an Ansible inventory: one for each HostGroup, label (``role_db``) and group of an inventory."""
    found: dict[str, set[str]] = {}
    for name, who in groups.items():
        found.setdefault(_word(name), set()).update(who)
    for host in hosts:
        for label, value in host.labels.items():
            found.setdefault(_word(f"{label}_{value}"), set()).add(host.name)
        if host.site:
            found.setdefault(_word(f"site_{host.site}"), set()).add(host.name)
        for name in host.groups:
            found.setdefault(_word(name), set()).add(host.name)
    return {name: tuple(sorted(who)) for name, who in sorted(found.items())}


def _host_json(host: Host) -> JsonObject:
    return {
        "name": host.name,
        "address": host.address,
        "port": host.port,
        "user": host.user,
        "labels": dict(host.labels),
        "groups": list(host.groups),
        "host_keys": list(host.host_keys),
        "bastion": host.bastion,
        "site": host.site,
        "variables": {
            key: {"secret": str(value)} if isinstance(value, SecretRef) else value
            for key, value in host.variables.items()
        },
    }


def _word(text: str) -> str:
    return "".join(one if one.isalnum() else "_" for one in text)
