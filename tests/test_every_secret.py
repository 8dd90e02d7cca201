"""A secret of every kind of input goes through real engines, and stays out of everything that runs print and keep."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.canaries import patterns, search
from tests.engines.loopback import Loopback, keygen, serve
from tests.engines.secrets.vault_double import VaultDouble, serving

pytestmark = pytest.mark.engine

FILES: Mapping[str, str] = {
    "passphrase": "canary-every-passphrase",
    "app": 'canary-every-file-"quoted"-$value',
    "bmc": "canary-every-bmc",
    "tsig": "Y2FuYXJ5LWV2ZXJ5LXRzaWctMTIzNDU2Nzg5MDEyMw==",
    "sudo": "canary-every-sudo",
    "login": "canary-every-inventory-login",
    "vault-password": "canary-every-vault-password",
}
IN_VAULT = "canary-every-vault-field"
ROTATED = "canary-every-new-vault-field"
SEALED = "canary-every-sealed-value"
VARIABLES: Mapping[str, str] = {"CANARY_ENV_APP": "canary-every-variable", "CANARY_ENV_TOKEN": "canary-every-token"}
COMMENT = "canary-every-key-comment"
ALL = (*FILES.values(), IN_VAULT, ROTATED, SEALED, *VARIABLES.values(), COMMENT)

NAME = f"every-{uuid4().hex[:8]}"
"""This machine is the host: it remembers the greatest token of each estate that ever worked on it."""

PROGRAM = """\
import pulumi

config = pulumi.Config()
names = ("plain", "sealed", "remote", "variable")
assert all(config.get(name) for name in names)
pulumi.export("hosts", config.require_object("hosts"))
pulumi.export("joined", pulumi.Output.secret(" ".join(config.get(name) for name in names)))
pulumi.export("bmc", config.require_object("bmc"))
"""

PLAYBOOK = """\
- hosts: webs
  gather_facts: false
  tasks:
    - name: Write them
      ansible.builtin.template: {src: page.j2, dest: "{{ target }}/page", mode: "0600"}
    - name: "Say {{ plain }}"
      ansible.builtin.debug: {msg: "{{ sealed }} {{ remote | b64encode }} {{ variable | to_json }}"}
    - name: Give them to a command
      ansible.builtin.command: {cmd: cat, stdin: "{{ plain }} {{ remote }}"}
      changed_when: false
    - name: Fail with all of them
      ansible.builtin.fail: {msg: "{{ [plain, sealed, remote, variable] }}"}
      when: failing | default(false)
"""


@dataclass(slots=True, kw_only=True)
class Place:
    """An estate with real engines, and everything that its commands said."""

    folder: Path
    environment: Mapping[str, str]
    said: list[str] = field(default_factory=list)

    def ismgr(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "ismgr_automation.cli", "--json", "-C", str(self.folder), *words],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said += [done.stdout, done.stderr]
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        commit(self.folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with serve(tmp_path_factory.mktemp("every")) as running:
        yield running


@pytest.fixture(scope="module")
def vault() -> Iterator[VaultDouble]:
    from tests.engines.secrets.vault_double import Token

    with serving(VaultDouble()) as double:
        double.put("db/app", password=IN_VAULT)
        double.tokens[VARIABLES["CANARY_ENV_TOKEN"]] = Token(reads=("secret/",))
        yield double


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, server: Loopback, vault: VaultDouble, pulumi_engine_path: Path
) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("estate")
    folder, target = base / "estate", base / "target"
    target.mkdir()
    for name, text in documents(server, vault, target).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    kept = folder / ".secrets"
    kept.mkdir(mode=0o700)
    public = login_key(kept / "operator")
    keygen(kept / "runner")
    with (server.folder / "authorized_keys").open("a") as accepted:
        accepted.write(" ".join(public.split()[:2]) + "\n")
    for name, value in FILES.items():
        (kept / name).write_text(value)
    for path in kept.iterdir():
        path.chmod(0o600)
    seal(folder / "vars" / "vault.yaml", f"db: {{app: {SEALED}}}\n", FILES["vault-password"])
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    commit(folder)
    yield Place(folder=folder, environment={**os.environ, **VARIABLES, "ISMGR_ENGINE": str(pulumi_engine_path)})
    forget_the_fence()


def forget_the_fence() -> None:
    """Take our line out of the file that a host keeps, as one who works on it would: under its lock."""
    folder = Path("/var/lib/ismgr") if os.geteuid() == 0 else Path.home() / ".ismgr"
    if not (folder / "fence.json").exists():
        return
    with (folder / "fence.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = (folder / "fence.json").read_text().splitlines(keepends=True)
        (folder / "fence.new").write_text("".join(one for one in lines if f'"{NAME}/' not in one))
        (folder / "fence.new").replace(folder / "fence.json")


def login_key(path: Path) -> str:
    """A private key whose comment is a secret as well: some people write a password there. Returns its public half."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519", comment=COMMENT)
    path.write_bytes(key.export_private_key())
    return str(key.export_public_key().decode())


def documents(server: Loopback, vault: VaultDouble, target: Path) -> Mapping[str, str]:
    host = {
        "name": "web1",
        "address": "127.0.0.1",
        "port": server.port,
        "labels": {"role": "web"},
        "host_keys": [server.host_key],
    }
    values = (
        '{plain: {secret: "file:app"}, sealed: {secret: "sealed:db.app"}, '
        'remote: {secret: "vault:db/app#password"}, variable: {secret: "env:CANARY_ENV_APP"}'
    )
    return {
        ".gitignore": ".secrets\n.ismgr\n",
        "estate.yaml": f"""\
kind: Estate
name: {NAME}
owner: ops
environments:
  lab:
    passphrase: {{secret: "file:passphrase"}}
    evidence: {{runner_key: {{secret: "file:runner"}}}}
secrets:
  file: {{kind: file, root: .secrets}}
  sealed: {{kind: ansible-vault, files: [vars/vault.yaml], password: {{secret: "file:vault-password"}}}}
  vault: {{kind: vault, address: "{vault.address}", token: {{secret: "env:CANARY_ENV_TOKEN"}}}}
ssh: {{user: root, key: {{secret: "file:operator"}}, become_password: {{secret: "file:sudo"}}}}
inventories: [hosts.ini]
""",
        "team.yaml": "kind: Team\nname: ops\n",
        "stacks.yaml": f"""\
kind: Stack
name: servers
program: programs/servers
hosts: hosts
outputs: {{hosts: {{type: hosts}}, joined: {{type: string, secret: true}}, bmc: {{type: object}}}}
config: {values}, hosts: {json.dumps([host])},
  bmc: {{password: {{secret: "file:bmc"}}, key_secret_ref: "file:tsig"}}}}
""",
        "groups.yaml": f"""\
kind: HostGroup
name: webs
selector: host.name == "web1"
playbook: playbooks/web.yml
variables: {values}, target: "{target}"}}
""",
        "hosts.ini": (
            "other1 ansible_host=192.0.2.9 ansible_become_password=\"{{ lookup('ismgr_secret', 'file:login') }}\"\n"
        ),
        "programs/servers/Pulumi.yaml": "name: servers\nruntime: python\n",
        "programs/servers/__main__.py": PROGRAM,
        "playbooks/web.yml": PLAYBOOK,
        "playbooks/page.j2": "{{ plain }} {{ sealed }} {{ remote }} {{ variable }}\n",
    }


def seal(path: Path, text: str, password: str) -> None:
    from ansible.parsing.vault import VaultLib, VaultSecret

    path.parent.mkdir()
    path.write_bytes(VaultLib([("default", VaultSecret(password.encode()))]).encrypt(text))


def commit(folder: Path) -> None:
    who = ["-c", "user.name=an author", "-c", "user.email=author@example.org"]
    subprocess.run(["git", "-C", str(folder), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(folder), *who, "commit", "--quiet", "-m", "Change"], check=True)


def left_by(place: Place) -> list[str]:
    """Where a canary is: files that the runs left, and lines that they printed."""
    found = [str(one) for one in search([place.folder], patterns(ALL))]
    wanted = [one.decode() for one in patterns(ALL)]
    return found + [line for text in place.said for line in text.splitlines() if any(one in line for one in wanted)]


def test_every_secret_can_be_opened(place: Place) -> None:
    code, result = place.ismgr("secrets", "check")
    assert code == 0, result
    assert {one["reference"].partition(":")[0] for one in result["secrets"]} == {"file", "sealed", "vault", "env"}


def test_a_plan_and_an_apply_use_them_all_and_keep_none(place: Place) -> None:
    code, result = place.ismgr("apply", "--yes")
    assert code == 0, {key: result.get(key) for key in ("reason", "summary", "next_step", "stopped")}
    page = (place.folder.parent / "target" / "page").read_text()
    assert page == f"{FILES['app']} {SEALED} {IN_VAULT} {VARIABLES['CANARY_ENV_APP']}\n"
    assert left_by(place) == []


def test_a_secret_that_was_rotated_makes_the_plan_stale_and_drift_shows_no_value(
    place: Place, vault: VaultDouble
) -> None:
    page = place.folder.parent / "target" / "page"
    page.write_text(f"changed by hand {IN_VAULT}\n")
    code, _ = place.ismgr("drift")
    assert code == 2, place.said[-2:]
    code, _ = place.ismgr("plan", "--out", str(place.folder / "plan.json"))
    assert code == 2
    vault.put("db/app", password=IN_VAULT)
    code, result = place.ismgr("apply", str(place.folder / "plan.json"), "--yes")
    assert (code, result.get("reason")) == (3, "stale-plan"), result
    assert "vault:db/app#password" in json.dumps(result)
    assert left_by(place) == []


def test_a_plan_shows_neither_the_secret_that_comes_nor_the_one_that_goes(place: Place, vault: VaultDouble) -> None:
    page = place.folder.parent / "target" / "page"
    page.write_text(f"{FILES['app']} {SEALED} {IN_VAULT} {VARIABLES['CANARY_ENV_APP']}\n")
    vault.put("db/app", password=ROTATED)
    code, _ = place.ismgr("plan", "--out", str(place.folder / "plan.json"))
    assert code == 2
    vault.put("db/app", password=IN_VAULT)
    assert page.name in (place.folder / "plan.json").read_text()
    assert left_by(place) == []


def test_a_run_that_fails_with_all_of_them_in_its_message_tells_none(place: Place) -> None:
    place.edit("groups.yaml", "target:", "failing: true, target:")
    code, result = place.ismgr("apply", "--yes")
    assert code == 5, result
    assert "<secret>" in json.dumps(result) or "<secret>" in "".join(place.said)
    assert left_by(place) == []


def test_what_is_shown_and_exported_of_the_runs_holds_none(place: Place) -> None:
    code, result = place.ismgr("runs")
    assert code == 0
    run = result["runs"][0]["run"]
    wanted = {"runs": ["show", run], "audit": ["show"], "report": [run, "--out", str(place.folder / "report.html")]}
    for verb, words in wanted.items():
        code, _ = place.ismgr(verb, *words)
        assert code == 0, (verb, place.said[-2:])
    code, _ = place.ismgr("audit", "export", run, "--out", str(place.folder / "evidence"))
    assert code == 0, place.said[-2:]
    assert "<secret>" in (place.folder / "report.html").read_text().replace("&lt;", "<").replace("&gt;", ">")
    assert left_by(place) == []
    for name in ("report.html", "evidence", ".ismgr"):
        assert (place.folder / name).exists()
    assert len([one for one in (place.folder / ".ismgr").rglob("*") if one.is_file()]) > 5
