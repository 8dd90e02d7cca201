"""From an estate and its settings to what stands behind the ports. No engine is started."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation import wiring
from ismgr_automation.converge.scope import Mode, Scope, Selection
from ismgr_automation.core.address import group
from ismgr_automation.core.errors import EngineFailed, InputError, SettingsError
from ismgr_automation.estate.load import load
from ismgr_automation.estate.resolve import environment as choose
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import MemorySource
from ismgr_automation.ports.patching import VersionKey, Waiting
from ismgr_automation.wiring import TreeContent
from ismgr_automation.wiring_records import Records
from tests.rehearsal import FILES


def wire(folder: Path, environment: str | None = None, mode: Mode = Mode.PLAN, **documents: str) -> Scope:
    files = {**FILES, **{name.replace("__", "/").replace("_yaml", ".yaml"): text for name, text in documents.items()}}
    folder.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    tree = MemorySource(files).checkout("HEAD", folder / "tree")
    estate, said = load(tree.root, tree.objects)
    assert estate is not None, said
    return wiring.wire(
        estate,
        tree,
        directory=folder,
        environment=environment,
        context=Context(work=folder),
        selection=Selection(),
        mode=mode,
    )


def settings(text: str) -> str:
    return f"kind: Estate\nname: e\nowner: platform\n{text}\n"


def test_what_is_kept_between_runs_is_relative_to_the_estate_and_not_to_the_laid_out_tree(tmp_path: Path) -> None:
    scope = wire(tmp_path)
    assert scope.state == f"file://{tmp_path}/.ismgr/state"
    assert (tmp_path / ".ismgr/state").is_dir()
    scope.engines.ledger.record(group("webs"), "sha256:1", "abc")
    assert (tmp_path / ".ismgr/ismgr.db").is_file()
    assert scope.environment_name == "lab"


def test_the_ledger_of_each_environment_is_its_own(tmp_path: Path) -> None:
    wire(tmp_path).engines.ledger.record(group("webs"), "sha256:1", "abc")
    assert wire(tmp_path).engines.ledger.applied(group("webs")) == "sha256:1"
    assert wire(tmp_path, "other").engines.ledger.applied(group("webs")) is None


def test_an_absolute_database_and_a_remote_state_are_taken_as_they_are(tmp_path: Path) -> None:
    where = tmp_path / "elsewhere" / "x.db"
    text = settings(f"environments: {{a: {{state: 's3://bucket/x', database: 'sqlite:///{where}'}}}}")
    scope = wire(tmp_path / "in", estate_yaml=text)
    assert scope.state == "s3://bucket/x"
    scope.engines.ledger.record(group("webs"), "sha256:1", "abc")
    assert where.is_file()


def test_a_database_that_is_not_supported_is_refused_without_its_password(tmp_path: Path) -> None:
    text = settings("environments: {a: {database: 'postgresql://u:canary@h/db'}}")
    with pytest.raises(SettingsError, match="postgresql") as caught:
        wire(tmp_path, estate_yaml=text)
    assert "canary" not in str(caught.value)


def test_who_plans_opens_the_database_with_credentials_of_planning(tmp_path: Path) -> None:
    text = settings(
        "environments: {a: {database: 'postgresql://u:{secret}@192.0.2.1/db', database_password: {secret: 'kept:db'}, "
        "plan_credentials: {secrets: {kept: {kind: file, root: plan-secrets}}}}}\n"
        "secrets: {kept: {kind: file, root: apply-secrets}}"
    )
    (tmp_path / "plan-secrets").mkdir()
    (tmp_path / "plan-secrets" / "db").write_text("read-only")
    (tmp_path / "plan-secrets" / "db").chmod(0o600)
    assert wire(tmp_path, estate_yaml=text).environment_name == "a"
    with pytest.raises(InputError, match="kept:db"):
        wire(tmp_path, mode=Mode.APPLY, estate_yaml=text)


@pytest.mark.parametrize(
    ("environments", "asked", "words"),
    [
        ("{a: {}, b: {}}", None, "no default"),
        ("{lab: {}}", "lba", "did you mean 'lab'"),
    ],
)
def test_an_environment_that_cannot_be_told_is_refused(
    tmp_path: Path, environments: str, asked: str | None, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        wire(tmp_path, asked, estate_yaml=settings(f"environments: {environments}"))


def test_known_hosts_are_read_even_with_an_odd_byte(tmp_path: Path) -> None:
    text = settings("environments: {a: {}}\nssh: {known_hosts: known}")
    files = {**FILES, "estate.yaml": text, "known": "h ssh-ed25519 AAAA\n"}
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    tree = MemorySource(files).checkout("HEAD", tmp_path / "tree")
    (tree.root / "known").write_bytes(b"h ssh-ed25519 AAAA \xff\n")
    estate, _ = load(tree.root, tree.objects)
    assert estate is not None
    scope = wiring.wire(
        estate,
        tree,
        directory=tmp_path,
        environment=None,
        context=Context(work=tmp_path),
        selection=Selection(),
    )
    assert scope.ssh.known_hosts.startswith("h ssh-ed25519 AAAA")


FILES_OF_CONTENT = {
    "playbooks/web.yml": "1",
    "playbooks/roles/web/tasks/main.yml": "1",
    "playbooks-old/web.yml": "1",
    "stacks/a/__main__.py": "1",
    "stacks/ab/__main__.py": "1",
    "site.yml": "1",
}


def content(folder: Path, **edits: str) -> TreeContent:
    files = {**FILES_OF_CONTENT, **{name.replace("__", "/"): text for name, text in edits.items()}}
    return TreeContent(tree=MemorySource(files).checkout(None, folder))


@pytest.mark.parametrize(
    ("name", "edited", "moves"),
    [
        ("playbooks/web.yml", "playbooks/roles/web/tasks/main.yml", True),
        ("playbooks/web.yml", "playbooks-old/web.yml", False),
        ("playbooks/web.yml", "stacks/a/__main__.py", False),
        ("stacks/a", "stacks/a/__main__.py", True),
        ("stacks/a", "stacks/ab/__main__.py", False),
        ("stacks/a/", "stacks/a/__main__.py", True),
        ("./stacks/a", "stacks/a/__main__.py", True),
        ("site.yml", "stacks/a/__main__.py", True),
    ],
)
def test_a_digest_follows_what_lies_beside_and_below_and_nothing_else(
    tmp_path: Path, name: str, edited: str, moves: bool
) -> None:
    before = TreeContent(tree=MemorySource(FILES_OF_CONTENT).checkout(None, tmp_path / "a"))
    after = TreeContent(tree=MemorySource({**FILES_OF_CONTENT, edited: "2"}).checkout(None, tmp_path / "b"))
    assert (before.digest(name) != after.digest(name)) is moves


def test_the_digest_of_content_does_not_depend_on_where_it_was_laid_out(tmp_path: Path) -> None:
    assert content(tmp_path / "a").digest("stacks/a") == content(tmp_path / "b").digest("stacks/a")


def test_shipped_content_has_a_digest_and_a_place(tmp_path: Path) -> None:
    here = content(tmp_path)
    assert here.path("ismgr:playbooks/roles").is_dir()
    assert here.digest("ismgr:playbooks/roles") == here.digest("ismgr:playbooks/roles")
    assert here.digest("ismgr:playbooks/roles") != here.digest("ismgr:stacks/servers")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "ismgr:../x", "ismgr:tests/x"])
def test_content_that_leaves_its_folder_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        content(tmp_path).path(name)


def test_a_ledger_that_cannot_be_opened_is_told_when_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / ".ismgr").mkdir()
    (tmp_path / ".ismgr/ismgr.db").write_text("this is no database, whatever it says" * 100)
    scope = replace(wire(tmp_path), workers=1)
    with pytest.raises(EngineFailed, match=r"ismgr\.db"):
        scope.engines.ledger.applied(group("webs"))


def test_what_patching_remembers_is_of_one_environment_and_versions_are_of_the_estate(tmp_path: Path) -> None:
    lab, other = records(tmp_path, None), records(tmp_path, "other")
    key, noon = VersionKey(source="Debian/openssl", version="3", digest="sha256:1"), datetime(2026, 11, 2, tzinfo=UTC)
    assert (lab.first_seen.see([key], noon), other.first_seen.known([key])) == (1, {key: noon})
    lab.patches.enqueue([Waiting(host="a", baseline="b", since=noon, expires_at=noon)])
    assert ([one.host for one in lab.patches.waiting()], other.patches.waiting()) == (["a"], ())


def records(folder: Path, environment: str | None) -> Records:
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    tree = MemorySource(FILES).checkout("HEAD", folder / "tree")
    estate, said = load(tree.root, tree.objects)
    assert estate is not None, said
    return Records(estate=estate, chosen=choose(estate.document, environment), directory=folder, tree=tree.root)
