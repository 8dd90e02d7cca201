"""A run that is stopped - on request, at its deadline, by a full disk - leaves no process, folder or thread."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut
from ismgr_automation.ports.context import Context

SLOW = """
    - name: Begin
      ansible.builtin.command: echo begin
    - name: Take long
      ansible.builtin.command: sleep 47.11
"""


@pytest.fixture(autouse=True)
def nothing_is_left(desk):
    threads = threading.active_count()
    files = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert still_running() == []
    assert not list(Path("/dev/shm").glob(f"ismgr-{os.getpid()}-*"))


def still_running() -> list[str]:
    """Commands of processes that carry the address of a desk of ours."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"/ismgr-{os.getpid()}-".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def once_it_sleeps(then: Callable[[], None]) -> threading.Thread:
    """Calls ``then`` when the long task runs on the host (which is this machine)."""

    def wait() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and not any(b"sleep\x0047.11" in line for line in commands()):
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def commands() -> Iterator[bytes]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes()


def test_a_cancelled_run_ends_and_names_what_may_go_on(desk):
    context = desk.context()
    desk.play(SLOW)
    canceller = once_it_sleeps(context.cancelled.set)
    with pytest.raises(Cancelled) as caught:
        desk.engine.run(desk.request(), context)
    canceller.join()
    assert "web1 (Take long)" in caught.value.next_step
    assert list(desk.work.iterdir()) == []


def test_a_run_past_its_deadline_is_stopped(desk):
    desk.play(SLOW)
    with pytest.raises(EngineTimedOut, match="did not finish within 6 s"):
        desk.engine.run(desk.request(deadline=timedelta(seconds=6)), desk.context())
    assert list(desk.work.iterdir()) == []


def test_a_watcher_that_raises_stops_nothing_halfway_and_its_error_comes_back(desk):
    def fail(event: object) -> None:
        raise RuntimeError("the watcher broke")

    desk.watch = fail
    text = "    - ansible.builtin.copy: {content: x, dest: '{{ target }}/out', mode: '0600'}\n"
    with pytest.raises(RuntimeError, match="the watcher broke"):
        desk.run(text)
    assert (desk.target / "out").exists()
    assert list(desk.work.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_in_the_work_folder_is_one_error_before_any_host_is_touched(desk, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this machine cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        (small / "filler").write_bytes(b"x" * 12288)
        desk.play("    - ansible.builtin.copy: {content: x, dest: '{{ target }}/out', mode: '0600'}\n")
        with pytest.raises(EngineFailed, match="No space left on device") as caught:
            desk.engine.run(desk.request(), Context(work=small / "work"))
        assert "No host was touched" in str(caught.value)
        assert not (desk.target / "out").exists()
        assert [one.name for one in (small / "work").iterdir()] == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
