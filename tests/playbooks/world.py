"""The example estate on the machines of a lab, configured by plain Ansible: nothing of the library stands between a
playbook and the test that judges it."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import yaml

from ismgr_automation import shipped
from ismgr_automation.core.address import group as group_address
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ansible.engine import AnsibleEngine
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.engines.testinfra.verifier import TestinfraVerifier
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, PlaybookRequest, Ssh
from ismgr_automation.ports.verification import SuiteRequest, Verdict

DEADLINE = timedelta(minutes=5)
SECRETS = {"postgresql/app": "app: \\ 'quoted' \"$HOME\" `x` #1", "postgresql/replication": "stream:\\ing #2"}
"""Passwords that would break a careless template."""


def moved(lab: Lab, text: str) -> str:
    """Text of the example with the addresses of the demo's lab as those of this one."""
    found = text
    for number, segment in enumerate((Segment.MANAGEMENT, Segment.DC1, Segment.DC2, Segment.WAN)):
        prefix = str(lab.topology.network(segment).network_address).removesuffix("0")
        found = found.replace(f"10.4{number}.0.", prefix.replace("10.", "10.~", 1))
    return found.replace("~", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What a playbook did, or in check mode would do: pairs of host and task that changed, and messages of failures."""

    changed: frozenset[tuple[str, str]]
    failed: Mapping[str, str]
    output: str


def read(output: str) -> Play:
    """What Ansible's own output says."""
    changed, failed, task = set(), {}, ""
    for line in output.splitlines():
        if found := re.match(r"(?:TASK|RUNNING HANDLER) \[(?:[\w-]+ : )?(.*)\] \*", line):
            task = found[1]
        elif found := re.match(r"changed: \[([^\]]+)\](?! => \(item)", line):
            changed.add((found[1], task))
        elif found := re.match(r"fatal: \[([^\]]+)\]: \w+! => (.*)", line):
            failed[found[1]] = str(json.loads(found[2]).get("msg"))
    return Play(changed=frozenset(changed), failed=failed, output=output)


@dataclass(slots=True, kw_only=True)
class World:
    """A lab, and the example estate written for its addresses in ``estate``."""

    lab: Lab
    estate: Path
    work: Path
    groups: Mapping[str, JsonObject] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Copy the example, write the lab's machines and secrets into it, move its addresses to this lab's."""
        shutil.copytree(shipped.root() / "examples" / "two-sites", self.estate)
        self.lab.write(self.estate)
        for name, value in SECRETS.items():
            path = self.estate / ".secrets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(value + "\n")
        path = self.estate / "groups.yaml"
        path.write_text(moved(self.lab, path.read_text()))
        self.groups = {one["name"]: one for one in yaml.safe_load_all(path.read_text())}
        (self.estate / "inventory.yml").write_text(yaml.safe_dump(self.inventory()))

    def hosts(self, group: str = "") -> tuple[Host, ...]:
        """The machines of a host group, sorted by name; every machine without one."""
        role = {"nameservers": "gateway", "databases": "db", "webs": "web", "edges": "edge"}.get(group)
        return tuple(
            Host(
                name=one.name,
                address=str(one.management),
                origin="the lab",
                user="debian",
                labels={"role": str(one.role), "site": str(one.site)},
                host_keys=(self.lab.folder.host_key(one).read_text().strip(),),
                site=str(one.site),
                variables={"addresses": {str(plug.segment): str(plug.address) for plug in one.interfaces}},
            )
            for one in sorted(self.lab.topology.servers, key=lambda one: one.name)
            if role in (None, str(one.role))
        )

    def variables(self, group: str) -> JsonObject:
        """A host group's variables; a secret as the template that reads its file."""
        return self._open(self.groups[group]["variables"])

    def _open(self, value: Json) -> Json:
        if isinstance(value, Mapping) and set(value) == {"secret"}:
            path = self.estate / ".secrets" / str(value["secret"]).removeprefix("file:")
            return f"{{{{ lookup('ansible.builtin.file', '{path}') }}}}"
        if isinstance(value, Mapping):
            return {key: self._open(item) for key, item in value.items()}
        return value

    def inventory(self) -> JsonObject:
        """An ordinary Ansible inventory, host keys pinned."""
        known = f"-o UserKnownHostsFile={self.lab.folder.known_hosts} -o StrictHostKeyChecking=yes"
        hosts = {
            host.name: {"ansible_host": host.address, "ismgr_site": host.site, **host.variables}
            for host in self.hosts()
        }
        children: dict[str, dict[str, Json]] = {}
        for group in self.groups:
            names: Json = {host.name: {} for host in self.hosts(group)}
            children[group] = {"hosts": names, "vars": self.variables(group)}
            children[f"role_{self.hosts(group)[0].labels['role']}"] = {"hosts": names}
        common = {
            "ansible_user": "debian",
            "ansible_ssh_private_key_file": str(self.lab.folder.operator_key),
            "ansible_ssh_common_args": f"{known} -o ControlPersist=300 -o ControlPath={self.work}/%C",
            "ansible_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        return {"all": {"hosts": hosts, "vars": common, "children": children}}

    def play(self, group: str, *flags: str, limit: str = "", extra: JsonObject | None = None) -> Play:
        """Run the group's playbook on its hosts, or on one of them; ``flags`` such as ``--check`` go to Ansible."""
        playbook = str(self.groups[group]["playbook"]).removeprefix(shipped.PREFIX)
        command = [
            Path(sys.executable).with_name("ansible-playbook"),
            *("--inventory", self.estate / "inventory.yml", "--limit", limit or group, "--diff", *flags),
            *("--extra-vars", json.dumps(extra or {})),
            shipped.root() / playbook,
        ]
        done = subprocess.run(
            command,
            cwd=self.work,
            env=os.environ | {"ANSIBLE_HOME": str(self.work / "home"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE.total_seconds(),
        )
        play = read(done.stdout)
        assert done.returncode == 0 or play.failed, done.stdout + done.stderr
        return play

    def engine(self) -> AnsibleEngine:
        """The library's own way to run a playbook."""
        return AnsibleEngine(Backends({"file": PrivateFiles(root=self.estate / ".secrets")}))

    def request(self, group: str) -> PlaybookRequest:
        """A group's playbook on its hosts, as the library asks for it."""
        given = self.groups[group]["variables"]
        assert isinstance(given, Mapping)
        return PlaybookRequest(
            address=group_address(group),
            playbook=shipped.root() / str(self.groups[group]["playbook"]).removeprefix(shipped.PREFIX),
            root=self.estate,
            inventory=self.hosts(),
            groups={
                name: tuple(host.name for host in members)
                for one in self.groups
                for members in [self.hosts(one)]
                for name in (one, f"role_{members[0].labels['role']}")
            },
            limit=tuple(one.name for one in self.hosts(group)),
            variables={
                key: SecretRef.parse(str(value["secret"]))
                if isinstance(value, Mapping) and "secret" in value
                else value
                for key, value in given.items()
            },
            ssh=Ssh(key_file=self.lab.folder.operator_key),
            become=True,
            become_password=None,
            roles_path=(),
            deadline=DEADLINE,
        )

    def context(self) -> Context:
        """A context of one call."""
        folder = self.work / f"call-{next(self._numbers)}"
        folder.mkdir()
        return Context(work=folder)

    def verify(self, group: str, *suites: str) -> Mapping[str, str]:
        """Run a group's suites, or the given ones, on its hosts; what did not pass with its message."""
        names: Sequence[str] = suites or [str(one) for one in self.groups[group]["verify"]]
        paths = [
            shipped.root() / name.removeprefix(shipped.PREFIX)
            if name.startswith(shipped.PREFIX)
            else self.estate / name
            for name in names
        ]
        folder = self.work / f"verify-{next(self._numbers)}"
        folder.mkdir()
        request = SuiteRequest(
            suites=tuple(paths),
            hosts=self.hosts(group),
            inventory=self.hosts(),
            variables=self.groups[group]["variables"],
            ssh=Ssh(key_file=self.lab.folder.operator_key),
            become=True,
            root=self.estate,
            deadline=DEADLINE,
        )
        context = Context(work=folder)
        found = TestinfraVerifier(Backends.from_json({})).verify(request, context)
        assert found
        return {f"{one.host} {one.check}": one.message for one in found if one.verdict is not Verdict.PASSED}
