"""Writes a folder from which plain ``ansible-playbook`` works on the same hosts: nobody needs ismgr to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ansible import inventory as rendering
from ismgr_automation.engines.ansible.settings import PLUGINS, PYTHON_OF_HOSTS
from ismgr_automation.engines.ssh import config as ssh_rendering
from ismgr_automation.engines.ssh.trust import Trust, read_lines, trust_of, without_revoked
from ismgr_automation.ports.hosts import Host, Ssh


def write_folder(
    folder: Path,
    hosts: Sequence[Host],
    ssh: Ssh,
    groups: Mapping[str, Sequence[str]],
    *,
    group_variables: Mapping[str, rendering.Variables] | None = None,
    become: bool = False,
    become_password: SecretRef | None = None,
    roles_path: Sequence[Path] = (),
) -> tuple[Path, ...]:
    """Write inventory, SSH configuration, known hosts and ``ansible.cfg`` into a folder; returns the files.

    ``cd FOLDER && ansible-playbook PLAYBOOK`` uses them, with the person's own SSH agent or ``ssh.key_file``. There is
    no secret in any of them: references are opened by the lookup plug-in, which reads ``ISMGR_SECRET_BACKENDS``.
    Raises ``InputError`` for hosts that cannot be rendered, ``SettingsError`` when the folder cannot be written.
    """
    ssh_rendering.validate(hosts)
    known = read_lines(ssh.known_hosts)
    hosts = without_revoked(hosts, known)
    by_name = {host.name for host in hosts if trust_of(host, known) is Trust.BY_NAME}
    here = folder.resolve()
    config = here / "ssh_config"
    places = ssh_rendering.Places(pinned=here / "known_hosts", extra=here / "known_hosts_extra", key_file=ssh.key_file)
    inventory: JsonObject = rendering.render(
        hosts, groups, group_variables=group_variables, become_password=become_password, ssh_config=config
    )
    files = {
        here / "hosts.json": json.dumps(inventory, indent=1, sort_keys=True) + "\n",
        config: ssh_rendering.client_config(hosts, ssh, places, by_name),
        places.pinned: ssh_rendering.known_hosts(hosts),
        places.extra: ssh.known_hosts.rstrip("\n") + "\n" if ssh.known_hosts.strip() else "",
        here / "ansible.cfg": _settings(config, roles_path, become=become),
    }
    try:
        here.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text)
    except OSError as error:
        raise SettingsError(
            f"Cannot write the inventory into {folder}: {error.strerror or error}.", next_step="Name another folder."
        ) from error
    return tuple(files)


def _settings(config: Path, roles_path: Sequence[Path], *, become: bool) -> str:
    roles = [f"roles_path = {':'.join(map(str, roles_path))}"] if roles_path else []
    return "\n".join(
        [
            "[defaults]",
            "inventory = hosts.json",
            "host_key_checking = True",
            f"interpreter_python = {PYTHON_OF_HOSTS}",
            f"lookup_plugins = {PLUGINS / 'lookup'}",
            "retry_files_enabled = False",
            *roles,
            "[inventory]",
            "enable_plugins = yaml",
            "[ssh_connection]",
            "pipelining = True",
            f"ssh_args = -F {config} -o ControlMaster=auto -o ControlPersist=60s",
            "[privilege_escalation]",
            f"become = {become}",
            "",
        ]
    )
