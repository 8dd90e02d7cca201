"""Packages of the lab's own are what they say, and the same each time."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.lab.debs import Package, build
from ismgr_automation.lab.patches import FIRST, SECOND

TOOL = Package(
    name="a-tool",
    version="2:1.0-1",
    summary="does nothing",
    files={"/usr/bin/a-tool": "#!/bin/sh\n", "/usr/share/a-tool/words": "some\n"},
    scripts={"postinst": "#!/bin/sh\nexit 0\n"},
    fields={"Source": "tools", "Depends": "dpkg"},
)


def test_a_package_has_its_fields_files_and_modes(tmp_path):
    path = tmp_path / TOOL.file_name
    build(TOOL, path)
    assert path.name == "a-tool_1.0-1_all.deb"
    fields = subprocess.run(["dpkg-deb", "--field", path], capture_output=True, text=True, check=True).stdout
    assert fields == TOOL.control
    assert "Version: 2:1.0-1\n" in fields
    assert "Source: tools\n" in fields
    listed = subprocess.run(["dpkg-deb", "--contents", path], capture_output=True, text=True, check=True).stdout
    modes = {row.split()[-1]: row.split()[:2] for row in listed.splitlines()}
    assert modes["./usr/bin/a-tool"] == ["-rwxr-xr-x", "root/root"]
    assert modes["./usr/share/a-tool/words"] == ["-rw-r--r--", "root/root"]


def test_the_same_package_is_the_same_file_wherever_it_is_made(tmp_path):
    (tmp_path / "other").mkdir()
    paths = [tmp_path / "one.deb", tmp_path / "other" / "two.deb"]
    for path in paths:
        build(TOOL, path)
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1


def test_a_package_that_cannot_be_is_refused_with_the_words_of_dpkg(tmp_path):
    with pytest.raises(EngineFailed) as caught:
        build(Package(name="No Name", version="1", summary="x"), tmp_path / "x.deb")
    assert "package name" in caught.value.detail


def test_every_package_has_a_newer_second_version():
    second = {one.name: one.version for one in SECOND}
    assert set(second) == {one.name for one in FIRST}
    for one in FIRST:
        answer = subprocess.run(["dpkg", "--compare-versions", one.version, "lt", second[one.name]], check=False)
        assert answer.returncode == 0, one.name
