"""Fixtures of the tests of apt: one machine for all that need a real one."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineMissing
from ismgr_automation.core.events import ignore
from ismgr_automation.lab import image
from ismgr_automation.ports.context import Context
from tests.engines.apt.world import Box, box
from tests.engines.loopback import Loopback, serve


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A machine of the lab's image; building that takes a minute where no lab has run yet."""
    if os.geteuid() != 0 or shutil.which("podman") is None:
        pytest.skip("a machine needs root and podman")
    folder = tmp_path_factory.mktemp("apt")
    # apt in the machine reads as another user
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    try:
        reference = image.ensure(ignore, folder / "image.lock", threading.Event())
    except EngineMissing as problem:
        pytest.skip(f"there is no image for a machine: {problem}")
    with box(folder, reference) as made:
        yield made


@pytest.fixture(name="box")
def fresh_box(machine: Box) -> Box:
    """The machine with everything in its first version."""
    machine.first()
    return machine


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(work=tmp_path)


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A real sshd on this machine, for what never gets as far as a script."""
    with serve(tmp_path_factory.mktemp("loopback")) as server:
        yield server
