"""The files of a new estate: small, valid, commented. Pure; whoever wants them on disk writes them."""

from __future__ import annotations

from collections.abc import Mapping

ESTATE = """\
# The root document. Every other *.yaml file outside playbooks/, stacks/, policies/ and verify/ holds documents too;
# folders and file names are yours. `ismgr validate` reads them all, `ismgr schema` tells your editor about them.
kind: Estate
name: @NAME@
owner: operations                # a Team document
environments:
  production:
    state: file://.ismgr/state   # where Pulumi keeps what it made; s3://BUCKET for a team
    passphrase:                  # encrypts secrets in that state
      secret: env:ISMGR_PASSPHRASE
# ssh:
#   user: debian
#   become: true
#   key:
#     secret: env:ISMGR_SSH_KEY  # or {secret: file:ssh/operator} with the backend below
# secrets:
#   file: {kind: file, root: .secrets}
"""

TEAMS = """\
kind: Team
name: operations
description: Whoever answers for this estate.
members: []
# - name: Ada Example
#   email: ada@example.org
#   roles: [author, approver, operator]
#   ssh_keys:
#     - ssh-ed25519 AAAA... ada@example.org
"""

STACK = """\
# A Pulumi program and how this estate runs it. This one makes nothing: it hands on hosts that exist already.
kind: Stack
name: servers
program: stacks/servers
config:
  hosts: []
  # - name: web1
  #   address: 192.0.2.10
  #   labels: {role: web}
  #   host_keys:                 # from `ssh-keyscan -t ed25519 192.0.2.10`, compared on the machine itself
  #     - ssh-ed25519 AAAA...
outputs:
  hosts: {type: hosts}
hosts: hosts                     # the output that lists hosts for the inventory
"""

GROUP = """\
# Hosts that are configured alike.
kind: HostGroup
name: webs
selector: host.labels.role == "web"   # CEL over host: name, address, site, labels, groups, machine, user, port
playbook: playbooks/web.yml
variables:
  greeting: This machine is managed by ismgr.
waves: [1, "100%"]                    # one host first, then the rest
verify: [verify/test_web.py]          # must pass after each apply
"""

PROJECT = """\
name: servers
description: Hosts that exist already
runtime: python
"""

PROGRAM = '''\
"""Hands on the hosts of its configuration: an ordinary Pulumi program, replace it by one that makes machines."""

import pulumi

config = pulumi.Config()
pulumi.export("hosts", config.get_object("hosts") or [])
'''

PLAYBOOK = """\
- name: Web servers
  hosts: all
  tasks:
    - name: Say who looks after this machine
      ansible.builtin.copy:
        content: "{{ greeting }}\\n"
        dest: /etc/motd
        mode: "0644"
"""

SUITE = '''\
"""What must hold on every web server."""


def test_people_who_log_in_are_told(host, ismgr_vars):
    assert ismgr_vars["greeting"] in host.file("/etc/motd").content_string
'''

IGNORED = """\
# state and runs of ismgr on this machine
.ismgr/
# secrets of the file backend
.secrets/
__pycache__/
"""

README = """\
# @NAME@

An estate for `ismgr`: what our clouds, data centers and hosts must look like.

| where | what |
|---|---|
| `estate.yaml` | name, environments, secrets |
| `teams.yaml` | people and what they may do |
| `servers.yaml`, `stacks/servers/` | a stack and its Pulumi program |
| `webs.yaml`, `playbooks/`, `verify/` | a group of hosts, its playbook, its tests |

    ismgr validate     what is wrong in the documents
    ismgr plan         what would change
    ismgr apply        change it
"""


def starter(name: str) -> Mapping[str, str]:
    """Texts by path for an estate of this name; ``name`` must be a valid name (``is_name``)."""
    files = {
        "estate.yaml": ESTATE,
        "teams.yaml": TEAMS,
        "servers.yaml": STACK,
        "webs.yaml": GROUP,
        "stacks/servers/Pulumi.yaml": PROJECT,
        "stacks/servers/__main__.py": PROGRAM,
        "playbooks/web.yml": PLAYBOOK,
        "verify/test_web.py": SUITE,
        ".gitignore": IGNORED,
        "README.md": README,
    }
    return {path: text.replace("@NAME@", name) for path, text in files.items()}


def name_for(folder: str) -> str:
    """A valid name made from a folder's.

    >>> name_for("My Infra_2")
    'my-infra-2'
    """
    kept = "".join(one if one.isascii() and one.isalnum() else "-" for one in folder.lower()).strip("-")
    return kept[:63].rstrip("-") or "estate"
