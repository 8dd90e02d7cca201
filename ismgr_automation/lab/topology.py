"""What a lab looks like: sites, machines, networks and every address, as pure values. Nothing here touches the host."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from ismgr_automation.core.errors import SettingsError

DEMO, TESTS = "demo", "tests"
WELL_KNOWN: Mapping[str, int] = MappingProxyType({DEMO: 0, TESTS: 1})
"""Names whose place in the address plan never changes."""
HIGHEST_INDEX = 50
ZONE = "two-sites.test"
PACKAGES_NAME = "packages"
"""The name in that zone of the machine that serves packages."""
TSIG_KEY = "ismgr-update"
USER = "debian"
"""The account on every machine that the operator's key opens; it may do anything with sudo."""
BMC_USER = "admin"


class Segment(StrEnum):
    """A network of a lab."""

    MANAGEMENT = "management"
    DC1 = "dc1"
    DC2 = "dc2"
    WAN = "wan"
    BUBBLE = "bubble"
    """Where clones are tried, behind the gateway of dc2; only in a lab with a spare machine."""


class Role(StrEnum):
    """What a machine is there for."""

    GATEWAY = "gateway"
    EDGE = "edge"
    WEB = "web"
    DB = "db"
    NAMES = "names"
    CLIENT = "client"
    SPARE = "spare"


SITES = (Segment.DC1, Segment.DC2)
INTERFACES: Mapping[Segment, str] = MappingProxyType(
    {
        Segment.MANAGEMENT: "mgmt0",
        Segment.DC1: "site0",
        Segment.DC2: "site0",
        Segment.WAN: "wan0",
        Segment.BUBBLE: "bubble0",
    }
)
_OFFSETS = {Segment.MANAGEMENT: 0, Segment.DC1: 1, Segment.DC2: 2, Segment.WAN: 3, Segment.BUBBLE: 4}
_FOUR = 4
"""Each lab has four ranges of its own; the bubble lies in that of its site."""
_PLACES = ((Role.GATEWAY, "gw1", 1), (Role.EDGE, "edge1", 2), (Role.WEB, "web1", 3), (Role.DB, "db1", 4))
_SPARE = (Role.SPARE, "spare1", 5)
_FIRST_MORE = 10
"""The place of ``web2`` where a site has more web machines than one; the next ones follow."""
MOST_WEBS = 20
"""Web machines of a site for which there are addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One network card: where it is plugged in, its fixed address and its fixed MAC."""

    segment: Segment
    name: str
    address: IPv4Address
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``to`` (a network, or ``default``) goes through ``via``."""

    to: str
    via: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where the controller sits on the wide area network, as one more client there, and how it reaches the sites."""

    address: IPv4Address
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine: a member of a site with a BMC, or a piece of the lab's own (``ns``, ``client``) without one."""

    name: str
    """The full name, ``db1.dc1``; unique in the lab."""
    role: Role
    site: Segment | None
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    resolver: IPv4Address
    bmc: IPv4Address | None
    uuid: str
    serial: str

    @property
    def short(self) -> str:
        """The name inside its site: ``db1``."""
        return self.name.partition(".")[0]

    @property
    def management(self) -> IPv4Address:
        """Where its sshd answers the controller."""
        return self.address(Segment.MANAGEMENT)

    @property
    def forwards(self) -> bool:
        """Whether it passes packets from one network to another."""
        return self.role is Role.GATEWAY

    def address(self, segment: Segment) -> IPv4Address:
        """Its address on a network; raises ``KeyError`` when it is not plugged in there."""
        for interface in self.interfaces:
            if interface.segment is segment:
                return interface.address
        raise KeyError(segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole lab. ``name``, ``index``, how many web machines a site has and whether there is a spare machine decide
    everything else."""

    name: str
    index: int
    machines: tuple[Machine, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The networks that it has."""
        plugged = {interface.segment for machine in self.machines for interface in machine.interfaces}
        return tuple(segment for segment in Segment if segment in plugged)

    def network(self, segment: Segment) -> IPv4Network:
        """The addresses of a network."""
        return _network(self.index, segment)

    @property
    def controller(self) -> IPv4Address:
        """The address of the machine that runs the lab, on the management network."""
        return self.network(Segment.MANAGEMENT).network_address + 1

    @property
    def window(self) -> Window:
        """The controller on the wide area network: a user's place, where a browser opens the service."""
        return Window(address=_address(self.index, Segment.WAN, 1), routes=_routes_from_wan(self.index))

    @property
    def servers(self) -> tuple[Machine, ...]:
        """The machines of the sites: those with a BMC."""
        return tuple(machine for machine in self.machines if machine.bmc is not None)

    @property
    def infrastructure(self) -> tuple[Machine, ...]:
        """``ns`` and ``client``: always on, nobody's inventory."""
        return tuple(machine for machine in self.machines if machine.bmc is None)

    @property
    def packages(self) -> Machine:
        """The machine that serves packages and firmware: the name server does."""
        return self.machine("ns")

    def machine(self, name: str) -> Machine:
        """The machine of that full name; raises ``SettingsError`` that lists the names there are."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        known = ", ".join(machine.name for machine in self.machines)
        raise SettingsError(f"The lab has no machine {name!r}.", next_step=f"It has {known}.")

    def container(self, machine: Machine) -> str:
        """What the machine is called among the containers of this host."""
        return f"ismgr-{self.name}-{machine.name}"

    def segment_name(self, segment: Segment) -> str:
        """What a network is called among the networks of this host."""
        return f"ismgr-{self.name}-{segment}"


def valid_name(name: str) -> str:
    """The name, or ``SettingsError``: lower case letters, digits and hyphens, 20 at most, a letter first."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", name):
        raise SettingsError(
            f"{name!r} cannot be the name of a lab.",
            next_step="Use lower case letters, digits and hyphens, beginning with a letter, 20 at most.",
        )
    return name


def choose_index(name: str, taken: Iterable[int]) -> int:
    """The place of a lab in the address plan: 0 for ``demo``, 1 for ``tests``, the lowest free one for other names.

    >>> choose_index("demo", [3]), choose_index("mine", [2, 3])
    (0, 4)
    """
    if name in WELL_KNOWN:
        return WELL_KNOWN[name]
    used = {*taken, *WELL_KNOWN.values()}
    for index in range(HIGHEST_INDEX + 1):
        if index not in used:
            return index
    raise SettingsError("Every address range for labs is taken.", next_step="`ismgr lab down --name NAME` frees one.")


def draw(name: str, index: int, webs: int = 1, *, spare: bool = False) -> Topology:
    """Two sites of four machines each, a name server and a client, with every address. ``webs`` is how many web
    machines a site has; raises ``SettingsError`` when there are no addresses for so many. With ``spare`` dc2 has a
    machine for clones on a network of its own behind the gateway there.

    >>> str(draw("tests", 1).machine("db1.dc2").management)
    '10.44.0.24'
    >>> len(draw("tests", 1, webs=7).servers)
    20
    """
    if not 1 <= webs <= MOST_WEBS:
        raise SettingsError(
            f"A site of a lab cannot have {webs} web machines.", next_step=f"Ask for 1 to {MOST_WEBS} of them."
        )
    more = tuple((Role.WEB, f"web{number}", _FIRST_MORE + number - 2) for number in range(2, webs + 1))
    servers = tuple(_server(name, index, site, place) for site in SITES for place in _PLACES + more)
    if spare:
        servers = (*(_beside_the_bubble(one, index) for one in servers), _server(name, index, Segment.DC2, _SPARE))
    own = tuple(_infrastructure(name, index, role) for role in (Role.NAMES, Role.CLIENT))
    return Topology(name=valid_name(name), index=index, machines=servers + own)


def _network(index: int, segment: Segment) -> IPv4Network:
    if segment is Segment.BUBBLE:
        return IPv4Network(f"10.{40 + _FOUR * index + _OFFSETS[Segment.DC2]}.1.0/24")
    return IPv4Network(f"10.{40 + _FOUR * index + _OFFSETS[segment]}.0.0/24")


def _address(index: int, segment: Segment, octet: int) -> IPv4Address:
    return _network(index, segment).network_address + octet


def _mac(index: int, segment: Segment, octet: int) -> str:
    # locally administered; the network is readable from the fifth byte, so that a filter can name one network
    return f"02:69:73:{index:02x}:{_OFFSETS[segment]:02x}:{octet:02x}"


def mac_prefix(index: int, segment: Segment) -> str:
    """What the MACs of one network begin with: five bytes."""
    return _mac(index, segment, 0).rpartition(":")[0]


def _plug(index: int, segment: Segment, octet: int) -> Interface:
    return Interface(
        segment=segment,
        name=INTERFACES[segment],
        address=_address(index, segment, octet),
        mac=_mac(index, segment, octet),
    )


def _server(lab: str, index: int, site: Segment, placed: tuple[Role, str, int]) -> Machine:
    role, short, place = placed
    number = SITES.index(site) + 1
    management, own = 10 * number + place, 10 * place
    if place >= _FIRST_MORE:
        management, own = 20 * (number + 1) + place, 100 + place
    home = Segment.BUBBLE if role is Role.SPARE else site
    interfaces = [_plug(index, Segment.MANAGEMENT, management), _plug(index, home, own)]
    if role is Role.GATEWAY:
        interfaces.append(_plug(index, Segment.WAN, 10 * number + 1))
        other = SITES[1 - SITES.index(site)]
        routes = (Route(to=str(_network(index, other)), via=_gateway_wan(index, other)),)
    else:
        routes = (Route(to="default", via=_address(index, home, 10)),)
    name = f"{short}.{site}"
    return Machine(
        name=name,
        role=role,
        site=site,
        interfaces=tuple(interfaces),
        routes=routes,
        resolver=_address(index, Segment.WAN, 5),
        bmc=_address(index, Segment.MANAGEMENT, 100 + management),
        uuid=_uuid(lab, name),
        serial=f"LAB{index:02d}{site.upper()}{place:03d}",
    )


def _beside_the_bubble(machine: Machine, index: int) -> Machine:
    """The gateway of dc2 is that of the bubble too."""
    if machine.role is not Role.GATEWAY or machine.site is not Segment.DC2:
        return machine
    return replace(machine, interfaces=(*machine.interfaces, _plug(index, Segment.BUBBLE, 10)))


def _infrastructure(lab: str, index: int, role: Role) -> Machine:
    name, octet = {Role.NAMES: ("ns", 5), Role.CLIENT: ("client", 6)}[role]
    return Machine(
        name=name,
        role=role,
        site=None,
        interfaces=(_plug(index, Segment.MANAGEMENT, octet), _plug(index, Segment.WAN, octet)),
        routes=_routes_from_wan(index),
        resolver=_address(index, Segment.WAN, 5),
        bmc=None,
        uuid=_uuid(lab, name),
        serial=f"LAB{index:02d}{name.upper()}",
    )


def _routes_from_wan(index: int) -> tuple[Route, ...]:
    return tuple(Route(to=str(_network(index, site)), via=_gateway_wan(index, site)) for site in SITES)


def _gateway_wan(index: int, site: Segment) -> IPv4Address:
    return _address(index, Segment.WAN, 10 * (SITES.index(site) + 1) + 1)


def _uuid(lab: str, machine: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{machine}.{lab}.lab.ismgr"))
