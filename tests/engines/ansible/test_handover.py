"""Leaving ismgr: a written folder is all that plain ansible-playbook needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ansible.handover import write_folder
from ismgr_automation.ports.hosts import Ssh


def test_plain_ansible_playbook_works_in_the_written_folder_and_no_secret_is_in_it(loopback, tmp_path):
    secrets = loopback.folder / "secrets"
    (secrets / "app").write_text("canary-plain")
    (secrets / "app").chmod(0o600)
    hosts = [loopback.host("gw1"), loopback.host("db1", bastion="gw1"), loopback.host("db2", host_keys=())]
    ssh = Ssh(key_file=secrets / "operator", known_hosts=f"[127.0.0.1]:{loopback.port} {loopback.host_key}")
    folder = tmp_path / "out"
    files = write_folder(
        folder,
        hosts,
        ssh,
        {"dbs": ("db1", "db2")},
        group_variables={"dbs": {"password": SecretRef("file", "app")}},
    )
    assert {one.name for one in files} == {one.name for one in folder.iterdir()}
    assert all("canary" not in one.read_text() for one in files)
    (tmp_path / "play.yml").write_text(
        "- hosts: dbs\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy:\n"
        f"        {{content: '{{{{ password }}}}', dest: '{tmp_path}/{{{{ inventory_hostname }}}}', mode: '0600'}}\n"
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", tmp_path / "play.yml"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "ISMGR_SECRET_BACKENDS": json.dumps(loopback.store.to_json()),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(tmp_path / name).read_text() for name in ("db1", "db2")] == ["canary-plain"] * 2


def test_a_folder_that_cannot_be_written_is_one_error(loopback, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="Cannot write the inventory"):
        write_folder(tmp_path / "file" / "x", [loopback.host("db1")], Ssh(), {})
