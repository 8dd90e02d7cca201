"""A run that is stopped - on request, at its deadline, by a full disk - leaves no process, folder or thread."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.address import group
from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut
from ismgr_automation.core.events import OutputSeen, TaskFinished
from ismgr_automation.engines.ansible import sweeping
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Status
from tests.engines.ansible.conftest import desk_in
from tests.engines.loopback import USER, Loopback, free_port, serve
from tests.engines.open_files import descriptors

NUMBER = itertools.count(1)
RANDOM_KILLS = 6


@pytest.fixture
def nap() -> str:
    """How long the task sleeps, as a word that no other test has: a stopped run may leave the host's own process."""
    return f"47.{os.getpid()}{next(NUMBER)}"


def slow(nap: str) -> str:
    return f"""
    - name: Begin
      ansible.builtin.command: echo begin
    - name: Take long
      ansible.builtin.command: sleep {nap}
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever refuses to end is looked for among all processes of a machine, which may have much else to do."""
    monkeypatch.setattr(sweeping, "DEADLINE", timedelta(seconds=60))


@pytest.fixture(autouse=True)
def nothing_is_left(desk):
    gc.collect()  # what tests before this one have let go of is no part of it
    threads, files = threading.active_count(), descriptors()
    yield
    assert threading.active_count() <= threads
    assert descriptors() <= files
    assert still_running(os.getpid()) == []
    assert not list(Path("/dev/shm").glob(f"ismgr-run-{os.getpid()}-*"))


def still_running(owner: int) -> list[str]:
    """Commands of processes that carry the address of a desk of that process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"/ismgr-run-{owner}-".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def once_it_sleeps(nap: str, then: Callable[[], None], processes: int = 1) -> threading.Thread:
    """Calls ``then`` when the long task runs on the host (which is this machine)."""

    def wait() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and len(sleeping(nap)) < processes:
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def commands() -> Iterator[bytes]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes()


def sleeping(nap: str) -> list[bytes]:
    """Processes of hosts (which are this machine) that still do the long task."""
    return [line for line in commands() if f"sleep\0{nap}".encode() in line]


def program(desk, run: str = "") -> str:
    """A program that runs the playbook once."""
    return f"""
        from datetime import timedelta
        from pathlib import Path
        from ismgr_automation.core.address import group
        from ismgr_automation.core.secret import SecretRef
        from ismgr_automation.engines.ansible.engine import AnsibleEngine
        from ismgr_automation.engines.secrets import Backends, PrivateFiles
        from ismgr_automation.ports.context import Context
        from ismgr_automation.ports.hosts import Host, PlaybookRequest, Ssh
        store = Backends({{"file": PrivateFiles(root=Path({str(desk.loopback.folder / "secrets")!r}))}})
        host = Host(name="web1", address="127.0.0.1", origin="x", user={USER!r}, port={desk.loopback.port},
                    host_keys=({desk.loopback.host_key!r},))
        AnsibleEngine(store).run(PlaybookRequest(
            address=group("webs"), playbook=Path({str(desk.root / "play.yml")!r}), root=Path({str(desk.root)!r}),
            inventory=(host,), groups={{"webs": ("web1",)}}, limit=("web1",), variables={{}},
            ssh=Ssh(key=SecretRef("file", "operator")), become=False, become_password=None, roles_path=(),
            deadline=timedelta(minutes=5)), Context(work=Path({str(desk.work)!r}), run={run!r}))
    """


def test_a_cancelled_run_begins_nothing_more_and_ends_what_ran_on_hosts(desk, nap):
    context = desk.context()
    before = signal.getsignal(signal.SIGINT)
    desk.play(slow(nap) + "    - ansible.builtin.copy: {content: x, dest: '{{ target }}/late', mode: '0600'}\n")
    canceller = once_it_sleeps(nap, context.cancelled.set)
    with pytest.raises(Cancelled) as caught:
        desk.engine.run(desk.request(), context)
    canceller.join()
    assert "What still ran was ended on web1 (Take long)." in caught.value.next_step
    assert sleeping(nap) == []
    assert list(desk.work.iterdir()) == []
    assert not (desk.target / "late").exists()
    assert signal.getsignal(signal.SIGINT) is before


STUBBORN = """
    - name: Ignore the first signal
      ansible.builtin.shell: "trap '' TERM; setsid sleep {nap} & sleep {nap}; sleep {nap}"
      async: 600
      poll: 0
    - name: Take long
      ansible.builtin.command: sleep {nap}
"""


def test_what_runs_beside_the_task_in_sessions_of_its_own_or_refuses_to_end_is_ended_too(desk, nap):
    context = desk.context()
    desk.play(STUBBORN.format(nap=nap))
    canceller = once_it_sleeps(nap, context.cancelled.set, processes=3)
    with pytest.raises(Cancelled) as caught:
        desk.engine.run(desk.request(), context)
    canceller.join()
    assert "What still ran was ended on web1" in caught.value.next_step
    assert sleeping(nap) == []


def test_a_run_whose_process_was_killed_is_swept_later_by_its_id_and_no_other_run_is_touched(desk, nap):
    """What ``resume`` does: the killed run's own processes are found on the hosts by its id and its address."""
    desk.play(slow(nap))
    mine = replace(desk.context(), run="run-1")
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program(desk, run="run-1"))])
    once_it_sleeps(nap, child.kill).join()
    child.wait(30)
    assert sleeping(nap)
    assert desk.engine.sweep(desk.request(), replace(mine, run="run-2")) == ()
    assert desk.engine.sweep(desk.request(address=group("others")), mine) == ()
    assert sleeping(nap)
    assert desk.engine.sweep(desk.request(), mine) == ()
    assert sleeping(nap) == []


STEPS = """
    - name: Begin
      ansible.builtin.file: {{path: "{target}/begun", state: directory, mode: "0700"}}
    - name: Lay down a file
      ansible.builtin.copy: {{content: "laid down", dest: "{target}/laid", mode: "0600"}}
    - name: Write over a file, and take long at the first time
      ansible.builtin.shell: "mkdir {target}/tried 2>/dev/null && sleep {nap}; echo base >{target}/service"
    - name: Add to the file that was written over
      ansible.builtin.lineinfile: {{path: "{target}/service", line: tuned, mode: "0640"}}
    - name: Do what is done once
      ansible.builtin.command: {{cmd: "touch {target}/once-{{{{ item }}}}", creates: "{target}/once-{{{{ item }}}}"}}
      loop: [1, 2, 3]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A run that nobody killed: how long it went on after its first task, and what it left on the host."""

    seconds: float
    left: dict[str, str]


def on_host(desk) -> dict[str, str]:
    """Mode and content of all that lies in the target. A module that is killed between writing its copy and renaming
    it leaves the copy beside the file: that is Ansible's, and not what was asked for."""
    return {
        one.name: f"{one.stat().st_mode:o} {one.read_text() if one.is_file() else ''}"
        for one in sorted(desk.target.iterdir())
        if not one.name.startswith(".ansible_tmp")
    }


def controller(desk, nap: str) -> subprocess.Popen[bytes]:
    """Another process that runs the steps, and is through with the first one."""
    desk.play(STEPS.format(target=desk.target, nap=nap))
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program(desk, run="run-1"))])
    until = time.monotonic() + 120
    while not (desk.target / "begun").exists():
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    return child


@pytest.fixture(scope="module")
def whole(loopback: Loopback, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    desk = desk_in(tmp_path_factory.mktemp("whole"), loopback)
    child = controller(desk, "3")
    began = time.monotonic()
    assert child.wait(120) == 0
    return Whole(seconds=time.monotonic() - began, left=on_host(desk))


@pytest.mark.parametrize("seed", range(RANDOM_KILLS))
def test_a_run_that_is_killed_at_a_random_moment_ends_as_if_it_had_not_been_when_it_is_run_again(desk, whole, seed):
    nap = f"3.{os.getpid()}{next(NUMBER)}"
    after = random.Random(seed).uniform(0, 1) * whole.seconds  # noqa: S311  chance, not secrecy
    where = f"seed {seed}: killed {after:.3f} s after its first task, of {whole.seconds:.3f} s"
    child = controller(desk, nap)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(after)
    child.kill()
    child.wait(30)
    until = time.monotonic() + 30
    while still_running(child.pid):
        assert time.monotonic() < until, f"{where}: {still_running(child.pid)} go on"
        time.sleep(0.05)

    again = replace(desk.context(), run="run-1")
    assert desk.engine.sweep(desk.request(), again) == (), where
    assert sleeping(nap) == [], where
    result = desk.engine.run(desk.request(), again)
    assert (result.failed, result.unreachable) == ((), ()), where
    assert on_host(desk) == whole.left, where


def test_a_sweep_says_where_it_could_not_look(desk, tmp_path):
    context = replace(desk.context(), run="run-1")
    with serve(tmp_path / "deaf", accept="") as deaf:
        (deaf.folder / "authorized_keys").write_text((desk.loopback.folder / "authorized_keys").read_text())
        hosts = [deaf.host("deaf"), desk.loopback.host("gone", port=free_port())]
        told = desk.engine.sweep(desk.request(hosts), context)
    assert [one.partition(":")[0] for one in told] == ["deaf", "gone"]
    assert "AcceptEnv" in told[0]
    assert "(refused: " in told[1]


def test_ctrl_c_ends_a_run_and_all_that_it_started(desk, nap):
    desk.play(slow(nap))
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program(desk))], stderr=subprocess.PIPE, text=True)
    once_it_sleeps(nap, lambda: child.send_signal(signal.SIGINT)).join()
    _, said = child.communicate(timeout=60)
    assert said.strip().endswith("KeyboardInterrupt")
    assert still_running(child.pid) == []
    assert list(desk.work.iterdir()) == []
    assert not list(Path("/dev/shm").glob(f"ismgr-run-{child.pid}-*"))
    assert not list(Path(tempfile.gettempdir()).glob(f"ismgr-run-{child.pid}-*"))


def test_a_run_past_its_deadline_is_stopped(desk, nap):
    desk.play(slow(nap))
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


def test_a_watcher_that_never_comes_back_holds_no_run_up(desk):
    over = threading.Event()
    desk.watch = lambda _event: over.wait(120)
    try:
        result = desk.run("    - ansible.builtin.debug: {msg: x}\n" * 4)
    finally:
        over.set()
    assert result.counts == {"web1": {Status.OK: 4}}
    until = time.monotonic() + 10
    while any(one.name == "ismgr-teller" for one in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    first, last = desk.events
    assert isinstance(first, TaskFinished)
    assert last == OutputSeen(subject=group("webs"), text="3 events were left out: a watcher is too slow")


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
