"""The one place that starts a child process: a deadline, a leash, a session of its own, and nothing left when the call
is over. Nothing here knows what it runs or judges an exit code."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing, EngineTimedOut, LeaseLost

OnLine = Callable[[str], None]

TAIL_LINES = 40
"""How much of what a stopped child printed goes into the error."""

GRACE = timedelta(seconds=3)
"""How long a stopped child may clean up: with what follows, everything is gone 5 s after somebody cancelled."""

_LAUNCH = "import sys; sys.path.append(sys.argv.pop(1)); import leash; leash.main()"
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
    grace: timedelta = GRACE,
    pass_fds: tuple[int, ...] = (),
    clean: Callable[[str], str] = str,
    leash: Path | None = None,
    leashed: bool = True,
) -> Finished:
    """Run a command to its end and return its exit code and output, whatever the code is.

    The child runs under a launcher (``leash.py``) in a session of its own. On the deadline, or once ``cancelled`` is
    set, the session's process group gets SIGINT, and after ``grace`` everything that came from the child gets SIGKILL.
    The same happens at once when the child has ended, when this process dies, however it dies, and when the moment in
    the file ``leash`` (see ``Context.leash``) is over: then nothing that the child started is left, daemons that left
    its session included. ``leashed`` False starts the child alone, for commands whose purpose is to leave a daemon
    behind: then only its session ends with it, and nothing ends with us.

    ``on_stdout`` and ``on_stderr`` get each line, without its end, in the calling thread; no thread is made. ``env``
    None means our own environment; ``stdin`` None means an empty one. ``clean`` takes secrets out of output that goes
    into an error.

    Raises ``EngineTimedOut`` at the deadline, ``Cancelled`` when somebody cancelled, ``LeaseLost`` when the leash was
    over, ``EngineMissing`` when there is no such executable, ``EngineFailed`` when the machine cannot start it.
    """
    if cancelled is not None and cancelled.is_set():
        raise Cancelled(f"{subject}: stopped before {engine} was started.", untouched="Nothing was touched.")
    started = time.monotonic()
    starting = _Starting(argv=tuple(argv), engine=engine, subject=subject, cwd=cwd)
    child = starting.child(env=env, stdin=stdin, pass_fds=pass_fds, leash=leash, leashed=leashed)
    try:
        with _Watch(child.process, stdin, on_stdout, on_stderr) as watch:
            child.tell(starting.argv)
            cause = watch.until_exit(started + deadline.total_seconds(), cancelled)
            if cause is not None:
                _signal_group(child.process.pid, signal.SIGINT)
                watch.until_exit(time.monotonic() + grace.total_seconds(), None)
            child.end(patience=_SETTLE_SECONDS)
            watch.drain()
            said = watch.said()
    finally:
        # reached early when a callback raised or somebody interrupted us: then there is no grace
        child.end(patience=0.0)
        outcome = child.outcome()
    seconds = time.monotonic() - started
    stdout, stderr = said
    match outcome:
        case "errno", number:
            raise starting.refused(OSError(number, os.strerror(number)))
        case "leash", _:
            raise LeaseLost(
                f"{subject}: {engine} was killed with all its children, because the time of the lease was over.",
                untouched="What it had done by then stays.",
                next_step="Look with `ismgr lease` who holds it now, and go on with `ismgr resume`.",
            )
        case _, code:
            pass
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
    return Finished(code=code, stdout=stdout, stderr=stderr, seconds=seconds)


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


@dataclass(slots=True, kw_only=True)
class _Child:
    """A started process: the launcher with its socket, or the command itself."""

    process: subprocess.Popen[bytes]
    line: socket.socket | None = None
    said: str = ""

    def tell(self, argv: Sequence[str]) -> None:
        """Give the launcher its command."""
        if self.line is not None:
            data = b"\0".join(map(os.fsencode, argv))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its exit tells
                self.line.sendall(b"%d\n%b" % (len(data), data))

    def end(self, patience: float) -> None:
        """Return when everything that came from it is gone."""
        if self.process.returncode is not None:
            return
        if self.line is not None:
            with self.line, contextlib.suppress(OSError):  # it is gone already
                self.line.settimeout(2 * _SETTLE_SECONDS)  # it waits itself for processes that the kernel holds
                self.line.shutdown(socket.SHUT_WR)
                self.said = self.line.recv(100).decode()
        if not self.said:
            end_session(self.process.pid, patience=patience)
        self.process.wait()

    def outcome(self) -> tuple[str, int]:
        """``code``, ``errno`` or ``leash``, and the number that belongs to it. A launcher that was killed itself says
        nothing: then it is the exit code of what we had started."""
        word, _, number = self.said.partition(" ")
        return (word, int(number or 0)) if word else ("code", self.process.wait())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starting:
    """A command that is to be started, and the words for when it cannot be."""

    argv: tuple[str, ...]
    engine: str
    subject: str
    cwd: Path | None

    def child(
        self,
        *,
        env: Mapping[str, str] | None,
        stdin: bytes | None,
        pass_fds: tuple[int, ...],
        leash: Path | None,
        leashed: bool,
    ) -> _Child:
        """Start it; the launcher still has to be told."""
        if any("\0" in word for word in self.argv):
            raise ValueError("embedded null byte")
        ours, theirs = socket.socketpair() if leashed else (None, None)
        argv = self.argv
        if theirs is not None:
            ends = str(theirs.fileno()), str(os.getpid()), "" if leash is None else str(leash.absolute())
            folder = str(Path(__file__).parent)
            argv = (sys.executable, "-I", "-S", "-c", _LAUNCH, folder, *ends, f"{self.engine} for {self.subject}")
            pass_fds = (*pass_fds, theirs.fileno())
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.cwd,
                env=None if env is None else dict(env),
                pass_fds=pass_fds,
                start_new_session=True,
            )
        except OSError as problem:
            if ours is not None:
                ours.close()
            raise self.refused(problem) from problem
        finally:
            if theirs is not None:
                theirs.close()
        return _Child(process=process, line=ours)

    def refused(self, problem: OSError) -> EngineFailed | EngineMissing:
        """The error for a machine that says no."""
        if isinstance(problem, FileNotFoundError | PermissionError):
            if self.cwd is not None and not (self.cwd.is_dir() and os.access(self.cwd, os.X_OK)):
                return EngineFailed(
                    f"{self.subject}: the folder {self.cwd} cannot be entered, so {self.engine} was not started.",
                    engine=self.engine,
                    subject=self.subject,
                    untouched="Nothing was touched.",
                    next_step="Make the folder, or give this user the right to enter it.",
                )
            return EngineMissing(
                engine=self.engine,
                needed=f"to work on {self.subject}",
                found=(f"{self.argv[0]}: {os.strerror(problem.errno or errno.ENOENT).lower()}",),
                ways=(f"install {self.engine}, or correct PATH",),
            )
        return EngineFailed(
            f"{self.subject}: this machine cannot start {self.engine}: {problem.strerror or problem}.",
            engine=self.engine,
            subject=self.subject,
            untouched="Nothing was touched.",
            next_step="Free memory, disk or process slots, and try again.",
        )


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
