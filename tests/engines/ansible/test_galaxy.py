"""Galaxy requirements: exactly what is locked is installed, from archives and commits, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.engines.ansible.galaxy import install, lock, lock_path

TASKS = "- ansible.builtin.debug: {msg: hello}\n"


def collection(folder: Path, name: str, version: str = "1.0.0", **more: object) -> Path:
    """A collection's source folder."""
    folder.mkdir(parents=True, exist_ok=True)
    info = {"namespace": "acme", "name": name, "version": version, "readme": "README.md", "authors": ["a"], **more}
    (folder / "galaxy.yml").write_text(yaml.safe_dump(info))
    (folder / "README.md").write_text("x")
    (folder / "roles" / "hello" / "tasks").mkdir(parents=True, exist_ok=True)
    (folder / "roles" / "hello" / "tasks" / "main.yml").write_text(TASKS)
    return folder


def built(source: Path, into: Path) -> Path:
    tool = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run(
        [tool, "collection", "build", "--force", "--output-path", into, source], check=True, capture_output=True
    )
    (archive,) = into.glob(f"acme-{source.name}-*.tar.gz")
    return archive


def committed(folder: Path) -> str:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(folder), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Two archives and a repository of each kind, made once."""
    place = tmp_path_factory.mktemp("galaxy")
    repository = collection(place / "src" / "fromgit", "fromgit")
    role = place / "src" / "role"
    (role / "tasks").mkdir(parents=True)
    (role / "tasks" / "main.yml").write_text(TASKS)
    with tarfile.open(place / "rolefile.tar.gz", "w:gz") as archive:
        archive.add(role, "rolefile-1.0")
    return {
        "tools": built(collection(place / "src" / "tools", "tools"), place),
        "needy": built(collection(place / "src" / "needy", "needy", dependencies={"acme.tools": ">=1.0.0"}), place),
        "rolefile": place / "rolefile.tar.gz",
        "repository": repository,
        "commit": committed(repository),
        "role": role,
        "role_commit": committed(role),
    }


@pytest.fixture
def estate(tmp_path: Path, sources: dict[str, object]) -> Path:
    (tmp_path / "tools.tar.gz").write_bytes(Path(str(sources["tools"])).read_bytes())
    return tmp_path


def require(estate: Path, **body: object) -> Path:
    path = estate / "requirements.yml"
    path.write_text(yaml.safe_dump(body))
    return path


def locked(estate: Path, **body: object) -> Path:
    path = require(estate, **body)
    lock_path(path).write_text(lock(path))
    return path


FILE = {"name": "tools.tar.gz", "type": "file"}


def test_archives_and_commits_are_locked_and_installed_and_the_second_time_costs_nothing(estate, sources):
    path = locked(
        estate,
        collections=[
            FILE,
            {"name": f"file://{sources['needy']}"},
            {"name": str(sources["repository"]), "type": "git", "version": sources["commit"]},
        ],
        roles=[
            {"name": "rolefile", "src": f"file://{sources['rolefile']}"},
            {"name": "hello", "src": f"git+file://{sources['role']}", "scm": "git", "version": sources["role_commit"]},
        ],
    )
    text = lock_path(path).read_text()
    assert lock(path) == text
    assert [one["name"] for one in yaml.safe_load(text)["artifacts"]] == [
        "acme.tools",
        "acme.needy",
        "acme.fromgit",
        "rolefile",
        "hello",
    ]
    place = install(path, estate / "cache")
    for name in ("tools", "needy", "fromgit"):
        assert (place / "ansible_collections" / "acme" / name / "roles" / "hello" / "tasks" / "main.yml").is_file()
    for name in ("rolefile", "hello"):
        assert (place / "roles" / name / "tasks" / "main.yml").read_text() == TASKS
    stamp = place.stat().st_mtime_ns
    (estate / "tools.tar.gz").unlink()
    assert install(path, estate / "cache") == place
    assert place.stat().st_mtime_ns == stamp
    assert [one.name for one in (estate / "cache").iterdir()] == [place.name]


def test_an_archive_that_was_exchanged_is_refused_and_nothing_is_installed(estate, sources):
    path = locked(estate, collections=[FILE])
    (estate / "tools.tar.gz").write_bytes(Path(str(sources["needy"])).read_bytes())
    with pytest.raises(InputError, match="does not have the locked checksum") as caught:
        install(path, estate / "cache")
    assert "requirements.lock.yml:" in str(caught.value)
    assert list((estate / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"collections": ["community.general"]}, "community.general has no exact version (none is none)"),
        ({"collections": [{"name": "community.general", "version": ">=1.0"}]}, "(>=1.0 is none)"),
        ({"collections": [{"name": "x.git", "type": "git", "version": "main"}]}, "no commit as its version"),
        ({"collections": [{"name": "https://example.org/a.tar.gz"}]}, "neither file:// nor Git"),
        ({"collections": [{"name": "--server=x"}]}, "no usable name"),
        ({"collections": [{"version": "1.0.0"}]}, "no usable name"),
        ({"roles": [{"name": "geerlingguy.nginx", "version": "1.0.0"}]}, "no archive to lock"),
        ({"roles": [{"src": "git+https://example.org/r.git", "version": "v1"}]}, "no commit as its version"),
        ({"collections": "all"}, "collections is not a list"),
    ],
)
def test_what_is_not_exact_is_refused_with_its_line(estate, body, words):
    with pytest.raises(InputError) as caught:
        lock(require(estate, **body))
    assert words in str(caught.value)
    assert "requirements.yml:" in str(caught.value)


def test_every_mistake_is_told_at_once_each_with_its_line(estate):
    (estate / "requirements.yml").write_text(
        "collections:\n  - community.general\n  - name: tools.tar.gz\n    type: file\nroles:\n  - src: a.b\n"
    )
    with pytest.raises(InputError) as caught:
        lock(estate / "requirements.yml")
    assert [one.position.line for one in caught.value.diagnostics if one.position] == [2, 6]


def test_a_file_that_is_not_yaml_is_named_with_its_place(estate):
    (estate / "requirements.yml").write_text("collections: [\n")
    with pytest.raises(InputError, match=r"requirements.yml:2:1"):
        lock(estate / "requirements.yml")


def test_a_dependency_must_be_named_so_that_it_is_locked_too(estate, sources):
    with pytest.raises(InputError, match=r"not named: acme\.tools"):
        lock(require(estate, collections=[{"name": f"file://{sources['needy']}"}]))


def test_another_version_inside_than_outside_is_refused(estate):
    with pytest.raises(InputError, match=r"is version 1\.0\.0, not 2\.0\.0"):
        lock(require(estate, collections=[{**FILE, "version": "2.0.0"}]))


def test_something_that_is_no_collection_is_refused(estate, sources):
    (estate / "tools.tar.gz").write_bytes(Path(str(sources["rolefile"])).read_bytes())
    with pytest.raises(InputError, match="no Ansible collection"):
        lock(require(estate, collections=[FILE]))


def test_a_missing_archive_is_named(estate):
    with pytest.raises(InputError, match=r"there is no archive gone\.tar\.gz"):
        lock(require(estate, collections=[{"name": "gone.tar.gz", "type": "file"}]))


def test_requirements_without_a_lock_or_with_an_old_one_are_refused(estate):
    path = require(estate, collections=[FILE])
    with pytest.raises(InputError, match="has no lock"):
        install(path, estate / "cache")
    lock_path(path).write_text(lock(path))
    require(estate, collections=[{**FILE, "version": "1.0.0"}])
    with pytest.raises(InputError, match=r"does not belong to requirements\.yml as it is now"):
        install(path, estate / "cache")


@pytest.mark.parametrize(
    ("key", "words"), [("sha256", "acme.tools has no sha256"), ("version", "acme.tools has no version")]
)
def test_a_lock_without_version_or_checksum_is_refused(estate, key, words):
    path = locked(estate, collections=[FILE])
    body = yaml.safe_load(lock_path(path).read_text())
    del body["artifacts"][0][key]
    lock_path(path).write_text(yaml.safe_dump(body))
    with pytest.raises(InputError, match=words):
        install(path, estate / "cache")


def test_a_server_that_cannot_be_reached_is_an_engine_error_that_names_the_entry(estate):
    entry = {"name": "acme.tools", "version": "1.0.0", "source": "http://127.0.0.1:9/"}
    with pytest.raises(EngineFailed, match=r"acme\.tools 1\.0\.0 cannot be had"):
        lock(require(estate, collections=[entry]))


def test_a_roles_archive_that_leads_out_is_refused(estate):
    with tarfile.open(estate / "evil.tar.gz", "w:gz") as archive:
        (estate / "x").write_text("x")
        archive.add(estate / "x", "../../outside")
    path = locked(estate, roles=[{"name": "evil", "src": "evil.tar.gz"}])
    with pytest.raises(InputError, match="cannot be unpacked"):
        install(path, estate / "cache")
    assert json.dumps([one.name for one in (estate / "cache").iterdir()]) == "[]"
