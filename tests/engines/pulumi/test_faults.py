"""engines/pulumi when things go wrong: a clear error, nothing lost, nothing left running (the bench looks after it)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import (
    Cancelled,
    CredentialRejected,
    EngineFailed,
    EngineMissing,
    EngineTimedOut,
    InputError,
    Unreachable,
)
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines import process
from ismgr_automation.engines.pulumi.errors import StackLocked
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.stacks import Operation

from .conftest import FIRST_LINE, apply_elsewhere, our_processes, wait_for

pytestmark = pytest.mark.engine

BLOCKED = 'a = Thing("a", size=1)\nThing("b", block=True, opts=pulumi.ResourceOptions(depends_on=[a]))'
STUBBORN = BLOCKED.replace("block=True", 'block="stubborn"')


def pids(words: str) -> list[int]:
    """Our processes whose command line has these words."""
    found = []
    for pid in our_processes():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words in line:
            found.append(pid)
    return found


def while_blocked(bench, request, act: Callable[[], None]) -> BaseException | None:
    """Start an apply whose second resource never ends, act once it hangs there; what the apply raised."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bench.up, request)
        wait_for((bench.world / "blocked").exists)
        act()
        return running.exception(timeout=60)


def test_a_failed_resource_is_a_result_and_the_others_land(bench):
    request = bench.program('Thing("a", size=1)\nThing("b", fail="the rack is on fire")\nThing("c", size=3)')
    done = bench.up(request)
    assert [step.name for step in done.steps] == ["a", "c"]
    assert len(done.failed) == 1
    assert done.failed[0].startswith("b: ")
    assert "the rack is on fire" in done.failed[0]
    assert bench.engine.state(request).state_digest == done.state_digest
    assert ("b", "failed") in [(one.resource, one.state) for one in bench.events if hasattr(one, "resource")]


def test_a_resource_that_cannot_be_deleted_is_a_result_of_destroy(bench):
    request = bench.program('Thing("a", size=1)\nThing("b", size=2)')
    bench.up(request)
    (bench.world / "b.undeletable.json").write_text("bolted to the floor")
    done = bench.destroy(request)
    assert [step.name for step in done.steps] == ["a"]
    assert "bolted to the floor" in done.failed[0]
    assert bench.engine.state(request).resources == 1


def test_a_value_that_the_provider_rejects_is_an_input_error(bench):
    with pytest.raises(InputError) as caught:
        bench.preview(bench.program('Thing("a", size=-1)'))
    assert "size must not be negative" in str(caught.value)
    assert "Nothing was touched" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'", 1),
        ("\ndef inner():\n    raise ValueError('wrong size')\ninner()", "wrong size", 3),
        ("x = (", "'(' was never closed", 1),
        ("\npulumi.Config().require('site')", "needs the config value 'site'", 2),
        ("import sys\nsys.exit(3)", "SystemExit: 3", 2),
    ],
)
def test_a_program_that_raises_is_blamed_with_its_own_line(bench, code, words, line):
    with pytest.raises(InputError) as caught:
        bench.preview(bench.program(code))
    (diagnostic,) = caught.value.diagnostics
    assert words in diagnostic.summary
    assert str(diagnostic.position) == f"stacks/things/__main__.py:{FIRST_LINE + line - 1}:1"
    assert "site-packages" not in str(caught.value)


def test_an_apply_of_a_program_that_raises_touches_nothing_and_says_so(bench):
    with pytest.raises(InputError, match="Nothing was touched"):
        bench.up(bench.program("raise ValueError('no')"))
    assert bench.things() == {}


def test_an_apply_of_a_value_that_raises_is_blamed_with_its_own_line(bench):
    with pytest.raises(InputError) as caught:
        bench.preview(bench.program("\nThing('a', size=1).urn.apply(lambda urn: 1 / 0)"))
    assert f"stacks/things/__main__.py:{FIRST_LINE + 1}:1: error: ZeroDivisionError: division by zero" in str(
        caught.value
    )


def test_a_program_that_raises_after_something_landed_is_a_result_that_says_so(bench):
    request = bench.program('Thing("a", size=1).serial.apply(lambda serial: 1 / 0)')
    done = bench.up(request)
    assert [step.name for step in done.steps] == ["a"]
    assert "division by zero" in done.failed[0]
    assert "__main__.py" in done.failed[0]


def test_a_program_that_hangs_is_stopped_at_the_deadline(bench):
    request = bench.program("import time\ntime.sleep(600)", deadline=timedelta(seconds=4))
    with pytest.raises(EngineTimedOut) as caught:
        bench.preview(request)
    assert "stack/things" in str(caught.value)


def test_an_apply_that_hangs_is_killed_with_its_provider_and_says_what_had_landed_and_what_nobody_knows(bench):
    provider = Path(os.environ["PATH"].split(":")[0], "pulumi-resource-probe")
    provider.write_text(provider.read_text().replace("exec", "export PROBE_ORPHANS=1; exec"))
    request = bench.program(STUBBORN, deadline=timedelta(seconds=45))
    with pytest.raises(EngineTimedOut) as caught:
        bench.up(request)
    pid = int((bench.world / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert "Landed before: a. Unknown: b." in str(caught.value)
    assert set(bench.things()) == {"a"}
    assert bench.locks() == []
    assert bench.engine.state(request).resources == 1


def test_cancelling_an_apply_stops_it_keeps_what_landed_and_leaves_no_lock(bench):
    request = bench.program(BLOCKED)
    problem = while_blocked(bench, request, bench.cancelled.set)
    assert isinstance(problem, Cancelled)
    assert "Landed before: a." in str(problem)
    assert bench.locks() == []
    assert bench.engine.state(request).resources == 1
    # the next apply goes on from there
    bench.cancelled.clear()
    done = bench.up(bench.program('a = Thing("a", size=1)\nThing("b")'))
    assert [(step.name, step.operation) for step in done.steps] == [("b", Operation.CREATE)]


def test_nothing_is_started_once_cancelled(bench):
    bench.cancelled.set()
    with pytest.raises(Cancelled):
        bench.up(bench.program('Thing("a")'))
    assert bench.things() == {}


def test_a_killed_worker_is_an_error_and_takes_everything_with_it(bench):
    request = bench.program(BLOCKED)
    problem = while_blocked(bench, request, lambda: os.kill(pids("engines.pulumi.worker")[0], signal.SIGKILL))
    assert isinstance(problem, EngineFailed), repr(problem)
    assert "the worker process was killed by signal 9" in str(problem)
    assert "Landed before: a." in str(problem)
    assert bench.locks() == []
    assert bench.engine.state(request).resources == 1


def test_after_a_killed_engine_the_next_plan_says_what_nobody_knows_and_the_next_apply_goes_on(bench):
    request = bench.program(BLOCKED)
    problem = while_blocked(bench, request, lambda: os.kill(pids("pulumi up")[0], signal.SIGKILL))
    assert isinstance(problem, EngineFailed), repr(problem)
    assert "the engine process was killed by signal 9" in str(problem)
    assert "Landed before: a. Unknown: b." in str(problem)
    assert bench.locks() == []
    goes_on = bench.program('a = Thing("a", size=1)\nThing("b")')
    seen = bench.preview(goes_on)
    assert [(one.name, one.before) for one in seen.drift] == [("b", {"<interrupted>": "creating"})]
    assert [(one.name, one.operation) for one in seen.steps] == [("b", Operation.CREATE)]
    assert bench.up(goes_on).failed == ()
    assert bench.preview(goes_on).drift == ()


def test_when_our_own_process_is_killed_worker_engine_and_provider_end_too(bench, pulumi_engine_path):
    bench.program(BLOCKED)
    with apply_elsewhere(bench, pulumi_engine_path) as ours:
        wait_for((bench.world / "blocked").exists)
        session = os.getsid(pids("engines.pulumi.worker")[0])
        assert len(process.session_members(session)) >= 4  # launcher, worker, engine, provider
        ours.kill()
        ours.wait()
        wait_for(lambda: not process.session_members(session))


def lock(bench, pid: int, host: str, since: str = "2020-01-02T03:04:05Z") -> Path:
    folder = bench.state_folder / ".pulumi" / "locks" / "organization" / "things" / "things"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0e2f4f3e-1111-2222-3333-444455556666.json"
    path.write_text(json.dumps({"pid": pid, "username": "alice", "hostname": host, "timestamp": since}))
    return path


def test_a_stale_lock_of_a_dead_owner_is_named_and_how_to_clear_it(bench):
    request = bench.program('Thing("a")')
    bench.up(request)
    dead = subprocess.Popen(["true"])
    dead.wait()
    path = lock(bench, dead.pid, socket.gethostname())
    with pytest.raises(StackLocked) as caught:
        bench.up(request)
    assert f"by alice@{socket.gethostname()}, process {dead.pid}, which is gone, since 2020-01-02T03:04:05Z" in str(
        caught.value
    )
    assert f"rm {path}" in caught.value.next_step
    assert path.exists()
    assert bench.preview(request).steps == (), "a preview reads, and waits for nobody"


def test_a_lock_of_a_living_owner_says_to_wait(bench):
    request = bench.program('Thing("a")')
    bench.up(request)
    lock(bench, os.getpid(), socket.gethostname(), since="2999-01-01T00:00:00Z")
    with pytest.raises(StackLocked, match="which still runs") as caught:
        bench.destroy(request)
    assert "Wait for it to end" in caught.value.next_step
    assert set(bench.things()) == {"a"}


def test_a_lock_from_another_host_is_not_judged(bench):
    request = bench.program('Thing("a")')
    bench.up(request)
    lock(bench, 1, "elsewhere")
    with pytest.raises(StackLocked, match="by alice@elsewhere, process 1, since"):
        bench.up(request)


def test_a_wrong_passphrase_is_a_rejected_credential_and_is_not_shown(bench, monkeypatch):
    request = bench.program('pulumi.export("x", pulumi.Output.secret("y"))')
    bench.up(request)
    monkeypatch.setenv("PROBE_PASSPHRASE", "wrong-passphrase-0815")
    for operate in (bench.preview, bench.up, bench.destroy):
        with pytest.raises(CredentialRejected) as caught:
            operate(request)
        assert "0815" not in str(caught.value) + caught.value.detail


def test_a_missing_provider_is_named_with_ways_to_get_it(bench):
    request = bench.program('pulumi.CustomResource("nope:index:X", "x", {})')
    with pytest.raises(EngineMissing) as caught:
        bench.preview(request)
    assert "pulumi-resource-nope" in str(caught.value)
    assert "pulumi plugin install resource nope" in str(caught.value)


def test_a_backend_that_cannot_be_reached_is_said_and_its_password_is_not(bench):
    request = bench.program("", state="postgres://ismgr:hunter2-pg@127.0.0.1:1/state?sslmode=disable")
    with pytest.raises(Unreachable) as caught:
        bench.preview(request)
    assert "state backend" in str(caught.value)
    assert "hunter2-pg" not in str(caught.value) + caught.value.detail


def test_a_damaged_state_file_is_named_and_left_alone(bench):
    request = bench.program('Thing("a")')
    bench.up(request)
    path = bench.state_folder / ".pulumi" / "stacks" / "things" / "things.json"
    path.write_text(path.read_text()[:100])
    for operate in (bench.engine.state, bench.preview, bench.up, bench.destroy):
        with pytest.raises(EngineFailed, match=r"things\.json cannot be read: it is damaged"):
            operate(request)
    assert len(path.read_text()) == 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no Pulumi.yaml"),
        ("name: x\nruntime: nodejs\n", "the runtime is 'nodejs'"),
        ("runtime: python\n", "the project has no name"),
        ("name: [\n", "Pulumi.yaml:2:1"),
        ("just words\n", "it is not a mapping"),
        ("name: x\nruntime: python\nmain: gone/\n", "there is no program at"),
    ],
)
def test_a_folder_that_is_no_project_is_an_input_error(bench, text, words):
    request = bench.program("")
    (request.program / "Pulumi.yaml").unlink()
    if text is not None:
        (request.program / "Pulumi.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        bench.preview(request)
    assert words in str(caught.value)


def test_a_secret_that_cannot_be_opened_is_named(bench):
    request = bench.program("", config={"word": SecretRef("env", "PROBE_NOT_SET")})
    with pytest.raises(InputError, match="PROBE_NOT_SET"):
        bench.preview(request)


@pytest.fixture
def small_disk(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


def test_a_full_disk_in_the_work_folder_is_an_engine_error_and_nothing_is_lost(bench, small_disk):
    request = bench.program('Thing("a", size=1)')
    bench.up(request)
    before = bench.engine.state(request)
    fill(small_disk)
    for operate in (bench.engine.preview, bench.engine.up, bench.engine.destroy):
        with pytest.raises(EngineFailed, match="disk"):
            operate(request, Context(work=small_disk))
    assert bench.engine.state(request) == before
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    assert bench.locks() == []


def test_a_full_disk_under_the_state_is_said_and_the_old_state_stays_readable(bench, small_disk):
    request = bench.program('Thing("a", size=1)', state=f"file://{small_disk}")
    bench.up(request)
    fill(small_disk)
    many = "\n".join(f'Thing("thing-{number}", size={number}, note="{"x" * 200}")' for number in range(8))
    with pytest.raises(EngineFailed, match="disk is full"):
        bench.up(bench.program(many, state=f"file://{small_disk}"))
    assert bench.engine.state(request).resources == 1


def test_two_stacks_at_once_do_not_disturb_each_other(bench):
    requests = [bench.program(f'Thing("a{number}", seconds=1)', name=f"stack{number}") for number in range(3)]
    before = threading.active_count()
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(bench.up, requests))
    assert [one.failed for one in done] == [(), (), ()]
    assert set(bench.things()) == {"a0", "a1", "a2"}
    wait_for(lambda: threading.active_count() <= before)
