"""Jinja filters: where other hosts answer their service's traffic. They read inventory variables and nothing else."""

from __future__ import annotations


def service_address(name, hostvars):
    """The address at which a host serves others: ``service_address`` if set, else the one on the network named like
    its site, else ``ansible_host``, else its name."""
    known = hostvars[name]
    if "service_address" in known:
        return str(known["service_address"])
    addresses = known.get("addresses") or {}
    return str(addresses.get(known.get("site"), known.get("ansible_host", name)))


def service_addresses(names, hostvars):
    """``service_address`` of each host, in order, each once."""
    return list(dict.fromkeys(service_address(name, hostvars) for name in names))


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        """The filters by the names that templates use."""
        return {"service_address": service_address, "service_addresses": service_addresses}
