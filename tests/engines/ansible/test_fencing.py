"""The fence on hosts: a token that only grows, shown before the first task, and a host that refuses an older one."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError, LeaseLost
from ismgr_automation.engines.ssh.fencing import Fence, Fenced, fence
from ismgr_automation.engines.ssh.remote import Rights, Targets
from ismgr_automation.ports.hosts import Reach, Status
from tests.engines.loopback import free_port, serve

LEASE = "two-sites/production"
WRITE = """
    - name: Write
      ansible.builtin.copy: {content: x, dest: "{{ target }}/{{ inventory_hostname }}", mode: "0600"}
"""


@pytest.fixture
def servers(desk, tmp_path):
    """Two hosts with homes of their own: ``ForceCommand`` gives each session another one."""
    with (
        serve(tmp_path / "one", home(tmp_path / "home1")) as one,
        serve(tmp_path / "two", home(tmp_path / "home2")) as two,
    ):
        for server in (one, two):
            (server.folder / "authorized_keys").write_text((desk.loopback.folder / "authorized_keys").read_text())
        yield one.host("web1"), two.host("web2")


def home(folder: Path) -> str:
    """Fences below a folder: as root they would lie in /var/lib of this machine."""
    folder.mkdir()
    tools = folder / "bin"
    tools.mkdir()
    (tools / "id").write_text("#!/bin/sh\necho 1000\n")
    (tools / "id").chmod(0o755)
    return f"SetEnv HOME={folder} PATH={tools}:{os.environ['PATH']}\n"


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / ".ismgr" / "fence.json").read_text().splitlines()]


def show(desk, servers, token: int, name: str = LEASE) -> Fenced:
    ours = Fence(name=name, token=token, run=f"run-{token}", rights=Rights.USER, become_password=None)
    targets = Targets(hosts=servers, names=tuple(one.name for one in servers), ssh=desk.loopback.ssh)
    return fence(ours, targets, desk.loopback.store, threading.Event())


def test_hosts_keep_the_largest_token_of_each_lease(desk, servers, tmp_path):
    assert show(desk, servers, 3) == Fenced()
    assert show(desk, servers, 3) == Fenced()
    assert show(desk, servers, 12) == Fenced()
    assert show(desk, servers, 1, "other/test") == Fenced()
    for folder in ("home1", "home2"):
        assert lines(tmp_path / folder) == [
            {"name": LEASE, "token": 12, "run": "run-12"},
            {"name": "other/test", "token": 1, "run": "run-1"},
        ]


def test_a_larger_token_on_one_host_refuses_the_request_on_all(desk, servers, tmp_path):
    show(desk, servers[1:], 8)
    desk.play(WRITE)
    request = desk.request(servers, fence=LEASE)
    context = replace(desk.context(), token=7, run="run-7")
    with pytest.raises(LeaseLost, match=r"token 7 of two-sites/production .* web2 \(token 8, run run-8\)") as caught:
        desk.engine.run(request, context)
    assert "No task was run on any host" in str(caught.value)
    assert list(desk.target.iterdir()) == []
    assert lines(tmp_path / "home2") == [{"name": LEASE, "token": 8, "run": "run-8"}]
    # a look does not ask, and needs no lease
    assert len(desk.engine.check(request, context).tasks) == 2
    done = desk.engine.run(request, replace(context, token=8, run="run-8"))
    assert [one.status for one in done.tasks] == [Status.CHANGED, Status.CHANGED]


def test_a_host_that_cannot_keep_a_token_or_does_not_answer_is_left_out_and_told(desk, servers, tmp_path):
    (tmp_path / "home2" / ".ismgr").write_text("in the way")
    dead = desk.loopback.host("dead", port=free_port())
    desk.play(WRITE)
    done = desk.engine.run(desk.request((*servers, dead), fence=LEASE), replace(desk.context(), token=1, run="run-1"))
    assert [one.name for one in desk.target.iterdir()] == ["web1"]
    assert (done.failed, [(one.host, one.reach) for one in done.unreachable]) == (("web2",), [("dead", Reach.REFUSED)])
    (refused,) = [one for one in done.tasks if one.host == "web2"]
    assert "cannot keep the fencing token" in refused.message
    assert done.counts["dead"] == {Status.UNREACHABLE: 1}


def test_a_fence_that_cannot_be_read_lets_nobody_in(desk, servers, tmp_path):
    show(desk, servers, 5)
    place = tmp_path / "home1" / ".ismgr" / "fence.json"
    place.write_text(place.read_text().replace("5", "five"))
    ((host, why),) = show(desk, servers, 6).broken
    assert host == "web1"
    assert "cannot be read" in why


def test_competitors_never_bring_a_token_down(desk, servers, tmp_path):
    threads = [threading.Thread(target=attempt, args=(desk, servers, token)) for token in (4, 9, 2, 7)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [lines(tmp_path / folder)[0]["token"] for folder in ("home1", "home2")] == [9, 9]


def attempt(desk, servers, token: int) -> None:
    try:
        while show(desk, servers, token).broken:  # it waits for the file no longer than so
            pass
    except LeaseLost:
        assert token < 9


def test_a_name_that_would_break_the_file_is_refused(desk, servers):
    with pytest.raises(InputError, match="cannot be shown to hosts"):
        show(desk, servers, 1, 'a", "token": 99')


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this machine")
def test_a_fence_that_somebody_holds_open_for_too_long_is_a_broken_host_and_not_a_free_one(desk, servers, tmp_path):
    show(desk, servers[:1], 1)
    import fcntl

    with (tmp_path / "home1" / ".ismgr" / "fence.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ((host, why),) = show(desk, servers[:1], 2).broken
    assert (host, "held by somebody else" in why) == ("web1", True)
