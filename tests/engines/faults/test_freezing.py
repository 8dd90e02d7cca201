"""All processes of a server are stopped and go on, and nobody else's; a control group is frozen where it can be."""

from __future__ import annotations

import os
import signal as signals
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ismgr_automation.engines.faults.freezing import FREEZE, freezer, signal
from ismgr_automation.engines.faults.means import said
from ismgr_automation.engines.faults.undo import Way
from ismgr_automation.ports.faults import Harm
from tests.engines.faults.conftest import Server, look, request, run, sh, until


def test_every_process_of_the_server_is_stopped_and_goes_on(server):
    scripts = signal({"data": str(server.data)})
    assert look(scripts) == (False, {"processes": 3, "stopped": 0})
    for _ in range(2):
        done = run(scripts, "act")
        assert done.returncode == 0, done.stderr
    assert server.states() == {"T"}
    assert look(scripts) == (True, {"processes": 3, "stopped": 3})
    for _ in range(2):
        done = run(scripts, "mend")
        assert done.returncode == 0, done.stderr
    assert "T" not in server.states()
    assert look(scripts) == (False, {"processes": 3, "stopped": 0})


def test_a_process_that_came_later_is_seen_not_to_be_stopped(server):
    scripts = signal({"data": str(server.data)})
    run(scripts, "act")
    server.start()
    assert look(scripts) == (True, {"processes": 4, "stopped": 3})


def test_processes_that_have_lost_their_postmaster_go_on_too(server):
    scripts = signal({"data": str(server.data)})
    run(scripts, "act")
    server.processes[0].kill()
    server.processes[0].wait(10)
    server.processes.pop(0)
    assert run(scripts, "mend").returncode == 0
    assert "T" not in server.states()


def test_a_neighbour_in_another_folder_is_left_alone(server, tmp_path):
    (tmp_path / "data2").mkdir()
    neighbour = subprocess.Popen([server.program, "600"], cwd=tmp_path / "data2")
    try:
        stat = Path(f"/proc/{neighbour.pid}/stat")
        until("it has its name", lambda: "(postgres)" in stat.read_text())
        assert run(signal({"data": str(server.data)}), "act").returncode == 0
        assert ") T" not in stat.read_text()
    finally:
        neighbour.send_signal(signals.SIGKILL)
        neighbour.wait(10)


def test_a_server_that_is_gone_is_no_longer_frozen(tmp_path):
    scripts = signal({"data": str(tmp_path)})
    assert run(scripts, "act").returncode != 0
    assert run(scripts, "mend").returncode == 0
    assert look(scripts)[0] is False


@pytest.fixture
def group(tmp_path: Path) -> Path:
    folder = tmp_path / "postgresql@15-main.service"
    folder.mkdir()
    (folder / "cgroup.procs").write_text("1\n2\n")
    (folder / "cgroup.freeze").write_text("0\n")
    (folder / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    return folder


def test_a_control_group_is_frozen_when_the_kernel_says_so(group):
    scripts = freezer({"group": str(group)})
    assert look(scripts) == (False, {"processes": 2, "stopped": 0})
    assert run(scripts, "act").returncode == 1
    (group / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert run(scripts, "act").returncode == 0
    assert look(scripts) == (True, {"processes": 2, "stopped": 2})
    assert run(scripts, "mend").returncode == 0
    assert (group / "cgroup.freeze").read_text() == "0\n"
    assert look(scripts)[0] is False


def test_a_control_group_that_is_gone_is_not_frozen(tmp_path):
    scripts = freezer({"group": str(tmp_path / "gone")})
    assert run(scripts, "mend").returncode == 0
    assert look(scripts)[0] is False


@pytest.fixture
def real_group(server: Server) -> Iterator[Path]:
    """A control group of this machine's own kernel, with the server's processes in it."""
    mounts = [row.split() for row in Path("/proc/mounts").read_text().splitlines()]
    base = next((Path(row[1]) for row in mounts if row[2] == "cgroup2" and os.access(row[1], os.W_OK)), None)
    if base is None:
        pytest.skip("needs root, and a mounted cgroup2, for the kernel's freezer")
    folder = base / f"ismgr-test-{os.getpid()}.service"
    folder.mkdir()
    for one in server.processes:
        (folder / "cgroup.procs").write_text(str(one.pid))
    try:
        yield folder
    finally:
        (folder / "cgroup.freeze").write_text("0")
        for one in server.processes:
            one.kill()
            one.wait(10)
        until("the group is empty", lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


def probed(server: Server) -> dict[str, str]:
    script, _ = FREEZE.probe(request(Harm.FREEZE), "gw1")
    arguments = (server.data, "/none", "/none", "/none", server.user, "true", "true", 5432)
    done = sh("set -- " + " ".join(str(one) for one in arguments), script)
    assert done.returncode == 0, done.stderr
    return said(done.stdout)


def test_the_kernel_freezes_the_group_of_a_server_that_is_alone_in_it(server, real_group):
    found = probed(server)
    assert found == {"data": str(server.data), "group": str(real_group)}
    scripts = FREEZE.means(request(Harm.FREEZE), found).scripts
    assert run(scripts, "act").returncode == 0
    assert look(scripts) == (True, {"processes": 3, "stopped": 3})
    assert run(scripts, "mend").returncode == 0
    assert look(scripts) == (False, {"processes": 3, "stopped": 0})


def test_a_group_in_which_somebody_else_lives_is_not_frozen(server, real_group):
    neighbour = subprocess.Popen(["sleep", "600"], cwd="/")
    try:
        (real_group / "cgroup.procs").write_text(str(neighbour.pid))
        assert probed(server) == {"data": str(server.data)}
    finally:
        neighbour.kill()
        neighbour.wait(10)


@pytest.mark.parametrize(
    ("found", "way"), [({"data": "/data"}, Way.SIGNAL), ({"data": "/data", "group": "/sys/x"}, Way.FREEZER)]
)
def test_the_freezer_is_taken_where_there_is_one_and_the_way_is_named(found, way):
    means = FREEZE.means(request(Harm.FREEZE), found)
    assert means.hurt.way is way
    assert ("SIGSTOP" in means.words) is (way is Way.SIGNAL)
