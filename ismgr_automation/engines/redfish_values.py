"""What a machine behind a BMC is, as values: where its BMC answers, what was found, what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.redfish_transport import Target, Timeouts

Scalar = str | bool | int | float


class Power(StrEnum):
    """Whether a system is powered; the two middle ones pass by themselves."""

    ON = "On"
    OFF = "Off"
    POWERING_ON = "PoweringOn"
    POWERING_OFF = "PoweringOff"
    PAUSED = "Paused"
    UNKNOWN = "Unknown"
    """The BMC does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bmc:
    """Where a BMC answers and who we are there. ``ca`` is the only authority that counts; without it the machine's own
    do. ``system`` is a Redfish system id, empty when the BMC manages exactly one. ``subject`` is what errors name."""

    subject: str
    url: str
    username: str
    password: Secret
    ca: Path | None = None
    system: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def target(self) -> Target:
        """What errors speak about."""
        return Target(subject=self.subject, url=self.url, username=self.username)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a BMC says about its system. ``bios`` are the attributes in effect, with those that wait for a restart laid
    over them; ``bios_pending`` names the waiting ones. ``addresses`` are the IPv4 addresses of the system's own
    interfaces in their order, empty when the BMC does not know. Text that the BMC does not give is empty."""

    system: str
    power: Power
    boot_device: str = ""
    bios: Mapping[str, Scalar] = field(default_factory=dict)
    bios_pending: tuple[str, ...] = ()
    asset_tag: str = ""
    serial: str = ""
    bios_version: str = ""
    bmc_version: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a system must look like; None (or an absent attribute) means: leave it as it is."""

    power: Power | None = None
    boot_device: str | None = None
    bios: Mapping[str, Scalar] = field(default_factory=dict)
    asset_tag: str | None = None


def same(found: Scalar | None, wanted: Scalar) -> bool:
    """Whether a BMC's value is the wanted one: numbers come back as text from some, booleans never equal numbers."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted or str(found).lower() == str(wanted).lower()
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return float(found) == float(wanted)
    return str(found) == _text(wanted)


def _text(value: Scalar) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
