"""A timer is armed before anything is broken, and its script mends alone; what was started is stopped while it is still
what was started."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.engines.faults.deadman import Scripts, readings, waiting
from ismgr_automation.engines.faults.power import server as came_back
from ismgr_automation.engines.faults.undo import Hurt, Undo, Way
from ismgr_automation.engines.ssh.warm import Load
from ismgr_automation.ports.faults import Harm
from tests.engines.faults.conftest import look, run, sh

UNDO = Undo(
    run="r1", fault="cut", harm=Harm.PARTITION, hosts={"gw1": Hurt(way=Way.FILTER, values={"table": "it's one"})}
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a host: ``broken`` is the fault, ``calls`` what systemd was asked."""
    for name in ("systemctl", "systemd-run"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n[ ! -e {tmp_path}/no-{name} ]\n'
        )
        (tmp_path / name).chmod(0o755)
    (tmp_path / "calls").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def scripts(host: Path) -> Scripts:
    return Scripts(
        act=f"touch {host}/broken",
        mend=f"rm -f {host}/broken",
        look=f"if [ -e {host}/broken ]; then echo standing; else echo gone; fi",
    )


def ask(host: Path, load: Load, line: str) -> tuple[int, str]:
    """What ``Warm.load`` would have of it, with the host's own folder as its room."""
    text = load.before.replace("[ -d /run/systemd/system ]", "true")
    unit, _ = load.arguments
    given = "".join(f"{row}\n" for row in load.input).replace("/var/lib/ismgr-faults/r1-cut", f"{host}/room/r1-cut")
    quoted = given.replace("'", "'\\''")
    done = sh(f"set -- {unit} {host}/room/r1-cut", f"input='{quoted}'", text, f"line='{line}'", load.script)
    return done.returncode, done.stdout


def test_it_arms_and_says_so_before_anything_is_broken(host):
    load = waiting(UNDO, scripts(host))
    (host / "no-systemctl").touch()  # nothing is armed yet
    code, said = ask(host, load, "arm 3000ms")
    assert (code, readings(said)) == (0, (False, {"record": 1}))
    (host / "no-systemctl").unlink()
    calls = (host / "calls").read_text()
    assert "systemd-run --quiet --collect --unit=ismgr-fault-r1-cut --on-active=3000ms" in calls
    assert f"/bin/sh {host}/room/r1-cut/undo.sh" in calls
    assert json.loads((host / "room" / "r1-cut" / "undo.json").read_text()) == UNDO.json()
    assert ask(host, load, "arm 3000ms")[0] == 0
    assert "systemctl restart ismgr-fault-r1-cut.timer" in (host / "calls").read_text()


def test_a_timer_that_cannot_be_armed_is_an_answer(host):
    (host / "no-systemctl").touch()
    (host / "no-systemd-run").touch()
    assert ask(host, waiting(UNDO, scripts(host)), "arm 3000ms")[0] == 1


def test_nothing_is_broken_that_no_timer_would_mend(host):
    load = waiting(UNDO, scripts(host))
    assert ask(host, load, "act")[0] == 1
    ask(host, load, "arm 3000ms")
    sh((host / "room" / "r1-cut" / "undo.sh").read_text())
    assert ask(host, load, "act")[0] == 1
    assert not (host / "broken").exists()


def test_what_is_broken_while_the_timer_fires_is_mended(host):
    late = replace(scripts(host), act=f"touch {host}/broken; rm -r {host}/room")
    load = waiting(UNDO, late)
    ask(host, load, "arm 3000ms")
    assert ask(host, load, "act")[0] == 1
    assert not (host / "broken").exists()


def test_the_script_of_the_timer_mends_alone_and_leaves_no_record(host):
    load = waiting(UNDO, scripts(host))
    ask(host, load, "arm 3000ms")
    assert readings(ask(host, load, "act")[1]) == (True, {"record": 1, "timer": 1})
    done = sh((host / "room" / "r1-cut" / "undo.sh").read_text())
    assert done.returncode == 0, done.stderr
    assert not (host / "broken").exists()
    assert not (host / "room").exists()
    assert ask(host, load, "renew")[0] == 1


def test_a_script_that_cannot_mend_fails_and_keeps_its_record(host):
    load = waiting(UNDO, Scripts(mend="return 7", look="echo standing"))
    ask(host, load, "arm 3000ms")
    assert sh((host / "room" / "r1-cut" / "undo.sh").read_text()).returncode != 0
    assert (host / "room" / "r1-cut" / "undo.json").exists()
    # it has begun: who renews would go on with a fault that ends at any moment
    assert ask(host, load, "renew")[0] == 1
    assert ask(host, load, "lift")[0] == 1
    assert "systemctl stop" not in (host / "calls").read_text()


def test_lifting_mends_first_and_stops_the_timer_then_and_again_does_no_more(host):
    load = waiting(UNDO, scripts(host))
    ask(host, load, "arm 3000ms")
    ask(host, load, "act")
    for _ in range(2):
        code, said = ask(host, load, "lift")
        assert (code, readings(said)[0]) == (0, False)
    assert "systemctl stop ismgr-fault-r1-cut.timer" in (host / "calls").read_text()
    assert not (host / "room").exists()


def test_a_server_that_came_back_is_stopped_while_it_is_the_same_one(server, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    values = {"data": str(server.data), "start": "exit 1", "stop": f"kill {server.processes[0].pid}"}
    begun = came_back(values | {"start": "true"})
    assert run(begun, "act", room).returncode == 0
    assert look(begun, room)[0] is True
    assert run(begun, "mend", room).returncode == 0 or server.processes[0].wait(10)
    server.processes[0].wait(10)
    assert run(begun, "mend", room).returncode == 0
    assert look(begun, room)[0] is False


@pytest.mark.parametrize("change", ["standby", "another"])
def test_a_server_of_which_somebody_made_something_else_is_left_alone(server, tmp_path, change):
    room = tmp_path / "room"
    room.mkdir()
    begun = came_back({"data": str(server.data), "start": "true", "stop": f"touch {tmp_path}/stopped"})
    assert run(begun, "act", room).returncode == 0
    if change == "standby":
        (server.data / "standby.signal").touch()
    else:
        (room / "started").write_text(f"{server.processes[0].pid} 1\n")
    assert run(begun, "mend", room).returncode == 0
    assert not (tmp_path / "stopped").exists()


def test_a_standby_does_not_come_back_as_a_primary(server, tmp_path):
    (server.data / "standby.signal").touch()
    begun = came_back({"data": str(server.data), "start": f"touch {tmp_path}/started", "stop": "true"})
    assert run(begun, "act", tmp_path).returncode == 1
    assert not (tmp_path / "started").exists()
