"""A lab seen from an estate: the Site documents and the secrets that a user would otherwise type in. Nothing in the
written files says that they point at a lab."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.lab import advisories
from ismgr_automation.lab.folder import Folder, write_private
from ismgr_automation.lab.topology import BMC_USER, SITES, Machine, Segment, Topology

AUTHORITY = "trust/bmc-ca.pem"
SECRETS = ".secrets"
PURPOSES: Mapping[Segment, str] = {
    Segment.MANAGEMENT: "out-of-band: BMCs and SSH from the controller",
    Segment.DC1: "the site's own network",
    Segment.DC2: "the site's own network",
    Segment.BUBBLE: "for clones, behind the gateway: nobody else is there",
    Segment.WAN: "between the sites and to the world",
}
_RACK = "R1"


def write(topology: Topology, folder: Folder, estate: Path) -> tuple[Path, ...]:
    """Write both Site documents, the BMCs' authority and passwords, the operator's key and that of DNS updates; count
    the dates of the example's advisories from today (see ``advisories.renew``).

    Returns the paths below ``estate``. Secrets go to ``.secrets`` (only their owner reads them), which the estate keeps
    out of Git.
    """
    written: list[Path] = []
    for site in SITES:
        path = Path("sites") / f"{site}.yaml"
        _write(estate / path, dump(site_document(topology, folder, site)))
        written.append(path)
    _write(estate / AUTHORITY, folder.authority.read_text())
    secrets = {"ssh/operator": folder.operator_key.read_text(), "dns/tsig": folder.tsig.read_text()}
    secrets |= {f"bmc/{machine.name}": folder.bmc(machine, "password").read_text() for machine in topology.servers}
    for name, value in secrets.items():
        write_private(estate / SECRETS / name, value)
    renewed = advisories.renew(estate, datetime.now(UTC).date())
    return (*written, *renewed, Path(AUTHORITY), *(Path(SECRETS) / name for name in secrets))


def site_document(topology: Topology, folder: Folder, site: Segment) -> JsonObject:
    """One Site document as JSON."""
    here = [one for one in topology.servers if one.site is site]
    plugged = {interface.segment for machine in here for interface in machine.interfaces}
    networks = [one for one in (Segment.MANAGEMENT, site, Segment.WAN, Segment.BUBBLE) if one in plugged]
    return {
        "kind": "Site",
        "name": str(site),
        "time_zone": "Europe/Berlin" if site is Segment.DC1 else "Europe/Paris",
        "description": f"Data center {SITES.index(site) + 1} of two",
        "networks": [
            {"name": str(one), "cidr": str(topology.network(one)), "purpose": PURPOSES[one]} for one in networks
        ],
        "machines": [_machine(machine, folder) for machine in here],
    }


def dump(document: JsonObject) -> str:
    """A document as YAML, keys in the order of the document."""
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, width=120)
    return text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _machine(machine: Machine, folder: Folder) -> JsonObject:
    labels: dict[str, Json] = {"role": str(machine.role), "site": str(machine.site)}
    addresses: dict[str, Json] = {str(one.segment): str(one.address) for one in machine.interfaces}
    return {
        "name": machine.short,
        "address": str(machine.management),
        "bmc": {
            "address": f"https://{machine.bmc}",
            "username": BMC_USER,
            "password": {"secret": f"file:bmc/{machine.name}"},
            "ca": AUTHORITY,
        },
        "labels": labels,
        "host_keys": [folder.host_key(machine).read_text().strip()],
        "addresses": addresses,
        "rack": _RACK,
        "position": int(machine.serial[-3:]),
        "serial": machine.serial,
    }
