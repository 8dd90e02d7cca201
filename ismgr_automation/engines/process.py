"""The one place that starts a child process: a deadline, a session of its own, and nothing left when the call is over.
Nothing here knows what it runs or judges an exit code."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing, EngineTimedOut

OnLine = Callable[[str], None]

TAIL_LINES = 40
"""How much of what a stopped child printed goes into the error."""

_LOOK_SECONDS = 0.1
_SETTLE_SECONDS = 2.0
_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that ended by itself. ``code`` is negative (minus the signal) when a signal ended it."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def run(
    argv: Sequence[str],
    *,
    engine: str,
    subject: str,
    deadline: timedelta,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    on_stdout: OnLine | None = None,
    on_stderr: OnLine | None = None,
    cancelled: threading.Event | None = None,
    grace: timedelta = timedelta(seconds=10),
    pass_fds: tuple[int, ...] = (),
    clean: Callable[[str], str] = str,
) -> Finished:
    """Run a command to its end and return its exit code and output, whatever the code is.

    The child leads a session of its own. On the deadline, or once ``cancelled`` is set, its process group gets SIGINT,
    and after ``grace`` every process of the session gets SIGKILL, those in other groups included. Processes that
    outlive the child are ended too. ``on_stdout`` and ``on_stderr`` get each line, without its end, in the calling
    thread; no thread is made. ``env`` None means our own environment; ``stdin`` None means an empty one. ``clean``
    takes secrets out of output that goes into an error.

    Raises ``EngineTimedOut`` at the deadline, ``Cancelled`` when somebody cancelled, ``EngineMissing`` when there is
    no such executable, ``EngineFailed`` when the machine cannot start it.
    """
    if cancelled is not None and cancelled.is_set():
        raise Cancelled(f"{subject}: stopped before {engine} was started.", untouched="Nothing was touched.")
    started = time.monotonic()
    child = _start(argv, engine=engine, subject=subject, cwd=cwd, env=env, stdin=stdin, pass_fds=pass_fds)
    try:
        with _Watch(child, stdin, on_stdout, on_stderr) as watch:
            cause = watch.until_exit(started + deadline.total_seconds(), cancelled)
            if cause is not None:
                _signal_group(child.pid, signal.SIGINT)
                watch.until_exit(time.monotonic() + grace.total_seconds(), None)
            end_session(child.pid)
            watch.drain()
            said = watch.said()
    finally:
        # reached early when a callback raised or somebody interrupted us: then there is no grace
        end_session(child.pid, patience=0.0)
        child.wait()
    seconds = time.monotonic() - started
    stdout, stderr = said
    if cause == "deadline":
        raise EngineTimedOut(
            f"{subject}: {engine} did not finish within {_words(deadline)}; it was stopped with all its children.",
            engine=engine,
            subject=subject,
            next_step="Look at what it waited for, or give it a longer deadline.",
            detail=clean(_tail(stdout, stderr)),
        )
    if cause == "cancelled":
        raise Cancelled(f"{subject}: {engine} was stopped on request, with all its children.")
    return Finished(code=child.returncode, stdout=stdout, stderr=stderr, seconds=seconds)


def session_members(session: int) -> tuple[int, ...]:
    """The ids of living processes of a session, leader included; zombies are not living."""
    return tuple(pid for pid, sid, state in _processes() if sid == session and state not in "ZX")


def end_session(session: int, patience: float = _SETTLE_SECONDS) -> None:
    """End what still lives in a session: SIGTERM, up to ``patience`` seconds, SIGKILL. Returns when all are gone.

    The session's leader must not have been waited for yet, so that its id cannot belong to somebody else by now.
    """
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _SETTLE_SECONDS)):
        if seconds <= 0:
            continue
        until = time.monotonic() + seconds
        sent: set[int] = set()
        while members := session_members(session):
            # a process may be born between two looks, so each look signals those not seen before
            for pid in members:
                if pid not in sent or number == signal.SIGKILL:
                    _signal(pid, number)
                    sent.add(pid)
            if time.monotonic() > until:
                break
            time.sleep(0.01)


def _start(
    argv: Sequence[str],
    *,
    engine: str,
    subject: str,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdin: bytes | None,
    pass_fds: tuple[int, ...],
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=None if env is None else dict(env),
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as problem:
        if cwd is not None and not (cwd.is_dir() and os.access(cwd, os.X_OK)):
            raise EngineFailed(
                f"{subject}: the folder {cwd} cannot be entered, so {engine} was not started.",
                engine=engine,
                subject=subject,
                untouched="Nothing was touched.",
                next_step="Make the folder, or give this user the right to enter it.",
            ) from problem
        raise EngineMissing(
            engine=engine,
            needed=f"to work on {subject}",
            found=(f"{argv[0]}: {os.strerror(problem.errno or errno.ENOENT).lower()}",),
            ways=(f"install {engine}, or correct PATH",),
        ) from problem
    except OSError as problem:
        raise EngineFailed(
            f"{subject}: this machine cannot start {engine}: {problem.strerror or problem}.",
            engine=engine,
            subject=subject,
            untouched="Nothing was touched.",
            next_step="Free memory, disk or process slots, and try again.",
        ) from problem


@dataclass(slots=True)
class _Stream:
    """One output of the child: all of its text, and the line that is not finished yet."""

    on_line: OnLine | None
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    text: list[str] = field(default_factory=list)
    open_line: str = ""

    def feed(self, data: bytes) -> None:
        piece = self.decoder.decode(data, final=not data)
        self.text.append(piece)
        if self.on_line is None:
            return
        *whole, self.open_line = (self.open_line + piece).split("\n")
        if not data and self.open_line:
            whole, self.open_line = [*whole, self.open_line], ""
        for line in whole:
            self.on_line(line.removesuffix("\r"))


class _Watch:
    """Feeds a child and reads it, in the calling thread, until it has ended and its pipes are empty."""

    def __init__(
        self, child: subprocess.Popen[bytes], stdin: bytes | None, on_stdout: OnLine | None, on_stderr: OnLine | None
    ) -> None:
        self._child = child
        self._feed = memoryview(stdin or b"")
        self._streams = {child.stdout: _Stream(on_stdout), child.stderr: _Stream(on_stderr)}
        self._selector = selectors.DefaultSelector()
        self._exit = os.pidfd_open(child.pid)
        self._exited = False

    def __enter__(self) -> Self:
        self._selector.register(self._exit, selectors.EVENT_READ)
        for pipe in self._streams:
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ)
        if self._child.stdin is not None:
            os.set_blocking(self._child.stdin.fileno(), False)
            self._selector.register(self._child.stdin, selectors.EVENT_WRITE)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        os.close(self._exit)
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def until_exit(self, until: float, cancelled: threading.Event | None) -> str | None:
        """Work until the child has ended (None), or say what came first: ``deadline`` or ``cancelled``."""
        while not self._exited:
            left = until - time.monotonic()
            if left <= 0:
                return "deadline"
            if cancelled is not None and cancelled.is_set():
                return "cancelled"
            self._once(min(left, _LOOK_SECONDS))
        return None

    def drain(self) -> None:
        """Read what is left in the pipes. A daemon that left the session may hold them open: it is not waited for."""
        until = time.monotonic() + _SETTLE_SECONDS
        while any(key.fileobj in self._streams for key in self._selector.get_map().values()):
            if not self._once(_LOOK_SECONDS) or time.monotonic() > until:
                break
        for stream in self._streams.values():
            stream.feed(b"")

    def said(self) -> tuple[str, str]:
        """Everything on standard output, everything on standard error."""
        stdout, stderr = ("".join(stream.text) for stream in self._streams.values())
        return stdout, stderr

    def _once(self, seconds: float) -> bool:
        ready = self._selector.select(seconds)
        for key, _ in ready:
            if key.fd == self._exit:
                self._exited = True
                self._selector.unregister(self._exit)
            elif key.fileobj is self._child.stdin:
                self._write()
            else:
                self._read(key)
        return bool(ready)

    def _read(self, key: selectors.SelectorKey) -> None:
        data = os.read(key.fd, _CHUNK_BYTES)
        if data:
            next(stream for pipe, stream in self._streams.items() if pipe is key.fileobj).feed(data)
        else:
            self._selector.unregister(key.fileobj)

    def _write(self) -> None:
        pipe = self._child.stdin
        if pipe is None:
            return
        try:
            self._feed = self._feed[os.write(pipe.fileno(), self._feed[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            # a child may end without reading: its exit code tells the rest
            self._feed = memoryview(b"")
        if not self._feed:
            self._selector.unregister(pipe)
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Every process of this machine that we may look at: id, session, state letter."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone between the two looks
        # the name may hold spaces and brackets, so count from the last one
        fields = stat[stat.rindex(")") + 2 :].split()
        yield int(entry.name), int(fields[3]), fields[0]


def _tail(stdout: str, stderr: str) -> str:
    return "\n".join([*stdout.splitlines()[-TAIL_LINES:], *stderr.splitlines()[-TAIL_LINES:]])


def _words(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"
