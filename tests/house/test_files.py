"""What the repository may hold: no place of one machine, no address of a registry, no secret; and its scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.house.sources import ROOT, texts, tracked

MACHINE_PATH = re.compile(r"(?<![\w.\-/<{$])/(?:work|root|home/(?!debian/)[a-z]+)/[\w.\-]+")
URL = re.compile(r"\b(?:https?|git\+\w+|ssh|ftp)://(?P<host>[^\s/\"'`<>()\[\],;|]+)")
UNCHECKED = re.compile(r"StrictHostKeyChecking\W+(no|off|accept-new)\b|host_key_checking\W+(false|no)\b", re.IGNORECASE)
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\n[A-Za-z0-9+/=]{40}")

# addresses that lead nowhere but to this machine and its labs, and the names of things that look like addresses
OWN_HOSTS = re.compile(
    r"^(?:[^@]*@)?(?:"
    r"localhost|127\.[\d.]+|10\.[\d.]+|192\.0\.2\.[\d.]+|\[?::1\]?|.*\.(?:test|example|invalid|internal|lab)|.*example\.(?:org|com|net)"
    r"|json-schema\.org|www\.w3\.org|keepachangelog\.com|semver\.org"
    r"|[A-Z_%{$].*|[\w-]+|bmc[\w.-]*"
    r")(?::.*)?$"
)

# where the engine's vendor keeps releases, and the first line of a pointer of Git LFS
MAY_NAME = {
    "ismgr_automation/engines/pulumi/locate.py": {"github.com"},
    "ismgr_automation/engines/git/source.py": {"git-lfs."},
    "ismgr_automation/patching/vex.py": {"openvex.dev"},  # the name of the format
}

SHELL_SCRIPTS = [name for name, text in texts() if text.startswith("#!/usr/bin/env bash")]


def _machine_paths(text: str) -> list[str]:
    return MACHINE_PATH.findall(text)


def _foreign_hosts(text: str) -> Iterator[str]:
    return (match["host"] for match in URL.finditer(text) if not OWN_HOSTS.match(match["host"]))


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    found = [
        f"{name}: {path}"
        for name, text in texts()
        for path in _machine_paths(text)
        if name != "tests/house/test_files.py"
    ]
    assert not found, "\n".join(found)


def test_a_path_of_one_machine_is_noticed() -> None:
    assert _machine_paths("state: /work/main") == ["/work/main"]
    assert not _machine_paths("state: build/work/main")


def test_no_file_names_a_host_of_the_internet() -> None:
    found = [
        f"{name}: {host}"
        for name, text in texts()
        for host in _foreign_hosts(text)
        if host not in MAY_NAME.get(name, ())
    ]
    assert not found, "\n".join(found)


def test_a_foreign_host_is_noticed_and_our_own_are_not() -> None:
    assert list(_foreign_hosts("--index-url https:" + "//registry.somewhere.dev/simple")) == ["registry.somewhere.dev"]
    assert not list(
        _foreign_hosts("https://bmc.dc1.test/redfish/v1 and http://10.41.0.20:8080/ and https://127.0.0.1:1")
    )


def test_no_setting_of_ssh_or_ansible_lets_host_keys_pass_unchecked() -> None:
    folders = ("ismgr_automation/", "playbooks/", "stacks/", "examples/", "scripts/")
    settings = [
        (name, text) for name, text in texts() if name.startswith(folders) and not name.endswith((".py", ".md"))
    ]
    assert not [name for name, text in settings if UNCHECKED.search(text)]
    assert UNCHECKED.search("ssh_args = -o StrictHostKeyChecking=" + "no")
    assert UNCHECKED.search("host_key_checking = " + "False")


def test_no_private_key_is_in_the_repository() -> None:
    assert not [name for name, text in texts() if PRIVATE_KEY.search(text)]
    assert PRIVATE_KEY.search("-----BEGIN OPENSSH PRIVATE KEY-----\n" + "A" * 70)


def test_no_secret_folder_is_tracked() -> None:
    assert not [name for name in tracked() if "/.secrets/" in f"/{name}"]


@pytest.mark.parametrize("name", SHELL_SCRIPTS)
def test_a_script_is_executable_and_says_what_it_is_for(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert lines[1].startswith("# ")
    assert os.access(ROOT / name, os.X_OK)


@pytest.mark.parametrize("name", [name for name in SHELL_SCRIPTS if name.startswith("scripts/")])
def test_a_script_stops_at_the_first_error(name: str) -> None:
    assert "\nset -euo pipefail\n" in (ROOT / name).read_text()


def test_every_target_of_the_makefile_only_calls_a_script() -> None:
    recipes = [line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("\t")]
    assert all(re.match(r"@(scripts/[\w-]+$|grep )", recipe) for recipe in recipes), recipes


def test_every_system_package_has_a_purpose_and_a_reason() -> None:
    lines = [
        line.split(None, 2) for line in (ROOT / "scripts/packages.txt").read_text().splitlines() if line[:1] != "#"
    ]
    assert all(len(line) == 3 and line[0] in {"base", "lab", "test"} for line in lines), lines
    assert lines == sorted(lines, key=lambda line: (["base", "lab", "test"].index(line[0]), line[1]))


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ['cd "$(dirname "${BASH_SOURCE[0]}")/.." && exec make test']


def test_make_without_a_target_lists_the_targets() -> None:
    make = shutil.which("make")
    assert make, "make is what the README asks for"
    told = subprocess.run(
        [make, "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    ).stdout
    assert {"demo", "test", "check", "bench", "down"} <= {line.split()[0] for line in told.splitlines()}
