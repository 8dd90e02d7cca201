"""Planning has credentials of its own: other users, other keys, other backends; no secret of an apply is opened."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation import wiring
from ismgr_automation.converge.fleet import probe
from ismgr_automation.converge.scope import Mode, Scope, Selection
from ismgr_automation.converge.secrets import unprotected, used_by
from ismgr_automation.core.address import stack
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import Environment, EstateDocument, PlanCredentials
from ismgr_automation.estate.load import load
from ismgr_automation.estate.resolve import as_user, become_password, secret_backends, ssh
from ismgr_automation.planning.change import Level
from ismgr_automation.planning.fleet import Fleet, Sighting
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, PlaybookEngine, PlaybookRequest, PlaybookResult, Reach
from ismgr_automation.ports.memory import MemorySecretStore, MemorySource
from ismgr_automation.ports.secrets import SecretStore
from tests.engines.loopback import Loopback, keygen, serve
from tests.fixtures_lab import until
from tests.rehearsal import Rehearsal

LOOKER = "ismgr-looker"


def credentials(**fields: Any) -> PlanCredentials:
    return PlanCredentials.model_validate(fields)


OWN = EstateDocument.model_validate(
    {
        "kind": "Estate",
        "name": "x",
        "owner": "ops",
        "environments": {"one": {}},
        "secrets": {
            "file": {"kind": "file", "root": ".secrets"},
            "vault": {"kind": "vault", "address": "https://vault:8200", "token": {"secret": "env:T"}, "ca": "ca.pem"},
            "sealed": {
                "kind": "ansible-vault",
                "files": ["vars/vault.yaml"],
                "password": {"secret": "file:p"},
                "passwords": {"prod": {"secret": "file:q"}},
            },
        },
        "ssh": {"user": "debian", "key": {"secret": "file:key"}, "become_password": {"secret": "file:sudo"}},
    }
)


def test_only_the_backends_that_plan_credentials_name_are_replaced():
    plan = credentials(
        secrets={
            "vault": {
                "kind": "vault",
                "address": "https://vault:8200",
                "role_id": "r",
                "secret_id": {"secret": "env:S"},
            }
        }
    )
    own = secret_backends(OWN, Path("/estate"), None, tree=Path("/tree"))
    found = secret_backends(OWN, Path("/estate"), plan, tree=Path("/tree"))
    assert {name for name in own if own[name] != found[name]} == {"vault"}
    assert found["vault"]["role_id"] == "r"
    assert "token" not in found["vault"]


def test_private_files_are_below_the_working_folder_and_what_git_has_is_in_the_tree():
    found = secret_backends(OWN, Path("/estate"), None, tree=Path("/tree"))
    assert found["file"]["root"] == "/estate/.secrets"
    assert found["sealed"]["files"] == ["/tree/vars/vault.yaml"]
    assert found["vault"]["ca"] == "/tree/ca.pem"
    assert found["sealed"]["passwords"] == {"prod": {"secret": "file:q"}}


@pytest.mark.parametrize(
    ("plan", "key", "sudo"),
    [
        (None, "file:key", "file:sudo"),
        (credentials(), "file:key", "file:sudo"),
        (credentials(key={"secret": "env:K"}), "env:K", "file:sudo"),
        (credentials(user="looker"), "file:key", None),
        (credentials(user="looker", become_password={"secret": "env:P"}), "file:key", "env:P"),
    ],
    ids=["an apply", "nothing of its own", "a key", "a user", "a user with a password"],
)
def test_key_and_password_for_sudo_are_those_of_who_logs_in(plan, key, sudo):
    assert str(ssh(OWN.ssh, "", plan).key) == key
    found = become_password(OWN.ssh, plan)
    assert (str(found) if found is not None else None) == sudo


def test_another_user_logs_in_nowhere_with_what_an_inventory_says_of_the_first():
    host = Host(
        name="db1",
        address="192.0.2.1",
        origin="inventory",
        user="debian",
        variables={"ansible_become_password": SecretRef("file", "sudo"), "ansible_user": "debian", "role": "db"},
    )
    (found,) = as_user([host], credentials(user="looker"))
    assert (found.user, dict(found.variables)) == ("looker", {"role": "db"})
    assert as_user([host], credentials(key={"secret": "env:K"})) == (host,)
    assert as_user([host], None) == (host,)


@dataclass(frozen=True, slots=True)
class Opening:
    """A playbook engine that opens the secrets of a request, as a real one does when tasks ask."""

    engine: PlaybookEngine
    store: SecretStore

    def check(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        self._open(request)
        return self.engine.check(request, context)

    def run(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        self._open(request)
        return self.engine.run(request, context)

    def read_inventory(self, path: Path, root: Path) -> tuple[Host, ...]:
        return self.engine.read_inventory(path, root)

    def _open(self, request: PlaybookRequest) -> None:
        for value in (*request.variables.values(), request.become_password, request.ssh.key):
            if isinstance(value, SecretRef):
                self.store.open(value)


@dataclass(slots=True, kw_only=True)
class TwoStores(Rehearsal):
    """A rehearsal with a store for planning and a store for applying."""

    stores: dict[Mode, MemorySecretStore] = field(
        default_factory=lambda: {
            mode: MemorySecretStore({"env:APP": f"app-{mode}", "env:PASSPHRASE": "p"}) for mode in Mode
        }
    )

    def wire(self, *arguments: Any, mode: Mode = Mode.PLAN, **named: Any) -> Scope:
        scope = Rehearsal.wire(self, *arguments, mode=mode, **named)
        store = self.stores[mode]
        playbooks = Opening(scope.engines.playbooks, store)
        return replace(scope, engines=replace(scope.engines, playbooks=playbooks, secrets=store))

    @property
    def touched(self) -> set[Mode]:
        """The stores that were asked for anything."""
        return {mode for mode, store in self.stores.items() if store.opened or store.versioned}

    def forget(self) -> None:
        for store in self.stores.values():
            store.opened.clear()
            store.versioned.clear()


@pytest.fixture
def site(tmp_path: Path) -> TwoStores:
    made = TwoStores(folder=tmp_path)
    with made.open() as estate:
        report = estate.apply(estate.plan())
        assert report.ok, report
    made.forget()
    return made


def test_plan_and_drift_open_no_secret_of_an_apply(site):
    site.world.playbooks["web.yml"] = site.world.playbooks["web.yml"][:1]
    site.versions["playbooks/web.yml"] = "2"
    with site.open() as estate:
        estate.plan()
        estate.drift()
    assert site.touched == {Mode.PLAN}


def test_the_second_look_of_an_apply_has_the_credentials_of_planning(site):
    site.versions["playbooks/web.yml"] = "2"
    with site.open() as estate:
        planned = estate.plan()
        site.forget()
        site.stores[Mode.PLAN] = MemorySecretStore({"env:APP": "rotated", "env:PASSPHRASE": "p"})
        with pytest.raises(StalePlan, match="env:APP"):
            estate.apply(planned)
    assert site.touched == {Mode.PLAN}


def test_an_apply_opens_what_it_writes_with_its_own_credentials(site):
    site.versions["playbooks/web.yml"] = "2"
    with site.open() as estate:
        planned = estate.plan()
        site.forget()
        assert estate.apply(planned).ok
    assert SecretRef("env", "APP") in site.stores[Mode.APPLY].opened


def test_values_are_inputs_of_a_plan_and_what_opens_doors_is_not(tmp_path):
    site = Rehearsal(folder=tmp_path)
    site.edit(
        "stacks.yaml",
        "config: {",
        'config: {token: {secret: "env:TOKEN"}, bmc: {password: {secret: "env:BMC"}}, ',
    )
    documents = site.scope().estate
    host = Host(
        name="h",
        address="192.0.2.1",
        origin="inventory",
        variables={"ansible_password": SecretRef("env", "LOGIN"), "license": SecretRef("env", "LICENSE")},
    )
    found = used_by(documents, documents.stacks, documents.groups, [host])
    assert {str(ref): str(user) for ref, user in found.items()} == {
        "env:TOKEN": "stack/names",
        "env:APP": "group/webs",
        "env:LICENSE": "host/h",
    }
    assert used_by(documents, [], ["databases"], []) == {}


def test_an_environment_without_a_passphrase_gets_a_warning():
    found = unprotected("lab", Environment(), stack("names"))
    assert found is not None
    assert found.level is Level.WARN
    assert "environment lab has no passphrase" in found.summary
    kept = Environment.model_validate({"passphrase": {"secret": "env:P"}})
    assert unprotected("lab", kept, stack("names")) is None


@pytest.fixture(scope="module")
def other_user() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("only root may add a user to log in as")
    add = ["useradd", "--system", "--no-create-home", "--shell", "/bin/sh", "--password", "*", LOOKER]
    subprocess.run(["userdel", LOOKER], check=False, capture_output=True)
    subprocess.run(add, check=True, capture_output=True)
    yield LOOKER
    subprocess.run(["userdel", LOOKER], check=True, capture_output=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Loopback]:
    """It reads the keys of each user as root: the folders of tests are closed to others."""
    keys = f"AuthorizedKeysCommand /bin/cat {tmp_path}/server/keys-%u\nAuthorizedKeysCommandUser root\n"
    with serve(tmp_path / "server", keys) as running:
        yield running


def test_planning_logs_in_as_its_own_user_with_its_own_key_on_a_real_server(tmp_path, server, other_user):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    plan_secrets = tmp_path / ".secrets-plan"
    plan_secrets.mkdir()
    (server.folder / f"keys-{other_user}").write_text(keygen(plan_secrets / "operator") + "\n")
    text = f"""\
kind: Estate
name: x
owner: ops
environments:
  one:
    plan_credentials:
      user: {other_user}
      secrets: {{file: {{kind: file, root: .secrets-plan}}}}
secrets: {{file: {{kind: file, root: server/secrets}}}}
ssh: {{user: root, key: {{secret: "file:operator"}}}}
"""
    tree = MemorySource({"estate.yaml": text, "team.yaml": "kind: Team\nname: ops\n"}).checkout(None, tmp_path / "tree")
    documents, diagnostics = load(tree.root, tree.objects)
    assert documents is not None, diagnostics
    host = replace(server.host("db1"), user="root")
    fleet = Fleet(sightings=(Sighting(host=host),), membership={}, unbounded=())
    for mode, user in ((Mode.PLAN, other_user), (Mode.APPLY, "root")):
        (tmp_path / mode).mkdir()
        scope = wiring.wire(
            documents,
            tree,
            directory=tmp_path,
            environment=None,
            context=Context(work=tmp_path / mode),
            selection=Selection(),
            mode=mode,
        )
        found = probe(replace(scope, ssh=replace(scope.ssh, connect_timeout=timedelta(seconds=60))), [host], fleet)
        log = server.folder / "sshd.log"
        assert found["db1"].reach is Reach.OK, (mode, found, log.read_text())
        # sshd lets the client in before it writes it down
        until("the login is written down", lambda: f"Accepted publickey for {user} " in log.read_text())  # noqa: B023
        assert log.read_text().count(f"Accepted publickey for {user} ") == 1, log.read_text()
    # nobody can log in with the key of the other mode
    log = (server.folder / "sshd.log").read_text()
    assert log.count("Accepted publickey") == 2
