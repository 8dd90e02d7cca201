"""Powers on the machines of a site over their BMCs, and lists them as hosts.

An ordinary Pulumi program. With ismgr the config value ``site`` is written ``{site: NAME}`` in a Stack document. Alone:

    pip install ismgr_automation          # brings the provider pulumi-resource-ismgr
    pulumi stack init dc1
    pulumi config set --path site.name dc1
    pulumi config set --path 'site.machines[0].name' db1
    pulumi config set --path 'site.machines[0].address' 192.0.2.40
    pulumi config set --path 'site.machines[0].bmc.address' https://192.0.2.140
    pulumi config set --path 'site.machines[0].bmc.username' admin
    pulumi config set --path 'site.machines[0].bmc.password.secret' env:BMC_PASSWORD
    BMC_PASSWORD=... pulumi up

Config: ``site`` (a Site document), ``select`` (labels that a machine must have; none selects every machine),
``power_state`` (On unless said), ``power_timeout`` (seconds that a BMC may take for what it accepted, 300 unless said).
Output: ``hosts``.
"""

from __future__ import annotations

import pulumi

from ismgr_automation.resources.redfish import Server
from ismgr_automation.resources.site import host_entry, server_args, site_facts


def main() -> None:
    """One Server for each selected machine; ``hosts`` is in the order of the document."""
    config = pulumi.Config()
    site = site_facts(config.require_object("site"))
    machines = site.having(config.get_object("select") or {})
    power_state = config.get("power_state") or "On"
    patience = config.get_float("power_timeout")
    wanted = [(one, server_args(one, power_state=power_state, power_timeout=patience)) for one in machines]
    servers = [(one, Server(one.host, args)) for one, args in wanted]
    pulumi.export("hosts", [host_entry(machine, server) for machine, server in servers])


main()
