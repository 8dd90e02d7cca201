"""Makes estates of any size, for tests and measurements: sound, with stacks, groups, sites, machines and services that
refer to each other."""

from __future__ import annotations

from pathlib import Path

ESTATE = """\
kind: Estate
name: generated
owner: operations
environments:
  production: {}
secrets:
  file: {kind: file, root: .secrets}
---
kind: Team
name: operations
members:
  - {name: Ada, roles: [author, approver]}
"""

SITE = """\
kind: Site
name: site-%(n)d
time_zone: Europe/Berlin
networks:
  - {name: lan, cidr: 10.%(a)d.%(b)d.0/24}
machines:
  - name: web1
    address: 10.%(a)d.%(b)d.10
    addresses: {lan: 10.%(a)d.%(b)d.10}
    labels: {role: web}
    bmc: {address: "https://bmc.example.org/web1.%(n)d", username: admin, password: {secret: "file:bmc/web1"}}
  - name: db1
    address: 10.%(a)d.%(b)d.20
    addresses: {lan: 10.%(a)d.%(b)d.20}
    labels: {role: db}
    bmc: {address: "https://bmc.example.org/db1.%(n)d", username: admin, password: {secret: "file:bmc/db1"}}
"""

STACK = """\
kind: Stack
name: servers-%(n)d
program: stacks/servers
config:
  site: {site: site-%(n)d}
  token: {secret: "file:token"}
  sizes: [1, 2, 3]
needs: [%(before)s]
outputs:
  hosts: {type: hosts}
  url: {type: string}
hosts: hosts
"""

GROUP = """\
kind: HostGroup
name: webs-%(n)d
selector: host.labels.role == "web" && host.site == "site-%(n)d"
playbook: playbooks/web.yml
variables:
  url: {output: servers-%(n)d.url}
  ports: [80, 443]
needs: [servers-%(n)d]
waves: [1, "50%%"]
verify: [verify/test_web.py]
"""

SERVICE = """\
kind: Service
name: service-%(n)d
owner: operations
tier: 2
endpoint: https://example.org/service-%(n)d
groups: [webs-%(n)d]
objectives: {availability: 99.9, rto: 15m, rpo: 1m}
"""

CONTENT = {
    "stacks/servers/Pulumi.yaml": "name: servers\nruntime: python\n",
    "playbooks/web.yml": "- hosts: all\n",
    "verify/test_web.py": "def test_it_runs(host):\n    assert host.service('web').is_running\n",
}


def generate(root: Path, documents: int) -> tuple[str, ...]:
    """Write an estate of that many documents (two at least), four to a file, and return its files."""
    texts = {"estate.yaml": ESTATE, **CONTENT}
    left = documents - 2
    number = 0
    while left > 0:
        values = {
            "n": number,
            "a": number // 250 % 250,
            "b": number % 250,
            "before": f"servers-{number - 1}" if number % 10 else "",
        }
        parts = [template % values for template in (SITE, STACK, GROUP, SERVICE)[:left]]
        texts[f"sites/site-{number}.yaml"] = "---\n".join(parts)
        left -= len(parts)
        number += 1
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return tuple(sorted(texts))
