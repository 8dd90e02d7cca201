"""Existing inventories, as they are: ini, YAML, folders with group variables, scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.ansible.reading import _jump, _named, read_inventory
from ismgr_automation.ports.hosts import Host

INI = """
lonely ansible_host=10.0.0.9

[webs]
web1 ansible_host=10.0.0.1 ansible_port=2222 ansible_user=deploy
web2 ansible_host=10.0.0.2 ansible_ssh_common_args='-o StrictHostKeyChecking=no -o ProxyJump=jump@10.0.0.9'

[dbs]
db1 ansible_connection=local flag=yes

[site:children]
webs
dbs

[webs:vars]
http_port=80
greeting={{ inventory_hostname }}
"""

YAML = """
all:
  hosts:
    web1: {ansible_host: 10.0.0.1, ports: [80, 443], tree: {a: 1}}
  children:
    webs: {hosts: {web1: {}}}
"""

SCRIPT = """#!/bin/sh
echo '{"webs": {"hosts": ["web1"]}, "_meta": {"hostvars": {"web1": {"ansible_host": "10.0.0.1"}}}}'
"""


def test_an_ini_inventory_gives_hosts_groups_and_variables(tmp_path):
    (tmp_path / "hosts.ini").write_text(INI)
    hosts = {one.name: one for one in read_inventory(tmp_path / "hosts.ini", tmp_path)}
    assert list(hosts) == ["db1", "lonely", "web1", "web2"]
    web1 = hosts["web1"]
    assert (web1.address, web1.port, web1.user, web1.origin) == ("10.0.0.1", 2222, "deploy", "hosts.ini")
    assert web1.groups == ("site", "webs")
    assert web1.variables == {"http_port": 80, "greeting": "{{ inventory_hostname }}"}
    assert hosts["db1"].address == "db1"
    assert hosts["db1"].variables == {"ansible_connection": "local", "flag": "yes"}
    assert hosts["lonely"].groups == ()
    assert hosts["web2"].bastion == "lonely"
    assert hosts["web2"].variables == {"http_port": 80, "greeting": "{{ inventory_hostname }}"}


def test_a_folder_brings_its_group_and_host_variables(tmp_path):
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "host_vars").mkdir()
    (folder / "hosts.yml").write_text(YAML)
    (folder / "group_vars" / "webs.yml").write_text("http_port: 8080\n")
    (folder / "host_vars" / "web1.yml").write_text("own: true\n")
    (web1,) = read_inventory(folder, tmp_path)
    assert web1.origin == "inventory"
    assert web1.variables == {"http_port": 8080, "own": True, "ports": [80, 443], "tree": {"a": 1}}


def test_an_executable_inventory_is_run(tmp_path):
    script = tmp_path / "dynamic"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    (web1,) = read_inventory(script, tmp_path)
    assert (web1.name, web1.address, web1.groups) == ("web1", "10.0.0.1", ("webs",))


def test_an_inventory_that_cannot_be_read_is_an_input_error_that_names_it(tmp_path):
    (tmp_path / "bad.ini").write_text("[webs]\nweb1 x\n")
    (tmp_path / "bad.yml").write_text("all:\n  hosts: [\n")
    (tmp_path / "bad.sh").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bad.sh").chmod(0o755)
    for name, place, words in (
        ("bad.ini", "bad.ini:2:1", "Expected key=value"),
        ("bad.yml", "bad.yml:3:1", "YAML parsing failed"),
        ("bad.sh", "bad.sh:1:1", "non-zero exit code 3"),
    ):
        with pytest.raises(InputError) as caught:
            read_inventory(tmp_path / name, tmp_path)
        assert place in str(caught.value)
        assert words in str(caught.value)


def test_a_vaulted_inventory_asks_nobody_and_says_so(tmp_path):
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(YAML)
    (folder / "group_vars" / "all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n" + "61" * 40 + "\n")
    with pytest.raises(InputError, match="vault"):
        read_inventory(folder, tmp_path)


def test_an_inventory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no inventory gone"):
        read_inventory(tmp_path / "gone", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "jump"),
    [
        ("", ""),
        ("-J gw1", "gw1"),
        ("-o ProxyJump=deploy@gw1", "deploy@gw1"),
        ("-oProxyJump=gw1", "gw1"),
        ("-o 'ProxyJump gw1'", "gw1"),
        ("-o ProxyJump=none", ""),
        ("-C -o ControlMaster=auto -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null", ""),
    ],
)
def test_only_the_jump_is_taken_from_ssh_arguments(arguments, jump):
    assert _jump(arguments, "web1", "hosts.ini") == jump


@pytest.mark.parametrize("arguments", ["-o ProxyCommand='nc %h %p'", "-i key", "-o 'open", "-D 1080"])
def test_ssh_arguments_that_change_the_way_are_refused(arguments):
    with pytest.raises(InputError, match="web1"):
        _jump(arguments, "web1", "hosts.ini")


@pytest.mark.parametrize(
    ("jump", "name"),
    [
        ("gw1", "gw1"),
        ("deploy@10.0.0.9", "gw1"),
        ("ssh://10.0.0.9", "gw1"),
        ("10.0.0.9:2222", "gw1"),
        ("gw1:2222", "gw1"),
    ],
)
def test_a_jump_means_a_host_of_the_inventory(jump, name):
    gateway = Host(name="gw1", address="10.0.0.9", port=2222, origin="x")
    assert _named(jump, [gateway], "web1", "x") == name


@pytest.mark.parametrize("jump", ["gw2", "gw1,gw2", "10.0.0.9:22"])
def test_a_jump_to_nobody_is_refused(jump):
    gateway = Host(name="gw1", address="10.0.0.9", port=2222, origin="x")
    with pytest.raises(InputError, match="web1"):
        _named(jump, [gateway], "web1", "x")


def test_the_persons_own_ansible_settings_do_not_count(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".ansible.cfg").write_text("[defaults]\ninventory_ignore_extensions = .ini\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ANSIBLE_INVENTORY_ENABLED", "host_list")
    (tmp_path / "hosts.ini").write_text("web1\n")
    assert [one.name for one in read_inventory(Path(tmp_path / "hosts.ini"), tmp_path)] == ["web1"]
