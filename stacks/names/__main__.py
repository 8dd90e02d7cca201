"""Publishes names in a DNS zone by signed dynamic updates (RFC 2136).

An ordinary Pulumi program. Alone:

    pip install ismgr_automation          # brings the provider pulumi-resource-ismgr
    pulumi stack init public
    pulumi config set server 192.0.2.5
    pulumi config set zone example.test
    pulumi config set key_name ismgr-update
    pulumi config set key_secret_ref env:TSIG_SECRET
    pulumi config set --path 'records[0].name' www
    pulumi config set --path 'records[0].type' A
    pulumi config set --path 'records[0].values[0]' 192.0.2.20
    TSIG_SECRET=... pulumi up

Config: ``server`` and ``port`` (the zone's primary), ``zone``, ``key_name``, ``key_algorithm``, ``key_secret`` (a
secret config value) or ``key_secret_ref`` (``backend:path``, opened by the provider and not kept in the state),
``records`` (a list of ``{name, type, ttl, values}``, or a map from name to ``{type, ttl, records}``), ``adopt`` (take
over records that exist). Output: ``names``, from name and type to full name and records.
"""

from __future__ import annotations

import pulumi

from ismgr_automation.resources.dns import Key, RecordSet, RecordSetArgs
from ismgr_automation.resources.zone import records_of


def main() -> None:
    """One RecordSet for each entry of ``records``."""
    config = pulumi.Config()
    zone = config.require("zone")
    key = Key(
        name=config.require("key_name"),
        algorithm=config.get("key_algorithm"),
        secret=config.get_secret("key_secret"),
        secret_ref=config.get("key_secret_ref"),
    )
    names = {}
    for wanted in records_of(config.require_object("records")):
        record_set = RecordSet(
            f"{wanted.name}-{wanted.type}",
            RecordSetArgs(
                server=config.require("server"),
                port=config.get_int("port"),
                zone=zone,
                name=wanted.name,
                type=wanted.type,
                ttl=wanted.ttl,
                records=wanted.records,
                key=key,
                adopt=config.get_bool("adopt"),
            ),
        )
        names[f"{wanted.name} {wanted.type}"] = {"fqdn": record_set.fqdn, "records": record_set.records}
    pulumi.export("names", names)


main()
