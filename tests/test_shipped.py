"""Shipped content is found in a checkout and in an installed wheel, and its digest says what it holds."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ismgr_automation import shipped

CHECKOUT = Path(__file__).parents[1]
LOOK = "from ismgr_automation import shipped; print(shipped.root()); print(shipped.digest()); print(shipped.__file__)"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a user's package manager builds it, without a registry."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, CHECKOUT], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of shipped content that a test may change."""
    for folder in shipped.FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "playbooks" / "site.yml").write_text("- hosts: all\n")
    monkeypatch.setattr(shipped, "root", lambda: tmp_path)
    return tmp_path


def test_a_checkout_is_its_own_shipped_content() -> None:
    assert shipped.root() == CHECKOUT


def test_the_wheel_holds_every_shipped_file_and_nothing_else_beside_the_package(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    content = {name.removeprefix("ismgr_automation/content/") for name in inside if "/content/" in name}
    wanted = {f"{folder}/{path.as_posix()}" for folder in shipped.FOLDERS for path in shipped.files(CHECKOUT / folder)}
    assert wanted <= content
    assert {name.split("/")[0].split("-")[0] for name in inside} == {"ismgr_automation"}


def test_an_installed_wheel_finds_its_content_and_has_the_checkouts_digest(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run(pip, check=True, timeout=120)
    answer = subprocess.run(
        [sys.executable, "-c", LOOK],
        env=os.environ | {"PYTHONPATH": str(target)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    root, digest, module = answer.stdout.splitlines()
    assert Path(module).is_relative_to(target)
    assert Path(root) == target / "ismgr_automation" / "content"
    assert digest == shipped.digest()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("ismgr:playbooks/database.yml", CHECKOUT / "playbooks/database.yml"),
        ("ismgr:stacks/servers", CHECKOUT / "stacks/servers"),
        ("playbooks/own.yml", Path("/srv/estate/playbooks/own.yml")),
    ],
)
def test_the_prefix_decides_where_a_path_is_looked_for(path: str, found: Path) -> None:
    assert shipped.resolve(path, Path("/srv/estate")) == found


@pytest.mark.parametrize("path", ["../secrets", "/etc/passwd", "ismgr:../x", "ismgr:/etc/passwd", "ismgr:", ""])
def test_a_path_cannot_leave_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="must stay inside its folder"):
        shipped.resolve(path, Path("/srv/estate"))


def test_what_does_not_ship_is_refused_with_what_does() -> None:
    with pytest.raises(ValueError, match=r"ismgr:playbooks/\.\.\., ismgr:stacks/"):
        shipped.resolve("ismgr:tests/conftest.py", Path("/srv/estate"))


def test_the_digest_follows_names_and_bytes(tree: Path) -> None:
    before = shipped.digest()
    (tree / "playbooks" / "site.yml").write_text("- hosts: db\n")
    changed = shipped.digest()
    (tree / "playbooks" / "site.yml").rename(tree / "playbooks" / "all.yml")
    assert len({before, changed, shipped.digest()}) == 3


def test_the_digest_ignores_what_python_and_editors_leave(tree: Path) -> None:
    before = shipped.digest()
    (tree / "stacks" / "__pycache__").mkdir()
    (tree / "stacks" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (tree / "stacks" / ".swap").write_text("x")
    assert shipped.digest() == before
