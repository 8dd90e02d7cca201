"""Renders Ansible inventories from hosts. Pure: reads and writes nothing, and holds references instead of secrets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.config import chain, key_line
from ismgr_automation.ports.hosts import Host

Variables = Mapping[str, Json | SecretRef]

TEMPLATE_MARKS = ("{{", "{%", "{#")

SSH_IS_OURS: JsonObject = {
    "ansible_ssh_common_args": "",
    "ansible_ssh_extra_args": "",
    "ansible_sftp_extra_args": "",
    "ansible_scp_extra_args": "",
    "ansible_host_key_checking": True,
    "ansible_ssh_host_key_checking": True,
}
"""Set above every other variable in a run of ours, so that no playbook or inventory switches host key checking off."""


def render(
    hosts: Sequence[Host],
    groups: Mapping[str, Sequence[str]],
    *,
    group_variables: Mapping[str, Variables] | None = None,
    become_password: SecretRef | None = None,
    ssh_config: Path | None = None,
) -> JsonObject:
    """An inventory for Ansible's ``yaml`` inventory plug-in (JSON is YAML).

    With ``ssh_config`` connections go through that client configuration by the host's name. Without one, each host
    carries SSH arguments that pin its keys, so that the inventory alone is enough for plain ``ansible-playbook``;
    this needs an OpenSSH client of 8.5 or newer.
    """
    by_name = {host.name: host for host in hosts}
    everybody: dict[str, Json] = {}
    if become_password is not None:
        everybody["ansible_become_password"] = lookup(become_password)
    if ssh_config is not None:
        everybody["ansible_ssh_args"] = f"-F {shlex.quote(str(ssh_config))}"
    return {
        "all": {
            "vars": everybody,
            "hosts": {host.name: _host(host, by_name, ssh_config) for host in hosts},
            "children": _groups(hosts, groups, group_variables or {}),
        }
    }


def listing(inventory: JsonObject) -> JsonObject:
    """The same inventory in the form that an inventory *script* prints for ``--list``.

    ``ansible-playbook -i <(ismgr inventory)`` reads the form that ``render`` gives; this one is for programs.
    """
    top = inventory["all"]
    if not isinstance(top, Mapping):
        raise TypeError("an inventory has one top group, 'all'")
    hosts, children = top.get("hosts"), top.get("children")
    names = list(hosts) if isinstance(hosts, Mapping) else []
    listed: dict[str, Json] = {"_meta": {"hostvars": hosts}, "all": {"hosts": names, "vars": top.get("vars")}}
    for name, body in children.items() if isinstance(children, Mapping) else ():
        if isinstance(body, Mapping):
            members = body.get("hosts")
            listed[name] = {"hosts": list(members) if isinstance(members, Mapping) else [], "vars": body.get("vars")}
    return listed


def lookup(ref: SecretRef) -> str:
    """The template that opens a secret when a task asks for it.

    >>> lookup(SecretRef.parse("file:postgresql/app"))
    "{{ lookup('ismgr_secret', 'file:postgresql/app') }}"
    """
    text = str(ref).replace("\\", "\\\\").replace("'", "\\'")
    return f"{{{{ lookup('ismgr_secret', '{text}') }}}}"


def group_name(name: str) -> str:
    """A name as Ansible wants its groups: letters, digits and underscores.

    >>> group_name("web-servers")
    'web_servers'
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def references(variables: Variables) -> frozenset[SecretRef]:
    """The secrets that variables name."""
    return frozenset(value for value in variables.values() if isinstance(value, SecretRef))


def _host(host: Host, by_name: Mapping[str, Host], ssh_config: Path | None) -> JsonObject:
    stated: dict[str, Json] = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        **({"ansible_user": host.user} if host.user else {}),
        "ismgr_labels": dict(host.labels),
        "ismgr_site": host.site,
        "ismgr_machine": host.machine,
    }
    if "ansible_connection" not in host.variables:
        if ssh_config is not None:
            # what a role asks for as ansible_host stays the address; the connection goes by name, where the keys are
            stated["ansible_ssh_host"] = host.name
        else:
            stated["ansible_ssh_common_args"] = pinned_arguments(host, by_name)
    given = {name: _value(value) for name, value in host.variables.items()}
    if host.origin.startswith("stack/"):
        # a machine's own words (labels, outputs) are data: a template in them would run on the controller
        return {name: _data(value) for name, value in {**stated, **_plain(host.variables)}.items()} | {
            name: lookup(value) for name, value in host.variables.items() if isinstance(value, SecretRef)
        }
    return {**{name: _data(value) for name, value in stated.items()}, **given}


def _plain(variables: Variables) -> dict[str, Json]:
    return {name: value for name, value in variables.items() if not isinstance(value, SecretRef)}


def _value(value: Json | SecretRef) -> Json:
    return lookup(value) if isinstance(value, SecretRef) else value


def _data(value: Json) -> Json:
    """The value, marked so that Ansible does not read templates in it."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value} if any(mark in value for mark in TEMPLATE_MARKS) else value
    if isinstance(value, Mapping):
        return {name: _data(one) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [_data(one) for one in value]
    return value


def _groups(
    hosts: Sequence[Host], groups: Mapping[str, Sequence[str]], variables: Mapping[str, Variables]
) -> JsonObject:
    members: dict[str, set[str]] = {group_name(name): set(names) for name, names in groups.items()}
    for host in hosts:
        for name in host.groups:
            members.setdefault(group_name(name), set()).add(host.name)
    for name in variables:
        members.setdefault(group_name(name), set())
    known = {host.name for host in hosts}
    values = {group_name(name): {key: _value(value) for key, value in body.items()} for name, body in variables.items()}
    return {
        name: {"hosts": {one: {} for one in sorted(names & known)}, "vars": values.get(name, {})}
        for name, names in sorted(members.items())
        if name not in {"all", "ungrouped"}
    }


def pinned_arguments(host: Host, by_name: Mapping[str, Host]) -> str:
    """Arguments for ``ssh`` that pin a host's keys, and those of the bastions before it, without a file.

    A host without pinned keys gets none: then the person's own known hosts count, strictly.
    """
    options = _pins(host, depth=0)
    jumps = chain(host, by_name)
    if jumps:
        options += ["-o", f"ProxyCommand={_jump(jumps, depth=1)}"]
    return shlex.join(options)


def _jump(jumps: Sequence[Host], depth: int) -> str:
    """The command that leads through the nearest bastion; the ones before it are led through inside.

    Each level is expanded by the ssh above it once, so each level doubles its per cent signs once more.
    """
    nearest, *before = jumps
    words = ["ssh", *_pins(nearest, depth), "-p", str(nearest.port), "-W", _target(depth)]
    if before:
        words += ["-o", f"ProxyCommand={_jump(before, depth + 1)}"]
    user = f"{nearest.user}@" if nearest.user else ""
    return shlex.join([*words, "--", user + nearest.address])


def _target(depth: int) -> str:
    per_cent = "%" * (1 << (depth - 1))
    return f"[{per_cent}h]:{per_cent}p"


def _pins(host: Host, depth: int) -> list[str]:
    options = ["-o", "StrictHostKeyChecking=yes"]
    if not host.host_keys:
        return options
    per_cent = "%" * (2 << depth)
    lines = (shlex.quote(f"{host.name} {key_line(key)}") for key in host.host_keys)
    command = " ".join(["/usr/bin/printf", f"{per_cent}s\\\\n", *(line.replace("'", '"') for line in lines)])
    return [
        *options,
        *("-o", f"HostKeyAlias={host.name}"),
        *("-o", "UserKnownHostsFile=none"),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", f"KnownHostsCommand={command}"),
    ]
