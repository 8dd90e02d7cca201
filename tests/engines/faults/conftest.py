"""A server's processes that are none, and a shell that runs what hosts would run."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.engines.faults.deadman import Scripts, readings
from ismgr_automation.ports.faults import FaultRequest, Harm
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.upkeep import Cluster

HOST = Host(name="gw1", address="192.0.2.9", origin="a test")
FLEET = Fleet(hosts=[HOST], names=["gw1"], ssh=Ssh())


def request(harm: Harm, **more: object) -> FaultRequest:
    """A fault on ``gw1``."""
    given = {
        "run": "r1",
        "name": "broken",
        "fleet": FLEET,
        "hosts": ("gw1",),
        "lifetime": timedelta(minutes=1),
        "networks": ("198.51.100.0/24",),
        "peers": ("203.0.113.0/24",),
        "cluster": Cluster(fleet=FLEET, version="15", name="main", port=5432, deadline=timedelta(seconds=5)),
    }
    return FaultRequest(harm=harm, **(given | more))  # type: ignore[arg-type]


def sh(*texts: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A POSIX shell of this machine."""
    command = ["sh", "-c", "\n".join(texts)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


def run(scripts: Scripts, name: str, room: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One of the scripts, as a host runs it."""
    return sh(f"room={room}", f"work() {{\n{getattr(scripts, name)}\n}}", "work")


def look(scripts: Scripts, room: Path | None = None) -> tuple[bool, dict[str, int]]:
    """What its look says."""
    done = run(scripts, "look", room)
    assert done.returncode == 0, done.stderr
    return readings(done.stdout)


@dataclass(slots=True, kw_only=True)
class Server:
    """Processes that are called as a database's are, and work in its data folder."""

    data: Path
    program: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def user(self) -> str:
        """Whose they are."""
        return getpass.getuser()

    def start(self) -> subprocess.Popen[bytes]:
        """One more; the first one is the postmaster."""
        one = subprocess.Popen([self.program, "600"], cwd=self.data)
        self.processes.append(one)
        if len(self.processes) == 1:
            (self.data / "postmaster.pid").write_text(f"{one.pid}\n")
        comm = Path(f"/proc/{one.pid}/comm")
        until("it has its name", lambda: comm.read_text() == "postgres\n")
        return one

    def states(self) -> set[str]:
        """What the kernel says of them."""
        return {Path(f"/proc/{one.pid}/stat").read_text().rpartition(") ")[2][0] for one in self.processes}

    def limits(self) -> set[str]:
        """How large a file they may write."""
        rows = [Path(f"/proc/{one.pid}/limits").read_text() for one in self.processes]
        return {row.split("Max file size")[1].split()[0] for row in rows}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Three of them."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    (tmp_path / "data").mkdir()
    program = tmp_path / "postgres"
    shutil.copy(sleep, program)
    one = Server(data=tmp_path / "data", program=program)
    try:
        for _ in range(3):
            one.start()
        yield one
    finally:
        for process in one.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(10)


def until(what: str, holds: Callable[[], bool]) -> None:
    """Look until it holds."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.01)
