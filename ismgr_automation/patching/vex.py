"""Exemptions for other people's scanners: an OpenVEX document of what they cover. The same exemptions on the same hosts
give the same document, but for its time."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from ismgr_automation.core.json import JsonObject, canonical
from ismgr_automation.estate.maintenance import Exemption
from ismgr_automation.patching.exemptions import until
from ismgr_automation.patching.updates import Update
from ismgr_automation.ports.packages import HostFacts

CONTEXT = "https://openvex.dev/ns/v0.2.0"
_URL_NAMESPACE = bytes.fromhex("6ba7b8119dad11d180b400c04fd430c8")
"""RFC 9562: names that are URLs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who says it, and when."""

    author: str
    timestamp: datetime


def document(
    updates: Collection[Update],
    exemptions: Mapping[str, Exemption],
    facts: Mapping[str, HostFacts],
    issuer: Issuer,
) -> JsonObject:
    """OpenVEX 0.2.0: a statement for each CVE that an exemption covers, with the packages that have it.

    Where the exemption has a justification the packages are ``not_affected``; otherwise they are ``affected``, and the
    statement says what keeps them safe and until when. ``facts`` has the last reading of each host.
    """
    covered: dict[tuple[str, str, date], set[str]] = {}
    for one in updates:
        for exposure in one.decision.exposures:
            if exposure.waived.hold and one.host in facts:
                name = exposure.waived.hold[0]
                key = (exposure.cve, name, until(exemptions[name], exposure.severity))
                covered.setdefault(key, set()).add(_product(one, facts[one.host]))
    statements = [
        _statement(cve, exemptions[name], last, products) for (cve, name, last), products in sorted(covered.items())
    ]
    content: JsonObject = {"author": issuer.author, "version": 1, "statements": statements}
    return {
        "@context": CONTEXT,
        "@id": f"urn:uuid:{_uuid5(canonical(content))}",
        "timestamp": issuer.timestamp.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        **content,
    }


def purl(name: str, version: str, architecture: str, system: tuple[str, str]) -> str:
    """The package URL of a Debian package; ``system`` is a distribution and its release.

    >>> purl("libstdc++6", "1:12.2.0-14+deb12u1", "amd64", ("debian", "12"))
    'pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12'
    """
    distribution, release = map(_quoted, system)
    where = f"arch={_quoted(architecture)}&distro={distribution}-{release}"
    return f"pkg:deb/{distribution}/{_quoted(name)}@{_quoted(version)}?{where}"


def _product(update: Update, facts: HostFacts) -> str:
    decision = update.decision
    system = (facts.distribution, facts.release)
    return purl(decision.package, decision.installed, decision.architecture, system)


def _statement(cve: str, exemption: Exemption, last: date, products: Collection[str]) -> JsonObject:
    status: JsonObject
    if exemption.justification:
        status = {
            "status": "not_affected",
            "justification": exemption.justification,
            "impact_statement": exemption.reason,
        }
    else:
        control = exemption.compensating_control or "The risk is carried"
        action = f"{control.rstrip('.')}. Exempted until {last}: {exemption.reason}"
        status = {"status": "affected", "action_statement": action}
    told = [f"exemption {exemption.name}", f"owner {exemption.owner}", f"approved by {exemption.approver}"]
    return {
        "vulnerability": {"name": cve},
        "products": [{"@id": one} for one in sorted(products)],
        **status,
        "status_notes": "; ".join([*told, *([f"ticket {exemption.ticket}"] if exemption.ticket else [])]),
    }


def _uuid5(name: bytes) -> str:
    """A UUID of version 5 of a name (RFC 9562). The standard library's module would also bring random ones here."""
    found = bytearray(hashlib.sha1(_URL_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    found[6] = found[6] & 0x0F | 0x50
    found[8] = found[8] & 0x3F | 0x80
    text = found.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _quoted(text: str) -> str:
    """Percent-encoded as package URLs ask: letters, digits and ``.-_~:`` stay."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_~:"
    return "".join(chr(one) if one in plain else f"%{one:02X}" for one in text.encode())
