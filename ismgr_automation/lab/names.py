"""What the lab's name server is told: Knot's configuration and the zone's first records, as pure text. Roles configure
the sites' own name servers; this one stands outside of the sites."""

from __future__ import annotations

from ismgr_automation.lab.topology import PACKAGES_NAME, TSIG_KEY, ZONE, Role, Segment, Topology

CONFIGURATION_PATH = "etc/knot/knot.conf"
ZONE_PATH = f"var/lib/knot/{ZONE}.zone"


def configuration(topology: Topology, secret: str) -> str:
    """Knot's configuration: one zone, updates and transfers with the key, news for the sites' gateways."""
    secondaries = [machine for machine in topology.servers if machine.role is Role.GATEWAY]
    remotes = "".join(
        f"  - id: {machine.short}-{machine.site}\n    address: {machine.address(Segment.WAN)}@53\n    key: {TSIG_KEY}\n"
        for machine in secondaries
    )
    notified = ", ".join(f"{machine.short}-{machine.site}" for machine in secondaries)
    return f"""server:
    listen: 0.0.0.0@53
    rundir: /run/knot
    user: knot:knot
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: syslog
    any: info
database:
    storage: /var/lib/knot
    journal-db-max-size: 32M
    kasp-db-max-size: 16M
    timer-db-max-size: 8M
key:
  - id: {TSIG_KEY}
    algorithm: hmac-sha256
    secret: {secret}
remote:
{remotes}acl:
  - id: signed
    key: {TSIG_KEY}
    action: [transfer, update]
template:
  - id: default
    storage: /var/lib/knot
    zonefile-sync: 0
    journal-content: all
zone:
  - domain: {ZONE}
    file: {ZONE}.zone
    acl: signed
    notify: [{notified}]
"""


def zone(topology: Topology) -> str:
    """The zone as it is before anybody updates it: its authority, and the machines on the wide area network."""
    ns, client = (machine.address(Segment.WAN) for machine in topology.infrastructure)
    return f"""$ORIGIN {ZONE}.
$TTL 30
@       SOA ns.{ZONE}. hostmaster.{ZONE}. 1 60 30 3600 5
@       NS  ns.{ZONE}.
ns      A   {ns}
client  A   {client}
{PACKAGES_NAME}  A   {ns}
"""
