"""A running data center in a box for every test that asks for ``lab``: one per session, taken away at its end. Helpers
to switch its machines on and to look at what a lab leaves behind."""

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ismgr_automation.core.errors import EngineMissing, SettingsError
from ismgr_automation.lab import Lab, down

if TYPE_CHECKING:
    from sushy.resources.system.system import System

NAMES = ("tests", "tests2", "tests3", "tests4")
DEADLINE_SECONDS = 120.0


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A lab of this session's own: ``tests``, or the next name when another session runs on this host."""
    with own_lab() as running:
        yield running


@pytest.fixture(scope="module")
def fresh_lab() -> Iterator[Lab]:
    """A lab that no other file has touched, for tests of what happens to machines as they were made."""
    with own_lab() as running:
        yield running


@pytest.fixture
def healthy_bmcs(lab: Lab) -> Iterator[Lab]:
    """The lab, with no fault ordered before and after the test."""
    for machine in lab.topology.servers:
        lab.arrange(machine.name)
    yield lab
    for machine in lab.topology.servers:
        lab.arrange(machine.name)


def system(lab: Lab, name: str) -> System:
    """A machine over Redfish, as a client with the right authority and credential sees it."""
    import sushy
    from sushy import auth

    user, password = lab.bmc_credential(name)
    authority = str(lab.folder.authority)
    root = sushy.Sushy(lab.bmc_url(name), verify=authority, auth=auth.BasicAuth(user, password))
    return root.get_system()


def switch_on(lab: Lab, *names: str) -> None:
    """Switch machines on over Redfish; return when each one's sshd answers."""
    import sushy

    for name in names:
        system(lab, name).reset_system(sushy.RESET_ON)
    for name in names:
        until(f"{name} answers SSH", lambda name=name: answers_ssh(lab, name))


def switch_off(lab: Lab, *names: str) -> None:
    """Pull the plug of machines over Redfish."""
    import sushy

    for name in names:
        system(lab, name).reset_system(sushy.RESET_FORCE_OFF)


def answers_ssh(lab: Lab, name: str) -> bool:
    """Whether a machine's sshd greets the controller."""
    try:
        with socket.create_connection((str(lab.machine(name).management), 22), timeout=10) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def until(what: str, holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Look until something holds, or fail with its name."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)


def traces(name: str) -> set[str]:
    """Everything on this host that belongs to a lab of that name, seen without the lab's own code."""
    found = {f"container {row}" for row in _lines("podman", "ps", "-a", "--format", "{{.Names}}")}
    found |= {f"network {row}" for row in _lines("podman", "network", "ls", "--format", "{{.Name}}")}
    found |= {f"interface {row.split(': ')[1]}" for row in _lines("ip", "-o", "link") if name in row}
    found = {one for one in found if f"ismgr-{name}-" in one}
    found |= {row for row in _lines("nft", "list", "tables") if row.endswith(f"ismgr_lab_{name.replace('-', '_')}")}
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(word == f"label=ismgr.lab={name}" or word.endswith((f"/lab/{name}", f"/lab/{name}/")) for word in words):
            found.add(f"process {' '.join(words)}")
        found |= {f"process {word}" for word in words if word.startswith(f"ismgr-{name}-")}
    return found


def addresses_within(lab_range: tuple[str, ...]) -> set[str]:
    """The addresses and routes of this host that begin like one of a lab's networks (``10.48.0.``)."""
    rows = json.loads(subprocess.run(["ip", "-json", "address"], check=True, capture_output=True).stdout)
    local = {one["local"] for row in rows for one in row["addr_info"]}
    routes = {row.split()[0] for row in _lines("ip", "route")}
    rules = {word for row in _lines("iptables-save") for word in row.split()}
    return {one for one in local | routes | rules if one.startswith(lab_range)}


def traces_at_rest(name: str) -> set[str]:
    """The traces of a lab once no machine of it is between on and off any more: whoever pulled a plug is answered
    before the last process of that machine has ended."""
    found: set[str] = set()

    def at_rest() -> bool:
        found.clear()
        found.update(traces(name))
        running = {one for one in _lines("podman", "ps", "--format", "{{.Names}}") if one.startswith(f"ismgr-{name}-")}
        return {one for one in found if one.startswith(f"process ismgr-{name}-")} == {
            f"process {one}" for one in running
        }

    until(f"no machine of {name} is on its way", at_rest)
    return found


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@contextmanager
def own_lab(*, spare: bool = False) -> Iterator[Lab]:
    """A running lab under a free name, taken away at the end; with a spare machine where that is asked for."""
    with free_name() as name:
        try:
            down(name)  # of a session that was killed
            running = Lab.up(name, spare=spare)
        except (EngineMissing, SettingsError) as problem:
            pytest.skip(f"this host cannot run a lab: {problem}")
        try:
            yield running
        finally:
            running.down()


@contextmanager
def free_name() -> Iterator[str]:
    """A name for a lab that no other test session of this host uses."""
    for name in NAMES:
        with Path(tempfile.gettempdir(), f"ismgr-{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield name
            return
    pytest.skip(f"{len(NAMES)} other test sessions hold every test lab of this host")
