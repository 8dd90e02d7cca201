"""Labs come and go: twice up is once, nothing stays after down, whatever state a lab is in."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sushy

from ismgr_automation.core.errors import Cancelled, EngineFailed, ExitCode, SettingsError
from ismgr_automation.core.events import Event, StepReported
from ismgr_automation.lab import Lab, cleanup, down, folder, machines, making, networks, shell
from ismgr_automation.lab.topology import Segment
from tests.fixtures_lab import (
    addresses_within,
    answers_ssh,
    switch_off,
    switch_on,
    system,
    traces,
    traces_at_rest,
    until,
)

pytestmark = pytest.mark.lab

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")


@pytest.fixture
def name(lab: Lab) -> Iterator[str]:
    """The name of a second lab, beside the session's; removed after the test in any case."""
    second = f"second-of-{lab.record.name}"
    yield second
    down(second)


def ranges(lab: Lab) -> tuple[str, ...]:
    return tuple(str(lab.topology.network(segment)).removesuffix("0/24") for segment in lab.topology.segments)


def window(lab: Lab) -> set[str]:
    return {str(lab.topology.window.address), *(route.to for route in lab.topology.window.routes)}


def said(events: list[Event]) -> str:
    return "\n".join(f"{one.step}: {one.detail}" for one in events if isinstance(one, StepReported))


def supervisor(lab: Lab) -> psutil.Process:
    (process,) = cleanup.supervisors(lab.folder.root)
    return process


def test_down_leaves_nothing_and_a_second_lab_never_touches_the_first(lab: Lab, name: str):
    first, limit = traces_at_rest(lab.record.name), INOTIFY.read_text()
    second = Lab.up(name)
    switch_on(second, "gw1.dc1")
    assert len(traces(name)) > 20, "the search for traces must find a running lab"
    assert addresses_within(ranges(second)) >= window(second)
    assert second.folder.root.is_dir()

    removed = down(name)

    assert len(removed) >= len(second.topology.machines) + len(second.topology.segments) + 4
    until("nothing is left", lambda: traces(name) == set())
    assert addresses_within(ranges(second)) == set()
    assert not second.folder.root.exists()
    assert traces(lab.record.name) == first
    assert addresses_within(ranges(lab)) >= window(lab)
    assert INOTIFY.read_text() == limit, "the other lab still needs it"
    assert lab.status().problems == ()
    assert down(name) == ()


def test_a_second_up_changes_nothing_and_says_so(lab: Lab):
    before, process = traces_at_rest(lab.record.name), supervisor(lab)
    events: list[Event] = []
    again = Lab.up(lab.record.name, events.append)
    assert again == lab
    assert "already up" in said(events)
    assert traces(lab.record.name) == before
    assert supervisor(lab) == process


def test_up_repairs_a_lab_whose_supervisor_was_killed(lab: Lab):
    switch_on(lab, "web1.dc2")
    supervisor(lab).kill()
    until("the kill is noticed", lambda: lab.status().problems == ("the supervisor is gone",))
    shell.podman("kill", "--signal", "RTMIN+5", lab.topology.container(lab.machine("web1.dc2")))
    events: list[Event] = []
    assert Lab.up(lab.record.name, events.append) == lab
    assert "repairing: the supervisor is gone" in said(events)
    assert lab.status().problems == ()
    until("a reboot that nobody saw is made good", lambda: answers_ssh(lab, "web1.dc2"))
    system(lab, "web1.dc2").reset_system(sushy.RESET_FORCE_OFF)


def test_down_works_after_the_supervisor_was_killed_and_its_record_lost(name: str):
    lab = Lab.up(name)
    supervisor(lab).kill()
    lab.folder.record.unlink()
    lab.folder.pid.unlink()
    down(name)
    until("nothing is left", lambda: traces(name) == set())
    assert not lab.folder.root.exists()


def test_what_a_reboot_of_the_host_takes_is_repaired_by_up_and_no_obstacle_to_down(name: str):
    lab = Lab.up(name)
    reboot_the_host(lab)
    assert addresses_within(ranges(lab)) == set()
    assert Lab.up(name) == lab
    assert lab.status().problems == ()
    assert addresses_within(ranges(lab)) >= window(lab)
    assert answers_ssh(lab, "ns")
    assert system(lab, "db1.dc1").power_state is sushy.PowerState.OFF
    reboot_the_host(lab)
    down(name)
    until("nothing is left", lambda: traces(name) == set())
    assert addresses_within(ranges(lab)) == set()


LOST = [
    (["ip", "address", "del", "{window}/24", "dev", "{bridge}"], "the controller's window"),
    (["ip", "route", "del", "{site}"], "the controller's window"),
    (["sysctl", "-q", "-w", "net.ipv4.conf.{bridge}.forwarding=1"], "the host forwards"),
]


@pytest.mark.parametrize(("command", "problem"), LOST, ids=["address", "route", "router"])
def test_a_window_that_somebody_broke_is_a_problem_that_up_repairs(lab: Lab, command, problem):
    words = {
        "bridge": networks.bridges(lab.topology)[Segment.WAN],
        "window": lab.topology.window.address,
        "site": lab.topology.network(Segment.DC2),
    }
    shell.command(*(word.format(**words) for word in command))
    (said_problem,) = lab.status().problems
    assert said_problem.startswith(problem)
    Lab.up(lab.record.name)
    assert lab.status().problems == ()
    assert addresses_within(ranges(lab)) >= window(lab)


def test_a_window_comes_back_with_its_network(lab: Lab):
    """The bridge goes with its last machine, and takes the host's address and routes along."""
    containers = [lab.topology.container(one) for one in lab.topology.machines if one.name in {"ns", "client"}]
    switch_off(lab, "gw1.dc1", "gw1.dc2")
    shell.podman("kill", *containers)
    until("ns is back", lambda: answers_ssh(lab, "ns"))
    until("the window is back", lambda: lab.status().problems == ())
    assert addresses_within(ranges(lab)) >= window(lab)


def reboot_the_host(lab: Lab) -> None:
    """Take what a reboot takes: processes, running machines (and with them bridges and addresses), filters."""
    supervisor(lab).kill()
    containers = [lab.topology.container(machine) for machine in lab.topology.infrastructure]
    shell.podman("kill", *containers)
    shell.podman("wait", *containers)
    for family in ("bridge", "inet"):
        shell.command("nft", "delete", "table", family, networks.table(lab.record.name))
    assert len(lab.status().problems) == 4


def test_a_lost_machine_is_an_error_that_says_the_way_out(name: str):
    lab = Lab.up(name)
    shell.podman("rm", "--force", lab.topology.container(lab.machine("db1.dc1")))
    with pytest.raises(EngineFailed, match=r"damaged: no machine db1\.dc1.*ismgr lab down --name"):
        Lab.up(name)


def stray_windows() -> list[str]:
    """Routes of windows on bridges that are no network of any lab."""
    kept = {row["network_interface"] for row in shell.podman_json("network", "ls", "--format", "json")}
    routes = shell.command("ip", "route", "show", "metric", "4000").splitlines()
    return [route for route in routes if not kept & set(route.split())]


STEPS = ["_make_keys", "_make_networks", "_switch_on"]


@pytest.mark.parametrize("step", STEPS)
def test_an_up_that_fails_half_way_takes_away_what_it_began(name: str, monkeypatch, step):
    real = getattr(making, step)

    def then_fail(*arguments: object) -> None:
        real(*arguments)
        raise EngineFailed("ordered by a test", engine="lab")

    monkeypatch.setattr(making, step, then_fail)
    with pytest.raises(EngineFailed, match="ordered by a test"):
        Lab.up(name)
    until("nothing is left", lambda: traces(name) == set())
    assert not stray_windows()
    assert not folder.folder_of(name).root.exists()


@pytest.mark.parametrize("word", ["made new ones", "off until"])
def test_a_cancelled_up_takes_away_what_it_began(name: str, word):
    cancelled = threading.Event()

    def cancel(event: Event) -> None:
        if isinstance(event, StepReported) and word in event.detail:
            cancelled.set()

    with pytest.raises(Cancelled, match="was stopped"):
        Lab.up(name, cancel, cancelled)
    until("nothing is left", lambda: traces(name) == set())
    assert not folder.folder_of(name).root.exists()


def test_an_up_that_was_killed_is_made_good_by_the_next_one(name: str, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(making, "take_away", lambda *_: ())
        patch.setattr(making, "_switch_on", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Lab.up(name)
    assert Lab.find(name).status().problems[0] == "`ismgr lab up` did not finish"
    lab = Lab.up(name)
    assert lab.status().problems == ()


def interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_lab_that_is_not_there_is_an_error_that_says_how_to_make_it(lab: Lab):
    with pytest.raises(SettingsError, match=r"no lab nowhere.*ismgr lab up --name nowhere"):
        Lab.find("nowhere")


def test_the_supervisor_survives_whoever_started_it_and_holds_no_terminal(lab: Lab):
    process = supervisor(lab)
    assert process.ppid() != psutil.Process().pid
    assert process.terminal() is None
    assert process.cwd() == "/"


def test_nobody_else_reads_a_labs_folder(lab: Lab):
    for path in (lab.folder.root, lab.folder.root / "bmc"):
        assert path.stat().st_mode & 0o077 == 0
    # what the repository offers is served to every machine; the folder around it keeps it from others all the same
    offered = lab.folder.root / "packages" / "tree"
    keys = [path for path in lab.folder.root.rglob("*") if path.is_file() and offered not in path.parents]
    assert len(keys) > 30
    assert [path for path in keys if path.stat().st_mode & 0o077] == []


def test_states_are_those_of_one_lab_only(lab: Lab):
    assert set(machines.states(lab.record.name)) == {lab.topology.container(one) for one in lab.topology.machines}


def test_control_c_in_up_leaves_nothing_and_exits_130(name: str):
    command = [sys.executable, "-m", "ismgr_automation.cli", "lab", "up", "--name", name]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "networks" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == ExitCode.CANCELLED, rest
    assert "taken away" in rest
    until("nothing is left", lambda: traces(name) == set())
    assert not folder.folder_of(name).root.exists()
