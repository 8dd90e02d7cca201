"""A Site document as a program gets it (``{site: NAME}`` in a Stack's config), read into values. No resource is made.

The entry of a ``hosts`` output is built here too: what is known before an apply stays known in a preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ismgr_automation.resources.redfish import Server, ServerArgs, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class BmcFacts:
    """A machine's management controller. ``password_ref`` is a secret reference (``backend:path``), never a secret."""

    address: str
    username: str
    password_ref: str
    ca: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """A machine of a site. ``host`` is its name in inventories, ``db1.dc1``; ``name`` stands in the document."""

    name: str
    host: str
    site: str
    address: str
    bmc: BmcFacts
    labels: Mapping[str, str] = field(default_factory=dict)
    host_keys: tuple[str, ...] = ()
    user: str = ""
    port: int | None = None
    bastion: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    asset_tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """A site and its machines, in the order of the document."""

    name: str
    machines: tuple[MachineFacts, ...]

    def having(self, labels: Mapping[str, str]) -> tuple[MachineFacts, ...]:
        """The machines that have all of these labels; all machines when none is given."""
        return tuple(one for one in self.machines if labels.items() <= one.labels.items())


class _Loose(BaseModel):
    """A newer Site document may say more than we read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Secret(_Loose):
    secret: str


class _Bmc(_Loose):
    address: str
    username: str
    password: _Secret
    ca: str | None = None
    system: str = ""


class _Machine(_Loose):
    name: str
    address: str = ""
    bmc: _Bmc
    labels: Mapping[str, str] = Field(default_factory=dict)
    host_keys: tuple[str, ...] = ()
    user: str = ""
    port: int | None = None
    bastion: str = ""
    addresses: Mapping[str, str] = Field(default_factory=dict)
    asset_tag: str = ""


class _Site(_Loose):
    name: str
    machines: tuple[_Machine, ...] = ()


def site_facts(config: object) -> SiteFacts:
    """Read the object of a ``{site: NAME}`` config value. Raises ``ValueError`` naming each field that is wrong.

    >>> bmc = {"address": "https://10.40.0.14", "username": "admin", "password": {"secret": "file:bmc/db1.dc1"}}
    >>> facts = site_facts({"name": "dc1", "machines": [{"name": "db1", "address": "10.40.0.14", "bmc": bmc}]})
    >>> facts.machines[0].host, facts.machines[0].bmc.password_ref
    ('db1.dc1', 'file:bmc/db1.dc1')
    """
    try:
        site = _Site.model_validate(config)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'site'}: {one['msg']}" for one in error.errors())
        raise ValueError(f"the config value 'site' is not a Site document: {wrong}") from error
    return SiteFacts(name=site.name, machines=tuple(_machine(one, site.name) for one in site.machines))


def server_args(machine: MachineFacts, *, power_state: str = "On", power_timeout: float | None = None) -> ServerArgs:
    """The arguments of the ``Server`` for a machine: its BMC, and the asset tag if the document has one.
    ``power_timeout`` is how long, in seconds, a BMC may take to make true what it accepted."""
    return ServerArgs(
        endpoint=machine.bmc.address,
        username=machine.bmc.username,
        password_ref=machine.bmc.password_ref,
        ca=machine.bmc.ca or None,
        system=machine.bmc.system or None,
        power_state=power_state,
        asset_tag=machine.asset_tag or None,
        timeouts=Timeouts(change_seconds=power_timeout) if power_timeout is not None else None,
    )


def host_entry(machine: MachineFacts, server: Server) -> Mapping[str, Any]:
    """One entry of a ``hosts`` output. Only the address can be unknown in a preview, and only if the document has none;
    export a list of these as it is: ``Output.all`` over it would make every name unknown."""
    entry: dict[str, Any] = {
        "name": machine.host,
        "address": machine.address or server.address,
        "labels": dict(machine.labels),
        "host_keys": list(machine.host_keys),
        "site": machine.site,
        "machine": machine.name,
        "addresses": dict(machine.addresses),
    }
    optional = {"user": machine.user, "port": machine.port, "bastion": machine.bastion}
    return entry | {name: value for name, value in optional.items() if value}


def _machine(one: _Machine, site: str) -> MachineFacts:
    bmc = BmcFacts(
        address=one.bmc.address,
        username=one.bmc.username,
        password_ref=one.bmc.password.secret,
        ca=one.bmc.ca or "",
        system=one.bmc.system,
    )
    return MachineFacts(
        name=one.name,
        host=one.name if one.name.endswith(f".{site}") else f"{one.name}.{site}",
        site=site,
        address=one.address,
        bmc=bmc,
        labels=dict(one.labels),
        host_keys=one.host_keys,
        user=one.user,
        port=one.port,
        bastion=one.bastion,
        addresses=dict(one.addresses),
        asset_tag=one.asset_tag,
    )
