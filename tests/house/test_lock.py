"""The lock installs exactly what pyproject.toml asks for, every byte of it by hash, from wherever that comes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.sources import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY = re.compile(
    r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ;[^\\]*)? \\\n(?P<hashes>(?: +--hash.*\n)+)", re.MULTILINE
)


def _entries(lock: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by name."""
    return {
        canonicalize_name(entry["name"]): (entry["version"], entry["hashes"].count("--hash=sha256:"))
        for entry in ENTRY.finditer(lock)
    }


def _asked(project: dict[str, dict[str, dict[str, list[str]]]]) -> Iterator[Requirement]:
    yield from map(Requirement, project["build-system"]["requires"])
    yield from map(Requirement, project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        yield from map(Requirement, extra)


def _unmet(project: dict, lock: str) -> list[str]:
    entries = _entries(lock)
    unmet = []
    for requirement in _asked(project):
        version, _hashes = entries.get(canonicalize_name(requirement.name), ("", 0))
        if not version or not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement}: the lock has {version or 'nothing'}; run make lock")
    return unmet


def test_the_lock_satisfies_every_requirement_the_build_backend_included() -> None:
    assert not _unmet(PROJECT, LOCK)


def test_a_requirement_that_the_lock_does_not_meet_is_noticed() -> None:
    project = {
        "build-system": {"requires": ["pulumi<1", "no-such-thing"]},
        "project": {"dependencies": [], "optional-dependencies": {}},
    }
    assert [line.split(":")[0] for line in _unmet(project, LOCK)] == ["pulumi<1", "no-such-thing"]


def test_every_package_has_hashes_and_nothing_else_is_in_the_file() -> None:
    assert all(hashes for _version, hashes in _entries(LOCK).values())
    assert ENTRY.sub("", LOCK) == ""


def test_the_lock_names_no_place_to_download_from() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links)\b", LOCK, re.MULTILINE)


def test_what_ansible_and_pulumi_do_here_is_tied_to_their_version() -> None:
    pinned = {one.name: str(one.specifier) for one in map(Requirement, PROJECT["project"]["dependencies"])}
    assert pinned["pulumi"].startswith("==")
    assert "<2.20" in pinned["ansible-core"]
