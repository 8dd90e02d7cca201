"""``dns.RecordSet`` for Pulumi programs: all records of one type at one name. Describes; does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from ismgr_automation.resources.package import bag, options, secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A TSIG key. Give ``secret`` (base64, kept encrypted in the state) or ``secret_ref`` (``backend:path``, opened by
    the provider and not kept). ``algorithm`` is hmac-sha256 unless said."""

    name: pulumi.Input[str]
    algorithm: pulumi.Input[str] | None = None
    secret: pulumi.Input[str] | None = None
    secret_ref: pulumi.Input[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSetArgs:
    """All records of one type at one name. ``server`` is the zone's primary; ``name`` is relative to ``zone``, ``@`` is
    the zone itself; ``ttl`` is in seconds; ``records`` are in the text form of zone files. Without ``adopt`` a create
    refuses to overwrite records that are there already."""

    zone: pulumi.Input[str]
    name: pulumi.Input[str]
    type: pulumi.Input[str]
    records: pulumi.Input[Sequence[pulumi.Input[str]]]
    ttl: pulumi.Input[int] | None = None
    server: pulumi.Input[str] | None = None
    port: pulumi.Input[int] | None = None
    key: Key | None = None
    adopt: pulumi.Input[bool] | None = None


@pulumi.input_type
class _Bag:
    zone: Any
    name: Any
    type: Any
    records: Any
    ttl: Any
    server: Any
    port: Any
    key: Any
    adopt: Any


class RecordSet(pulumi.CustomResource):
    """Records on a name server: ``RecordSet("www", RecordSetArgs(zone=..., name="www", type="A", records=[...]))``."""

    fqdn: pulumi.Output[str]
    """The full name, with a dot at the end."""
    zone: pulumi.Output[str]
    """The zone."""
    name: pulumi.Output[str]
    """The name as given."""
    type: pulumi.Output[str]
    """The type."""
    ttl: pulumi.Output[int]
    """Time to live in seconds, as found."""
    records: pulumi.Output[Sequence[str]]
    """The records as found, in canonical form and sorted."""

    def __init__(self, resource_name: str, args: RecordSetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = {
            "zone": args.zone,
            "name": args.name,
            "type": args.type,
            "records": args.records,
            "ttl": args.ttl,
            "server": args.server,
            "port": args.port,
            "key": _key(args.key),
            "adopt": args.adopt,
        }
        super().__init__("ismgr:dns:RecordSet", resource_name, bag(_Bag, inputs, ("fqdn",)), options(opts))


def _key(key: Key | None) -> Mapping[str, Any] | None:
    if key is None:
        return None
    given = {
        "name": key.name,
        "algorithm": key.algorithm,
        "secret": secret(key.secret),
        "secretRef": key.secret_ref,
    }
    return {name: value for name, value in given.items() if value is not None}
