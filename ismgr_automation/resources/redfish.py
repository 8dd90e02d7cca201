"""``redfish.Server`` for Pulumi programs: a machine's power and settings, through its BMC. Describes; does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from ismgr_automation.resources.package import bag, options, secret

Attribute = str | bool | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds: for a connection, for one answer, for an accepted change to become true, and for a
    graceful shutdown before the power is cut."""

    connect_seconds: float = 5
    read_seconds: float = 30
    change_seconds: float = 300
    shutdown_seconds: float = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerArgs:
    """A machine behind a BMC that speaks Redfish. What is left out is left as it is.

    ``endpoint`` is the BMC's ``https://`` URL. Give ``password`` (kept encrypted in the state) or ``password_ref``
    (``backend:path``, opened by the provider and not kept). ``ca`` is a PEM file relative to the estate's folder.
    ``power_state`` is ``On`` or ``Off``; ``on_delete`` is ``power-off`` (the default) or ``leave``.
    """

    endpoint: pulumi.Input[str]
    username: pulumi.Input[str] | None = None
    password: pulumi.Input[str] | None = None
    password_ref: pulumi.Input[str] | None = None
    ca: pulumi.Input[str] | None = None
    system: pulumi.Input[str] | None = None
    power_state: pulumi.Input[str] | None = None
    boot_device: pulumi.Input[str] | None = None
    bios_attributes: pulumi.Input[Mapping[str, pulumi.Input[Attribute]]] | None = None
    asset_tag: pulumi.Input[str] | None = None
    timeouts: Timeouts | None = None
    on_delete: pulumi.Input[str] | None = None


@pulumi.input_type
class _Bag:
    endpoint: Any
    username: Any
    password: Any
    password_ref: Any = pulumi.property("passwordRef")
    ca: Any
    system: Any
    power_state: Any = pulumi.property("powerState")
    boot_device: Any = pulumi.property("bootDevice")
    bios_attributes: Any = pulumi.property("biosAttributes")
    asset_tag: Any = pulumi.property("assetTag")
    timeouts: Any
    on_delete: Any = pulumi.property("onDelete")


class Server(pulumi.CustomResource):
    """A machine behind a BMC: ``Server("db1.dc1", ServerArgs(endpoint=..., power_state="On"))``. The attributes are the
    machine as it was last seen; those that are not managed here and that the BMC does not tell are empty or None."""

    endpoint: pulumi.Output[str]
    """URL of the BMC."""
    system: pulumi.Output[str]
    """Redfish id of the system."""
    power_state: pulumi.Output[str] = pulumi.property("powerState")
    """The power state as found."""
    boot_device: pulumi.Output[str | None] = pulumi.property("bootDevice")
    """The boot override as found."""
    bios_attributes: pulumi.Output[Mapping[str, Any]] = pulumi.property("biosAttributes")
    """The managed BIOS attributes as found: text, numbers and booleans by name."""
    bios_pending: pulumi.Output[Sequence[str]] = pulumi.property("biosPending")
    """Managed BIOS attributes that wait for a restart."""
    asset_tag: pulumi.Output[str | None] = pulumi.property("assetTag")
    """The asset tag as found."""
    address: pulumi.Output[str]
    """First IPv4 address of the machine's own interfaces, empty when the BMC does not know it."""
    addresses: pulumi.Output[Sequence[str]]
    """All IPv4 addresses of the machine's own interfaces."""
    serial: pulumi.Output[str]
    """The serial number."""
    firmware: pulumi.Output[Mapping[str, str]]
    """Versions of firmware: ``bios`` and ``bmc``."""

    def __init__(self, resource_name: str, args: ServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = {
            "endpoint": args.endpoint,
            "username": args.username,
            "password": secret(args.password),
            "password_ref": args.password_ref,
            "ca": args.ca,
            "system": args.system,
            "power_state": args.power_state,
            "boot_device": args.boot_device,
            "bios_attributes": args.bios_attributes,
            "asset_tag": args.asset_tag,
            "timeouts": _seconds(args.timeouts),
            "on_delete": args.on_delete,
        }
        found = ("bios_pending", "address", "addresses", "serial", "firmware")
        super().__init__("ismgr:redfish:Server", resource_name, bag(_Bag, inputs, found), options(opts))


def _seconds(timeouts: Timeouts | None) -> Mapping[str, float] | None:
    if timeouts is None:
        return None
    return {
        "connectSeconds": timeouts.connect_seconds,
        "readSeconds": timeouts.read_seconds,
        "changeSeconds": timeouts.change_seconds,
        "shutdownSeconds": timeouts.shutdown_seconds,
    }
