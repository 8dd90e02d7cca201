"""engines/process.py: one child, one deadline, nothing left."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing, EngineTimedOut, LeaseLost
from ismgr_automation.engines import leash, process
from tests.engines.open_files import descriptors

LONG = timedelta(seconds=60)
SHORT = timedelta(seconds=0.5)

IGNORES_SIGINT = (
    "import signal,time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
)
GRANDCHILD = (
    "import subprocess,sys;"
    "p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(300)'], process_group=0); print(p.pid)"
)


def run(argv: Sequence[str], **more: object) -> process.Finished:
    arguments: dict[str, object] = {"engine": "probe", "subject": "stack/probe", "deadline": LONG} | more
    return process.run(argv, **arguments)  # type: ignore[arg-type]


def python(code: str, words: Sequence[str] = (), **more: object) -> process.Finished:
    return run([sys.executable, "-c", code, *words], **more)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(autouse=True)
def nothing_is_left():
    gc.collect()  # what tests before this one have let go of is no part of it
    threads, files = threading.active_count(), descriptors()
    children = {pid for pid, _, _ in process._processes() if parent(pid) == os.getpid()}
    yield
    assert threading.active_count() <= threads
    assert descriptors() <= files
    assert {pid for pid, _, _ in process._processes() if parent(pid) == os.getpid()} <= children


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_a_failing_command_is_returned_and_not_raised():
    done = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.code, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_death_by_a_signal_is_a_negative_code():
    assert python("import os,signal; os.kill(os.getpid(), signal.SIGKILL)").code == -9


def test_lines_come_as_they_are_printed_and_the_last_needs_no_end():
    seen: list[str] = []
    go = threading.Event()

    def on_line(line: str) -> None:
        seen.append(line)
        if line == "first":
            go.set()

    code = "import sys; print('first', flush=True); sys.stdin.read(); sys.stdout.write('gr\\u00fcn\\r\\nlast')"
    done = python(code, on_stdout=on_line, stdin=b"x" * 300_000, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert go.is_set()
    assert seen == ["first", "gr\u00fcn", "last"]
    assert done.stdout == "first\ngr\u00fcn\r\nlast"


def test_a_character_cut_in_two_by_the_pipe_stays_whole():
    seen: list[str] = []
    code = "import os,time; os.write(1, b'a\\xc3'); time.sleep(0.2); os.write(1, b'\\xbc\\n')"
    assert python(code, on_stdout=seen.append).stdout == "a\u00fc\n"
    assert seen == ["a\u00fc"]


def test_a_child_that_reads_nothing_is_no_error():
    assert python("pass", stdin=b"x" * 1_000_000).code == 0


def test_standard_input_is_empty_unless_given():
    assert python("import sys; print(repr(sys.stdin.read()))").stdout == "''\n"


def test_the_deadline_stops_the_child_and_says_what_it_printed_last():
    with pytest.raises(EngineTimedOut) as caught:
        python("import time; print('waiting for godot', flush=True); time.sleep(300)", deadline=timedelta(seconds=5))
    assert caught.value.engine == "probe"
    assert "stack/probe" in caught.value.summary
    assert "within 5 s" in caught.value.summary
    assert "waiting for godot" in caught.value.detail


def test_secrets_are_taken_out_of_what_a_stopped_child_printed():
    with pytest.raises(EngineTimedOut) as caught:
        python(
            "import time; print('key hunter2', flush=True); time.sleep(300)",
            deadline=timedelta(seconds=5),
            clean=lambda text: text.replace("hunter2", "<secret>"),
        )
    assert "hunter2" not in str(caught.value) + caught.value.detail
    assert "key <secret>" in caught.value.detail


def test_a_child_gets_its_grace_to_clean_up(tmp_path: Path):
    mark = tmp_path / "cleaned"
    code = (
        "import pathlib,sys,time\n"
        "try:\n time.sleep(300)\n"
        f"except KeyboardInterrupt:\n pathlib.Path({str(mark)!r}).touch()"
    )
    with pytest.raises(EngineTimedOut):
        python(code, deadline=timedelta(seconds=5))
    assert mark.exists()


def test_a_child_that_ignores_sigint_is_killed_after_its_grace():
    pids: list[int] = []
    code = IGNORES_SIGINT.replace("print('up', flush=True)", "import os; print(os.getpid(), flush=True)")
    with pytest.raises(EngineTimedOut):
        python(code, deadline=timedelta(seconds=5), grace=SHORT, on_stdout=lambda line: pids.append(int(line)))
    assert pids
    assert not alive(pids[0])


def test_cancelling_stops_a_running_child():
    cancelled = threading.Event()
    with pytest.raises(Cancelled) as caught:
        python(IGNORES_SIGINT, cancelled=cancelled, grace=SHORT, on_stdout=lambda _line: cancelled.set())
    assert "stack/probe" in str(caught.value)


def test_nothing_starts_once_cancelled(tmp_path: Path):
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        python(f"open({str(tmp_path / 'ran')!r}, 'w')", cancelled=cancelled)
    assert not (tmp_path / "ran").exists()


def test_a_grandchild_in_a_group_of_its_own_does_not_outlive_the_call():
    done = python(GRANDCHILD)
    assert done.code == 0
    assert not alive(int(done.stdout))


def test_a_grandchild_that_ignores_every_polite_signal_does_not_outlive_the_deadline():
    pids: list[int] = []
    stubborn = (
        "import signal,time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print(flush=True); time.sleep(300)"
    )
    code = (
        "import subprocess,sys,time;"
        f"p=subprocess.Popen([sys.executable,'-c',{stubborn!r}], process_group=0, stdout=subprocess.PIPE);"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(300)"
    )
    with pytest.raises(EngineTimedOut):
        python(code, deadline=timedelta(seconds=8), grace=SHORT, on_stdout=lambda line: pids.append(int(line)))
    assert pids
    assert not alive(pids[0])


DAEMON = (
    "import subprocess,sys;"
    "p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(300)'], start_new_session=True);"
    "print(p.pid, flush=True)"
)


def test_a_daemon_that_left_the_session_and_holds_the_pipe_ends_with_its_parent():
    assert not alive(int(python(DAEMON).stdout))


def test_a_daemon_whose_parents_are_long_gone_ends_with_the_call(tmp_path: Path):
    seen: list[int] = []
    looked = tmp_path / "looked"

    def on_line(line: str) -> None:
        seen.append(int(line))
        assert alive(seen[0])
        looked.touch()

    twice = (
        f"import pathlib,subprocess,sys,time; subprocess.run([sys.executable, '-c', {DAEMON!r}])\n"
        f"while not pathlib.Path({str(looked)!r}).exists(): time.sleep(0.01)\n"
        "print(0)"
    )
    assert python(twice, on_stdout=lambda line: on_line(line) if line != "0" else None).code == 0
    assert seen
    assert not alive(seen[0])


def test_a_daemon_is_left_where_that_is_the_purpose_of_the_command():
    daemon = int(python(DAEMON, leashed=False).stdout)
    assert alive(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_cancelling_leaves_no_daemon_either():
    pids: list[int] = []
    cancelled = threading.Event()

    def on_line(line: str) -> None:
        pids.append(int(line))
        cancelled.set()

    with pytest.raises(Cancelled):
        python(f"{DAEMON}; import time; time.sleep(300)", cancelled=cancelled, on_stdout=on_line)
    assert not alive(pids[0])


def test_what_a_cancelled_child_may_take_and_what_follows_is_over_in_five_seconds():
    assert process.GRACE + timedelta(seconds=process._LOOK_SECONDS + leash.PATIENCE_SECONDS) < timedelta(seconds=5)


OWNER = """
import sys
from datetime import timedelta
from pathlib import Path
from ismgr_automation.core.errors import LeaseLost
from ismgr_automation.engines import process

try:
    process.run(
        [sys.executable, "-c", {code!r}], engine="probe", subject="stack/probe", deadline=timedelta(seconds=60),
        on_stdout=lambda line: print(line, flush=True), leash=Path({file!r}) if {file!r} else None,
    )
except LeaseLost as problem:
    print(problem, flush=True)
"""


@contextlib.contextmanager
def owner(code: str, file: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process of ours that runs this code, and the id that the code prints first."""
    text = OWNER.format(code=code, file="" if file is None else str(file))
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            yield started, int(started.stdout.readline())
        finally:
            started.kill()


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.02)


def until_boot_time(seconds: float) -> str:
    return str(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9))


STUBBORN_TREE = f"import signal; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]; {DAEMON}; signal.pause()"


def test_when_we_are_killed_everything_that_we_started_is_killed():
    with owner(STUBBORN_TREE) as (started, daemon):
        session = os.getsid(parent(daemon))
        assert len(process.session_members(session)) == 2
        started.kill()
        wait_until(lambda: not alive(daemon))
        wait_until(lambda: not process.session_members(session))


def test_when_we_are_paused_everything_ends_with_the_leash_and_we_are_told_when_we_wake(tmp_path: Path):
    file = tmp_path / "leash"
    file.write_text(until_boot_time(60))
    with owner(STUBBORN_TREE, file) as (started, daemon):
        os.kill(started.pid, signal.SIGSTOP)
        file.write_text(until_boot_time(0.1))
        wait_until(lambda: not alive(daemon))
        os.kill(started.pid, signal.SIGCONT)
        assert started.stdout is not None
        told = started.stdout.readline()
    assert "stack/probe: probe was killed" in told
    assert "What it had done by then stays." in told


def test_a_leash_that_is_made_longer_in_time_kills_nothing(tmp_path: Path):
    file = tmp_path / "leash"
    file.write_text(until_boot_time(10))
    go_on = f"open({str(file)!r}, 'w').write({until_boot_time(300)!r}); import time; time.sleep(10.5)"
    assert python(go_on, leash=file).code == 0


@pytest.mark.parametrize("content", [None, "", "soon", "0"], ids=["missing", "empty", "no number", "long over"])
def test_a_leash_that_cannot_be_read_or_is_over_starts_nothing(tmp_path: Path, content: str | None):
    file = tmp_path / "leash"
    if content is not None:
        file.write_text(content)
    with pytest.raises(LeaseLost):
        python(f"open({str(tmp_path / 'ran')!r}, 'w')", leash=file)
    assert not (tmp_path / "ran").exists()


def test_a_leash_that_vanishes_holds_until_its_last_moment(tmp_path: Path):
    file = tmp_path / "leash"
    file.write_text(until_boot_time(60))
    assert python(f"import os,time; os.unlink({str(file)!r}); time.sleep(1.2)", leash=file).code == 0


def test_when_the_launcher_is_killed_its_session_ends_with_it():
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        os.kill(os.getsid(pids[0]), signal.SIGKILL)

    done = python("import os,time; print(os.getpid(), flush=True); time.sleep(300)", on_stdout=on_line)
    assert done.code == -9
    assert not alive(pids[0])


def test_the_launcher_adds_nothing_to_what_the_command_sees():
    done = run(["/usr/bin/env"], env={"ONLY": "this", "LC_ALL": "C"})
    assert sorted(done.stdout.splitlines()) == ["LC_ALL=C", "ONLY=this"]
    listed = run(["/bin/ls", "/proc/self/fd"]).stdout.split()
    assert listed == ["0", "1", "2", "3"], "the fourth is the folder that ls reads"
    ignored = int(run(["/bin/grep", "SigIgn", "/proc/self/status"]).stdout.split()[1], 16)
    # Python itself ignores some, and gives them back to its children; nohup may have ignored others for all of us
    ours = {one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN}
    inherited = sum(1 << (one - 1) for one in ours - {signal.SIGPIPE, signal.SIGXFSZ})
    assert ignored & 0x7FFFFFFF & ~inherited == 0, "signals above 31 are not ours"


def test_arguments_come_as_they_were_given():
    words = ["", "two\nlines", "gr\u00fcn", "a b", "x" * 100_000]
    assert python("import sys; print(sys.argv[1:])", words).stdout == f"{words}\n"
    with pytest.raises(ValueError, match="null"):
        python("pass", ["a\0b"])


def test_a_callback_that_raises_stops_the_child():
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        python("import os,time; print(os.getpid(), flush=True); time.sleep(300)", on_stdout=on_line)
    assert not alive(pids[0])


def test_a_missing_executable_is_named():
    with pytest.raises(EngineMissing) as caught:
        process.run(["/nowhere/pulumi"], engine="pulumi", subject="stack/a", deadline=LONG)
    assert "/nowhere/pulumi" in str(caught.value)


def test_a_file_that_may_not_be_run_is_named(tmp_path: Path):
    (tmp_path / "pulumi").write_text("#!/bin/sh\n")
    with pytest.raises(EngineMissing, match="permission denied"):
        process.run([str(tmp_path / "pulumi")], engine="pulumi", subject="stack/a", deadline=LONG)


def test_a_missing_folder_is_not_taken_for_a_missing_executable(tmp_path: Path):
    with pytest.raises(EngineFailed, match="cannot be entered"):
        python("pass", cwd=tmp_path / "gone")


def test_a_command_that_the_machine_cannot_start_is_an_engine_error():
    with pytest.raises(EngineFailed, match="cannot start probe"):
        python("#" * 3_000_000)


def test_the_environment_is_what_was_given():
    done = python("import os; print(sorted(os.environ))", env={"ONLY": "this"})
    assert "ONLY" in done.stdout
    assert "HOME" not in done.stdout


def test_a_passed_file_descriptor_reaches_the_child():
    reading, writing = os.pipe()
    try:
        python(f"import os; os.write({writing}, b'result')", pass_fds=(writing,))
        assert os.read(reading, 100) == b"result"
    finally:
        os.close(reading)
        os.close(writing)
