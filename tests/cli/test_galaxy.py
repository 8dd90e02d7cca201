"""`ismgr galaxy lock`, and what a run makes of the lock."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ismgr_automation.api import Estate
from ismgr_automation.cli.main import run
from ismgr_automation.core.errors import InputError


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starter estate whose requirements name a collection in an archive beside them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "infra"
    assert run(["init", str(folder)]) == 0
    (folder / "galaxy").mkdir()
    archive(tmp_path / "made", folder / "galaxy")
    (folder / "galaxy" / "requirements.yml").write_text(
        "collections:\n  - {name: ./acme-tools-1.0.0.tar.gz, type: file, version: 1.0.0}\n"
    )
    path = folder / "estate.yaml"
    path.write_text(path.read_text() + "ansible: {requirements: galaxy/requirements.yml}\n")
    return folder


def archive(made: Path, into: Path) -> None:
    """A collection as `ansible-galaxy collection build` makes it."""
    made.mkdir()
    (made / "galaxy.yml").write_text(
        "namespace: acme\nname: tools\nversion: 1.0.0\nreadme: README.md\nauthors: [nobody]\n"
    )
    (made / "README.md").write_text("Tools.\n")
    (made / "playbooks").mkdir()
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-galaxy", "collection", "build", made, "--output-path", into],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_lock_is_written_and_runs_install_what_it_names(estate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(estate), "--json", "galaxy", "lock"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["lock"].endswith("requirements.lock.yml")
    with Estate.open(estate, worktree=True) as opened, opened._scope((), ()) as scope:
        assert scope.galaxy is not None
        assert (scope.galaxy / "ansible_collections" / "acme" / "tools" / "README.md").read_text() == "Tools.\n"


def test_requirements_without_a_lock_are_refused(estate: Path) -> None:
    with (
        Estate.open(estate, worktree=True) as opened,
        pytest.raises(InputError, match="has no lock"),
        opened._scope((), ()),
    ):
        pass


def test_an_artifact_that_is_not_the_locked_one_is_refused(estate: Path) -> None:
    assert run(["-C", str(estate), "galaxy", "lock"]) == 0
    path = estate / "galaxy" / "acme-tools-1.0.0.tar.gz"
    with tarfile.open(path, "w:gz") as other:
        body = b"{}"
        entry = tarfile.TarInfo("MANIFEST.json")
        entry.size = len(body)
        other.addfile(entry, io.BytesIO(body))
    with (
        Estate.open(estate, worktree=True) as opened,
        pytest.raises(InputError, match="checksum"),
        opened._scope((), ()),
    ):
        pass


def test_an_estate_without_requirements_says_where_to_write_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", str(tmp_path / "infra")]) == 0
    assert run(["-C", str(tmp_path / "infra"), "galaxy", "lock"]) == 1
    assert "requirements" in capsys.readouterr().err
