"""Playbooks and probes on real machines: bastions, become with a password, ways to be unreachable, sudden death."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ismgr_automation.core.address import group
from ismgr_automation.core.errors import Cancelled, LeaseLost
from ismgr_automation.core.events import Event, TaskFinished
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ansible.engine import AnsibleEngine
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.engines.ssh import SshProber
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, PlaybookRequest, PlaybookResult, Reach, Ssh, Status
from tests.engines.loopback import keygen

if TYPE_CHECKING:
    from ismgr_automation.lab import Lab

pytestmark = pytest.mark.lab

ON = ("gw1.dc1", "edge1.dc1", "web1.dc1", "db1.dc1")
PASSWORD = "canary-carol-81f"
SSH = Ssh(key=SecretRef.parse("file:ssh/operator"))


@dataclass(slots=True, kw_only=True)
class Room:
    """Machines that are on, and what is needed to work on them."""

    lab: Lab
    store: Backends
    work: Path
    root: Path

    def host(self, name: str, **more: object) -> Host:
        machine = self.lab.machine(name)
        words = (self.root / "sites" / f"{name.split('.')[1]}.yaml").read_text()
        block = words.partition(f"- name: {name.split('.', maxsplit=1)[0]}\n")[2]
        key = block.partition("host_keys:\n")[2].split("- ", 1)[1].splitlines()[0]
        host = Host(
            name=name, address=str(machine.management), origin="stack/dc1-servers", user="debian", host_keys=(key,)
        )
        return replace(host, **more)

    def inside(self, name: str, **more: object) -> Host:
        """The host at its address on the site's own network, where only the gateway can reach it."""
        from ismgr_automation.lab.topology import Segment

        address = self.lab.machine(name).address(Segment(name.split(".")[1]))
        return self.host(name, address=str(address), **more)

    def run(self, text: str, *hosts: Host, watch: list[Event] | None = None, **more: object) -> PlaybookResult:
        emit = watch.append if watch is not None else lambda _event: None
        request = self.request(text, *hosts, **more)
        return AnsibleEngine(self.store).run(request, Context(work=self.work, emit=emit))

    def request(self, text: str, *hosts: Host, **more: object) -> PlaybookRequest:
        (self.root / "play.yml").write_text(text)
        limit = tuple(host.name for host in hosts if host.name != "gw1.dc1")
        fields: dict[str, object] = {
            "address": group("all-of-them"),
            "playbook": self.root / "play.yml",
            "root": self.root,
            "inventory": hosts,
            "groups": {},
            "limit": limit,
            "variables": {},
            "ssh": SSH,
            "become": True,
            "become_password": None,
            "roles_path": (),
            "deadline": timedelta(minutes=5),
        }
        return PlaybookRequest(**(fields | more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def room(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from tests.fixtures_lab import switch_off, switch_on

    root = tmp_path_factory.mktemp("estate")
    lab.write(root)
    secrets = root / ".secrets"
    (secrets / "carol").write_text(PASSWORD)
    (secrets / "wrong").write_text("canary-wrong")
    for name in ("carol", "wrong"):
        (secrets / name).chmod(0o600)
    switch_on(lab, *ON)
    script = """
        useradd -m -s /bin/sh carol && chpasswd
        echo 'carol ALL=(ALL) ALL' > /etc/sudoers.d/carol
        useradd -m -s /bin/sh plain
        for one in carol plain; do
            install -d -m 700 -o $one -g $one /home/$one/.ssh
            install -m 600 -o $one -g $one /home/debian/.ssh/authorized_keys /home/$one/.ssh/authorized_keys
        done
    """
    lab.run("db1.dc1", ["sh", "-ec", script], stdin=f"carol:{PASSWORD}\n".encode())
    yield Room(
        lab=lab,
        store=Backends({"file": PrivateFiles(root=secrets)}),
        work=tmp_path_factory.mktemp("work"),
        root=root,
    )
    lab.run("db1.dc1", ["sh", "-c", "userdel -rf carol; userdel -rf plain; rm -f /etc/sudoers.d/carol"])
    switch_off(lab, *ON)


ID = """- hosts: all
  gather_facts: false
  tasks:
    - name: Who am I
      ansible.builtin.command: id -un
      register: who
      changed_when: who.stdout != 'root'
"""


def test_every_way_to_be_unreachable_is_told_apart_on_real_machines(room, tmp_path):
    room.lab.run("edge1.dc1", ["systemctl", "stop", "ssh.service", "ssh.socket"])
    try:
        hosts = [
            room.host("gw1.dc1"),
            room.host("db1.dc1"),
            replace(room.inside("web1.dc1"), name="jumped", bastion="gw1.dc1"),
            room.host("web1.dc2"),
            room.host("edge1.dc1"),
            replace(room.host("db1.dc1"), name="stranger", user="mallory"),
            replace(room.host("db1.dc1"), name="impostor", host_keys=(keygen(tmp_path / "other"),)),
            replace(room.host("db1.dc1"), name="plain", user="plain"),
            replace(room.host("db1.dc1"), name="nameless", address="db1.invalid"),
            replace(room.host("web1.dc2"), name="behind", address="10.255.255.1", bastion="gw1.dc1"),
        ]
        found = SshProber(room.store).probe(hosts, SSH, become=True, context=Context(work=room.work))
    finally:
        room.lab.run("edge1.dc1", ["systemctl", "start", "ssh.service"])
    by_name = {one.host: one.reach for one in found}
    assert by_name == {
        "gw1.dc1": Reach.OK,
        "db1.dc1": Reach.OK,
        "jumped": Reach.OK,
        "web1.dc2": Reach.TIMEOUT,
        "edge1.dc1": Reach.REFUSED,
        "stranger": Reach.AUTH,
        "impostor": Reach.HOST_KEY,
        "plain": Reach.SUDO,
        "nameless": Reach.DNS,
        "behind": Reach.TIMEOUT,
    }
    assert all(one.seconds < 60 for one in found)


def test_a_play_goes_through_a_bastion_and_becomes_root_with_a_password(room):
    host = room.inside("db1.dc1", user="carol", bastion="gw1.dc1")
    watch: list[Event] = []
    result = room.run(ID, room.host("gw1.dc1"), host, become_password=SecretRef.parse("file:carol"), watch=watch)
    assert (result.failed, result.unreachable) == ((), ())
    assert result.counts == {"db1.dc1": {Status.OK: 1}}
    assert PASSWORD not in repr(watch) + repr(result)


@pytest.mark.parametrize("password", [None, SecretRef.parse("file:wrong")], ids=["none", "wrong"])
def test_without_the_right_password_the_host_is_unreachable_by_sudo(room, password):
    result = room.run(ID, room.host("db1.dc1", user="carol"), become_password=password)
    assert [(one.host, one.reach) for one in result.unreachable] == [("db1.dc1", Reach.SUDO)]
    assert result.failed == ()


def test_the_probe_tries_the_password_too(room):
    host = room.host("db1.dc1", user="carol")
    for reference, reach in (("file:carol", Reach.OK), ("file:wrong", Reach.SUDO)):
        prober = SshProber(room.store, SecretRef.parse(reference))
        (found,) = prober.probe([host], SSH, become=True, context=Context(work=room.work))
        assert found.reach is reach


def test_a_machine_that_loses_power_in_the_middle_of_a_play_is_unreachable_and_the_others_go_on(room):
    from tests.fixtures_lab import switch_off, switch_on, until

    text = """- hosts: all
  gather_facts: false
  strategy: free
  tasks:
    - name: Begin
      ansible.builtin.command: "true"
      changed_when: false
    - name: Work
      ansible.builtin.command: sleep {{ 120 if inventory_hostname == 'web1.dc1' else 8 }}
      changed_when: false
    - name: End
      ansible.builtin.command: touch /run/ended
"""
    watch: list[Event] = []

    def begun() -> bool:
        return any(isinstance(one, TaskFinished) and one.host == "web1.dc1" for one in watch)

    def pull() -> None:
        until("web1.dc1 has begun", begun, seconds=60)
        switch_off(room.lab, "web1.dc1")

    puller = threading.Thread(target=pull)
    puller.start()
    try:
        result = room.run(text, room.host("web1.dc1"), room.host("db1.dc1"), watch=watch)
    finally:
        puller.join()
        switch_on(room.lab, "web1.dc1")
    assert [one.host for one in result.unreachable] == ["web1.dc1"]
    assert result.unreachable[0].reach in {Reach.TIMEOUT, Reach.REFUSED}
    assert result.failed == ()
    assert [(one.host, one.task) for one in result.tasks if one.status is Status.CHANGED] == [("db1.dc1", "End")]
    # what it did may go on behind our back, for all that we know
    (left,) = result.leftovers
    assert left.startswith("web1.dc1: what still runs there is not known (")


LONG = """- hosts: all
  gather_facts: false
  tasks:
    - name: Beside
      ansible.builtin.shell: setsid sleep 4711
      async: 600
      poll: 0
    - name: Long
      ansible.builtin.command: sleep 4711
"""


def test_a_stopped_run_leaves_nothing_on_machines_where_it_was_root_and_an_older_holder_is_refused_there(room):
    from tests.fixtures_lab import until

    hosts = [
        room.host("web1.dc1"),
        room.host("db1.dc1", user="carol"),
    ]
    request = room.request(LONG, *hosts, fence="two-sites/demo", become_password=SecretRef.parse("file:carol"))
    context = Context(work=room.work, token=12, run="run-12")

    def running() -> list[str]:
        return [room.lab.run(one.name, ["pgrep", "-fc", "^sleep 4711"]).stdout.strip() for one in hosts]

    def cancel() -> None:
        until("both tasks run on both machines", lambda: running() == ["2", "2"], seconds=90)
        context.cancelled.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Cancelled) as caught:
        AnsibleEngine(room.store).run(request, context)
    canceller.join()
    assert running() == ["0", "0"]
    assert "What still ran was ended on db1.dc1 (Long), web1.dc1 (Long)." in caught.value.next_step
    for one in hosts:
        written = room.lab.run(one.name, ["cat", "/var/lib/ismgr/fence.json"]).stdout
        assert json.loads(written) == {"name": "two-sites/demo", "token": 12, "run": "run-12"}
    with pytest.raises(LeaseLost, match=r"db1\.dc1 \(token 12, run run-12\)"):
        AnsibleEngine(room.store).run(request, Context(work=room.work, token=11, run="run-11"))
