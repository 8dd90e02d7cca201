"""Restarts over a real SSH server: a fake systemctl on the path plays a host that comes back, or does not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.restart import SystemdRestarter
from ismgr_automation.engines.ssh.remote import Job, Rights, Targets, run_on
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Boot, Fleet, Restart
from tests.engines.loopback import Loopback, free_port, serve

FAKE = """#!/bin/sh
# a host whose words are the files beside this program
here={folder}
case $1 in
  reboot) echo reboot >> "$here/orders" ;;
  is-system-running) cat "$here/state" ;;
  list-units) cat "$here/failed" ;;
  restart)
    shift 2; echo "restart $*" >> "$here/orders"
    if [ -e "$here/refuses" ]; then cat "$here/refuses"; exit 1; fi ;;
  show) cat "$here/unit-$6-$3" ;;
esac
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    folder = tmp_path_factory.mktemp("restart")
    program = folder / "programs" / "systemctl"
    program.parent.mkdir()
    program.write_text(FAKE.format(folder=program.parent))
    program.chmod(0o755)
    with serve(folder / "server", extra=f"SetEnv PATH={program.parent}:{os.environ['PATH']}\n") as one:
        # nobody's own machine may be restarted by a test
        where = Targets(hosts=[one.host("web1")], names=["web1"], ssh=one.ssh)
        (found,) = run_on(where, Job(script="command -v systemctl", rights=Rights.ROOT), one.store, threading.Event())
        assert found.output.strip() == str(program)
        yield one


@pytest.fixture
def machine(server: Loopback) -> Path:
    """The folder of the fake host's words: well, and nothing ordered."""
    folder = server.folder.parent / "programs"
    for one in folder.iterdir():
        if one.name != "systemctl":
            one.unlink()
    (folder / "state").write_text("running\n")
    (folder / "failed").write_text("")
    (folder / "orders").write_text("")
    return folder


def now() -> Boot:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = int(Path("/proc/1/stat").read_text().rpartition(") ")[2].split()[19])
    return Boot(boot_id=boot_id, init_started=started)


EARLIER = Boot(boot_id="0" * 8, init_started=1)


def request_of(server: Loopback, boot: Boot, **more: object) -> Restart:
    fleet = Fleet(hosts=[server.host("web1")], names=["web1"], ssh=server.ssh)
    fields: dict[str, object] = {"fleet": fleet, "boots": {"web1": boot}, "within": timedelta(seconds=20)}
    return Restart(**(fields | more))  # type: ignore[arg-type]


@pytest.fixture
def restarter(server: Loopback) -> SystemdRestarter:
    return SystemdRestarter(server.store)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(work=tmp_path)


def test_a_host_that_was_restarted_already_is_not_restarted_again(restarter, server, machine, context) -> None:
    (back,) = restarter.reboot(request_of(server, EARLIER), context)
    assert (back.ok, back.boot, back.detail) == (True, now(), "")
    assert back.proof == f"boot id 00000000 before, {now().boot_id} now"
    assert (machine / "orders").read_text() == ""


def test_where_the_kernel_stays_the_start_of_pid_1_is_the_proof(restarter, server, machine, context) -> None:
    before = replace(now(), init_started=7)
    (back,) = restarter.reboot(request_of(server, before), context)
    assert back.proof == f"PID 1 started at tick 7 before, {now().init_started} now"


def test_a_host_that_stays_in_its_life_was_not_restarted_whatever_was_ordered(
    restarter, server, machine, context
) -> None:
    (back,) = restarter.reboot(request_of(server, now(), within=timedelta(seconds=2)), context)
    assert (back.ok, back.proof) == (False, "")
    assert "it answers in the same life as before" in back.detail
    assert (machine / "orders").read_text() == "reboot\n"


def test_failed_units_of_a_host_that_is_back_are_named(restarter, server, machine, context) -> None:
    (machine / "state").write_text("degraded\n")
    (machine / "failed").write_text(
        "nginx.service loaded failed failed A web server\nlogs.mount loaded failed failed\n"
    )
    (back,) = restarter.await_back(request_of(server, EARLIER), context)
    assert (back.ok, back.detail) == (True, "degraded, failed: nginx.service, logs.mount")


def test_a_host_that_is_still_starting_is_waited_for(restarter, server, machine, context) -> None:
    (machine / "state").write_text("starting\n")
    (back,) = restarter.await_back(request_of(server, EARLIER, within=timedelta(seconds=1)), context)
    assert not back.ok
    assert "still 'starting'" in back.detail
    timer = threading.Timer(0.5, lambda: (machine / "state").write_text("running\n"))
    timer.start()
    (back,) = restarter.await_back(request_of(server, EARLIER), context)
    timer.join()
    assert back.ok


def test_a_host_that_does_not_answer_is_a_result_and_says_why(restarter, server, machine, context) -> None:
    dead = server.host("web2", port=free_port())
    fleet = Fleet(hosts=[dead, server.host("web1")], names=["web2", "web1"], ssh=server.ssh)
    boots = {"web1": EARLIER, "web2": EARLIER}
    request = request_of(server, EARLIER, fleet=fleet, boots=boots, within=timedelta(seconds=1))
    gone, back = restarter.await_back(request, context)
    assert (gone.host, gone.ok, back.host, back.ok) == ("web2", False, "web1", True)
    assert "cannot be reached (refused)" in gone.detail
    unknown, _ = restarter.reboot(replace(request, boots={"web1": EARLIER}), context)
    assert unknown.detail.startswith("nothing was ordered: cannot be reached (refused)")


def test_waiting_stops_on_request(restarter, server, machine, context) -> None:
    (machine / "state").write_text("starting\n")
    timer = threading.Timer(0.5, context.cancelled.set)
    timer.start()
    with pytest.raises(Cancelled):
        restarter.await_back(request_of(server, EARLIER), context)
    timer.join()


def units(machine: Path, states: dict[str, tuple[str, str, str]]) -> None:
    for unit, (state, kind, result) in states.items():
        (machine / f"unit-{unit}-ActiveState").write_text(state)
        (machine / f"unit-{unit}-Type").write_text(kind)
        (machine / f"unit-{unit}-Result").write_text(result)


@pytest.mark.parametrize(
    "case",
    [
        ({"nginx.service": ("active", "notify", "success"), "cron.service": ("active", "simple", "success")}, True, ""),
        ({"tidy.service": ("inactive", "oneshot", "success")}, True, ""),
        ({"tidy.service": ("inactive", "oneshot", "exit-code")}, False, "tidy.service is inactive"),
        ({"nginx.service": ("failed", "notify", "exit-code")}, False, "nginx.service is failed"),
        ({"nginx.service": ("inactive", "notify", "success")}, False, "nginx.service is inactive"),
        ({"nginx.service": ("", "", "")}, False, "nginx.service is unknown"),
    ],
)
def test_services_are_restarted_and_looked_at(restarter, server, machine, context, case) -> None:
    states, ok, words = case
    units(machine, states)
    request = request_of(server, now(), units={"web1": tuple(states)}, within=timedelta(seconds=2))
    (result,) = restarter.services(request, context)
    assert (result.ok, result.detail) == (ok, words)
    assert result.proof == ("active: " + ", ".join(states) if ok else "")
    assert (machine / "orders").read_text() == f"restart {' '.join(states)}\n"


def test_why_a_unit_did_not_start_is_told(restarter, server, machine, context) -> None:
    units(machine, {"nginx.service": ("failed", "notify", "exit-code")})
    (machine / "refuses").write_text("Job for nginx.service failed.\n")
    (result,) = restarter.services(request_of(server, now(), units={"web1": ("nginx.service",)}), context)
    assert result.detail == "nginx.service is failed; Job for nginx.service failed."


def test_a_host_without_units_is_left_alone(restarter, server, machine, context) -> None:
    (result,) = restarter.services(request_of(server, now()), context)
    assert result.ok
    assert (machine / "orders").read_text() == ""
