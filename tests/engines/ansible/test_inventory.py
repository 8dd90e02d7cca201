"""Inventories rendered from hosts, and read back by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ismgr_automation.core.json import canonical
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ansible.inventory import group_name, listing, lookup, pinned_arguments, references, render
from ismgr_automation.engines.ansible.settings import PLUGINS
from ismgr_automation.ports.hosts import Host
from tests.engines.loopback import serve

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVr0NxFC5xQpZzzUVhRxdsGyIWmCxqJOhlzSyRnUA9r"


def host(name: str = "db1.dc1", **more: object) -> Host:
    fields: dict[str, object] = {"name": name, "address": "10.40.0.14", "origin": "stack/dc1", "host_keys": (KEY,)}
    return Host(**(fields | more))  # type: ignore[arg-type]


def test_a_host_has_its_address_user_port_and_labels():
    variables = render([host(user="debian", labels={"role": "db"}, site="dc1")], {}, ssh_config=Path("/run/config"))
    assert variables == {
        "all": {
            "vars": {"ansible_ssh_args": "-F /run/config"},
            "hosts": {
                "db1.dc1": {
                    "ansible_host": "10.40.0.14",
                    "ansible_port": 22,
                    "ansible_user": "debian",
                    "ansible_ssh_host": "db1.dc1",
                    "ismgr_labels": {"role": "db"},
                    "ismgr_site": "dc1",
                    "ismgr_machine": "",
                }
            },
            "children": {},
        }
    }


def test_groups_come_from_the_request_and_from_the_hosts_and_hold_known_hosts_only():
    made = render([host(groups=("old-group",))], {"web-servers": ("db1.dc1", "gone")}, group_variables={"db": {"x": 1}})
    children = made["all"]["children"]
    assert children == {
        "db": {"hosts": {}, "vars": {"x": 1}},
        "old_group": {"hosts": {"db1.dc1": {}}, "vars": {}},
        "web_servers": {"hosts": {"db1.dc1": {}}, "vars": {}},
    }


def test_secrets_are_templates_that_ask_for_them():
    ref = SecretRef.parse("file:postgresql/app")
    made = render(
        [host(variables={"own": ref})], {"db": ()}, group_variables={"db": {"password": ref}}, become_password=ref
    )
    text = json.dumps(made)
    assert text.count("{{ lookup('ismgr_secret', 'file:postgresql/app') }}") == 3
    assert references({"a": ref, "b": 1}) == {ref}


def test_an_odd_reference_cannot_leave_its_quotes():
    assert lookup(SecretRef("file", "a'b\\c")) == "{{ lookup('ismgr_secret', 'file:a\\'b\\\\c') }}"


def test_words_from_a_stack_are_data_and_those_of_an_inventory_are_templates():
    evil = {"page": "{{ lookup('pipe', 'id') }}", "deep": [{"x": "{% raw %}"}], "plain": "x"}
    stack = render([host(variables=evil, labels={"l": "{{ x }}"})], {})["all"]["hosts"]["db1.dc1"]
    assert stack["page"] == {"__ansible_unsafe": "{{ lookup('pipe', 'id') }}"}
    assert stack["deep"] == [{"x": {"__ansible_unsafe": "{% raw %}"}}]
    assert stack["ismgr_labels"] == {"l": {"__ansible_unsafe": "{{ x }}"}}
    assert stack["plain"] == "x"
    given = render([host(variables=evil, origin="inventories/old.ini")], {})["all"]["hosts"]["db1.dc1"]
    assert given["page"] == "{{ lookup('pipe', 'id') }}"


def test_a_host_that_is_not_reached_by_ssh_keeps_its_connection():
    made = render([host(variables={"ansible_connection": "local"})], {}, ssh_config=Path("/c"))["all"]["hosts"][
        "db1.dc1"
    ]
    assert made["ansible_connection"] == "local"
    assert "ansible_ssh_host" not in made


def test_equal_hosts_give_equal_bytes():
    hosts = [host("b"), host("a")]
    assert canonical(render(hosts, {"g": {"b", "a"}})) == canonical(render(hosts[::-1], {"g": ("a", "b", "b")}))


def test_the_listing_has_the_form_of_an_inventory_script():
    made = listing(render([host()], {"db": ("db1.dc1",)}, group_variables={"db": {"x": 1}}))
    assert set(made) == {"_meta", "all", "db"}
    assert made["db"] == {"hosts": ["db1.dc1"], "vars": {"x": 1}}
    assert made["_meta"]["hostvars"]["db1.dc1"]["ansible_host"] == "10.40.0.14"


@pytest.mark.parametrize(("name", "ansible"), [("web-servers", "web_servers"), ("dc1.db", "dc1_db"), ("ok_1", "ok_1")])
def test_group_names_are_made_usable(name, ansible):
    assert group_name(name) == ansible


def test_a_host_without_keys_is_checked_against_the_persons_own_known_hosts():
    assert pinned_arguments(host(host_keys=()), {}) == "-o StrictHostKeyChecking=yes"


def test_plain_ansible_playbook_works_with_the_inventory_alone_bastions_pins_and_secrets_included(loopback, tmp_path):
    # Ansible keeps sockets below HOME, whose paths must be short
    with serve(tmp_path / "inner") as inner, TemporaryDirectory(prefix="h-") as home:
        (inner.folder / "authorized_keys").write_text((loopback.folder / "authorized_keys").read_text())
        hosts = [loopback.host("gw1"), inner.host("db1", bastion="gw1"), inner.host("db2", host_keys=(KEY,))]
        secrets = loopback.folder / "secrets"
        (secrets / "app").write_text("canary-plain")
        (secrets / "app").chmod(0o600)
        made = render(hosts, {}, group_variables={"dbs": {"password": SecretRef("file", "app")}})
        made["all"]["children"]["dbs"]["hosts"] = {"db1": {}, "db2": {}}
        (tmp_path / "hosts.json").write_text(json.dumps(made))
        (tmp_path / "play.yml").write_text(
            "- hosts: dbs\n  gather_facts: false\n  tasks:\n"
            f"    - ansible.builtin.copy: {{content: '{{{{ password }}}}', dest: '{tmp_path}/out', mode: '0600'}}\n"
        )
        tool = str(Path(sys.executable).parent / "ansible-playbook")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "ANSIBLE_LOOKUP_PLUGINS": str(PLUGINS / "lookup"),
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ISMGR_SECRET_BACKENDS": json.dumps(loopback.store.to_json()),
        }
        done = subprocess.run(
            [
                *("ssh-agent", "sh", "-c", 'ssh-add -q "$0" && exec "$@"', str(secrets / "operator")),
                *(tool, "-i", str(tmp_path / "hosts.json"), str(tmp_path / "play.yml")),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (tmp_path / "out").read_text() == "canary-plain"
    recap = done.stdout.partition("PLAY RECAP")[2]
    assert "db1" in recap
    assert "unreachable=0" in next(line for line in recap.splitlines() if line.startswith("db1"))
    # its pinned key is another one than it shows
    assert "unreachable=1" in next(line for line in recap.splitlines() if line.startswith("db2"))
    assert "canary" not in done.stdout + done.stderr
