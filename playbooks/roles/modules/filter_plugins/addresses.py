"""Jinja filters: where other hosts answer their service's traffic. They read inventory variables and nothing else."""

from __future__ import annotations


def site_of(name, hostvars):
    """The site of a host: ``ismgr_site``, or ``site`` in inventories of one's own; empty when neither is set."""
    known = hostvars[name]
    return str(known.get("ismgr_site") or known.get("site") or "")


def service_address(name, hostvars):
    """The address at which a host serves others: ``service_address`` if set, else the one on the network named like
    its site, else ``ansible_host``, else its name."""
    known = hostvars[name]
    if "service_address" in known:
        return str(known["service_address"])
    addresses = known.get("addresses") or {}
    return str(addresses.get(site_of(name, hostvars)) or known.get("ansible_host") or name)


def service_addresses(names, hostvars):
    """``service_address`` of each host, in order, each once."""
    return list(dict.fromkeys(service_address(name, hostvars) for name in names))


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        """The filters by the names that templates use."""
        return {"site_of": site_of, "service_address": service_address, "service_addresses": service_addresses}
