"""Where a drill in isolation takes place: the spare host, the network that is closed around it and its gateways, the
member that is copied, and the places of production that nobody inside may reach. Touches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from ismgr_automation.converge.drill_field import Field
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.machines import machine_of
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Bubbles, Scope
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.recovery import Bubble
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.isolation import BubbleRequest, CloneRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class BubbleField:
    """What is asked of the engines, and their ports."""

    document: Bubble
    engines: Bubbles
    bubble: BubbleRequest
    clone: CloneRequest

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that are worked on: the spare one and the gateways."""
        return (self.clone.spare, *self.bubble.gateways)


def bubble_of(scope: Scope, ground: Ground, field: Field) -> BubbleField:
    """Where a recovery plan is tried in isolation. Raises ``InputError`` for a plan without a bubble, and for one whose
    machines or networks the Site documents do not know."""
    document, engines = field.document.bubble, scope.engines.recovery.bubbles
    if document is None or engines is None:
        raise InputError(
            f"recovery/{field.document.name} does not say where a clone could be tried.",
            next_step="Add a `bubble` with spare hosts, gateways and a network to its document.",
        )
    spare = _spare(document, ground, field)
    found = machine_of(scope, spare)
    inside = found[1].addresses.get(document.network) if found is not None else None
    if inside is None:
        raise InputError(
            f"{spare.name} has no address in the network {document.network!r}, so nothing can be closed around it.",
            next_step="Name it in the `addresses` of its machine, in the Site document.",
        )
    run = scope.context.run or "unnamed"
    gateways = gateways_of(scope, ground.fleet, document, spare.site)
    if not gateways:
        raise InputError(
            f"No host of group/{document.gateways} at site {spare.site} has an address in the network "
            f"{document.network!r}: nobody could close it.",
            next_step="Name it in the `addresses` of the gateway's machine, in the Site document.",
        )
    source = field.sides.new if document.source == "away" else field.sides.old
    deadline = duration(document.deadline)
    hosts = [spare.name, source, *gateways]
    fleet = at_hand(scope, ground.fleet, hosts)
    return BubbleField(
        document=document,
        engines=engines,
        bubble=BubbleRequest(
            run=run,
            fleet=replace(fleet, names=tuple(gateways)),
            network=_cidr(scope, document, spare.site),
            gateways=gateways,
            inside=spare.name,
            places=tuple(dict.fromkeys(_places(scope, ground, field))),
            deadline=deadline,
        ),
        clone=CloneRequest(
            run=run,
            cluster=field.cluster,
            source=source,
            spare=spare.name,
            fleet=fleet,
            port=document.port,
            lifetime=duration(document.lasts),
            deadline=deadline,
        ),
    )


def first_spare(fleet: Fleet, document: Bubble) -> Host | None:
    """The spare host that takes the clone; None where the fleet has none."""
    name = min(fleet.membership.get(document.group, ()), default=None)
    return next((one for one in fleet.hosts if one.name == name), None)


def gateways_of(scope: Scope, fleet: Fleet, document: Bubble, site: str) -> Mapping[str, str]:
    """Each gateway of the spare host's site with its address in the network."""
    found = {}
    members = fleet.membership.get(document.gateways, ())
    for one in fleet.hosts:
        machine = machine_of(scope, one) if one.name in members and one.site == site else None
        address = machine[1].addresses.get(document.network) if machine is not None else None
        if address is not None:
            found[one.name] = str(address)
    return found


def _spare(document: Bubble, ground: Ground, field: Field) -> Host:
    """The first spare host by name, which is no member of the cluster."""
    spare = first_spare(ground.fleet, document)
    if spare is None:
        raise InputError(f"group/{document.group} has no host on which a clone could be tried.")
    if spare.name in field.cluster.fleet.names:
        raise InputError(f"{spare.name} of group/{document.group} is a member of the cluster, and no spare host.")
    return spare


def _cidr(scope: Scope, document: Bubble, site: str) -> str:
    known = scope.estate.sites.get(site)
    for network in known.networks if known is not None else ():
        if network.name == document.network:
            return network.cidr
    raise InputError(
        f"Site {site!r} has no network {document.network!r}.", next_step="Name it in `networks` of the Site document."
    )


def _places(scope: Scope, ground: Ground, field: Field) -> Iterator[str]:
    """Where production's database listens: the endpoints that the measuring client writes through, and every address of
    a member, on whatever network."""
    port = field.cluster.port
    for text in field.document.probe.endpoints:
        place = text if ":" in text else f"{text}:{port}"
        if _is_address(place.rpartition(":")[0]):
            yield place
    for one in ground.fleet.hosts:
        if one.name in field.cluster.fleet.names:
            found = machine_of(scope, one)
            addresses = [one.address, *map(str, found[1].addresses.values())] if found is not None else [one.address]
            yield from (f"{address}:{port}" for address in addresses if _is_address(address))


def _is_address(text: str) -> bool:
    try:
        return ip_address(text).version == 4  # noqa: PLR2004
    except ValueError:
        return False
