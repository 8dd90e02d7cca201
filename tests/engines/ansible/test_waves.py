"""What plain Ansible does when a host of the first wave is dead, and what we do with the same playbook and hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ismgr_automation.converge.scope import Scope
from ismgr_automation.engines.ansible.engine import AnsibleEngine
from ismgr_automation.engines.ansible.inventory import render
from ismgr_automation.engines.ssh import session
from ismgr_automation.ports.hosts import Host
from tests.engines.ansible.conftest import Desk
from tests.engines.loopback import Loopback, serve
from tests.rehearsal import Rehearsal

WAVES = """- hosts: webs
  gather_facts: false
  serial: [2, 2]
  max_fail_percentage: 0
  tasks:
    - name: Write
      ansible.builtin.copy: {content: x, dest: "{{ target }}/{{ inventory_hostname }}", mode: "0600"}
"""


@pytest.fixture
def mortal(desk: Desk, tmp_path: Path) -> Iterator[Loopback]:
    """A second server, for hosts that die."""
    with serve(tmp_path / "second") as second:
        (second.folder / "authorized_keys").write_text((desk.loopback.folder / "authorized_keys").read_text())
        yield second


def fleet(desk: Desk, mortal: Loopback) -> tuple[Host, ...]:
    """Four hosts; web2, in the first wave of two, is on the server that will die."""
    return tuple(
        (mortal if name == "web2" else desk.loopback).host(name, origin="hosts.yml")
        for name in ("web1", "web2", "web3", "web4")
    )


def test_plain_ansible_goes_on_to_the_second_wave_after_an_unreachable_host(desk, mortal):
    """The reason for waves of our own: ``max_fail_percentage`` counts failed hosts, and a dead one is not failed."""
    hosts = fleet(desk, mortal)
    os.kill(mortal.pid, 9)
    desk.play(WAVES)
    with session(hosts, desk.loopback.ssh, desk.loopback.store, desk.work) as here:
        variables = {"target": str(desk.target), "ansible_python_interpreter": "/usr/bin/python3"}
        names = {"webs": [host.name for host in hosts]}
        inventory = desk.work / "hosts.json"
        inventory.write_text(
            json.dumps(render(hosts, names, group_variables={"webs": variables}, ssh_config=here.config))
        )
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, desk.root / "play.yml"],
            env=os.environ | {"ANSIBLE_INVENTORY_ENABLED": "yaml", "ANSIBLE_HOME": str(desk.work / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert "unreachable=1" in done.stdout, done.stdout + done.stderr
    assert sorted(one.name for one in desk.target.iterdir()) == ["web1", "web3", "web4"]


@dataclass(slots=True, kw_only=True)
class Half(Rehearsal):
    """A site of which the hosts are real: playbooks run over SSH, the rest is rehearsed."""

    engine: AnsibleEngine
    desk: Desk
    hosts: tuple[Host, ...]

    def wire(self, *arguments: object, **named: object) -> Scope:
        scope = Rehearsal.wire(self, *arguments, **named)  # type: ignore[arg-type]
        self.engine.read_inventory = lambda *_: self.hosts  # type: ignore[method-assign]
        engines = replace(scope.engines, playbooks=self.engine, secrets=self.desk.loopback.store)
        return replace(scope, ssh=self.desk.loopback.ssh, engines=engines)


def test_our_waves_stop_at_an_unreachable_host_with_the_same_playbook_and_hosts(desk, mortal, tmp_path):
    hosts = fleet(desk, mortal)
    site = Half(folder=tmp_path / "site", engine=desk.engine, desk=desk, hosts=hosts)
    site.folder.mkdir()
    site.world.inventories["hosts.yml"] = hosts
    site.files = {
        "estate.yaml": "kind: Estate\nname: one\nowner: platform\ninventories: [hosts.yml]\n"
        'environments: {lab: {passphrase: {secret: "env:PASSPHRASE"}}}\ndefault_environment: lab\n'
        "ssh: {become: false}\n",
        "team.yaml": "kind: Team\nname: platform\n",
        "hosts.yml": "all: {}\n",
        "webs.yaml": 'kind: HostGroup\nname: webs\nselector: host.name != ""\nplaybook: play.yml\n'
        f'waves: [2, "100%"]\nvariables: {{target: "{desk.target}"}}\n',
        "play.yml": WAVES,
    }
    planned = site.plan()
    assert len(planned.changes) == 2, planned.findings
    os.kill(mortal.pid, 9)
    report = site.apply(planned)
    assert not report.ok
    assert "web2" in str(report.stopped)
    assert {one.name for one in desk.target.iterdir()} <= {"web1"}
