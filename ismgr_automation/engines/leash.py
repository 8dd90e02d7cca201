"""The launcher of every engine process: it starts one command and kills its whole subtree when its owner is gone, when
the leash is over, or when the command has ended. It runs alone, imports nothing of the package and decides nothing.

``python -I -S -c 'import sys; sys.path.append(FOLDER); import leash; leash.main()' FD OWNER FILE NOTE``, as the leader
of a session. ``FD`` is our end of a socket to the owner, whose process id is ``OWNER``: the command comes in there as
its length in bytes, a line end, and its arguments with NUL between them; what became of it goes out in one message:
``code N`` (negative: minus the signal), ``errno N`` (it could not be started) or ``leash`` (its time was over).
``FILE`` holds the moment until which the command may run (nanoseconds of ``CLOCK_BOOTTIME``, in decimal) and may be
replaced at any time; empty: no such moment. ``NOTE`` is for people who look at the process list.

We are a subreaper: processes that lose their parent become our children, daemons that left the session included. Only
children of our own are ever killed, and only we wait for them: their ids cannot belong to anybody else. The private
modules below are imported in place of ``os``, ``signal`` and ``ctypes`` since those cost as much as an interpreter.
"""

from __future__ import annotations

import _ctypes
import _signal  # type: ignore[import-not-found]
import posix
import select
import sys
import time

LOOK_SECONDS = 1.0
"""How long a leash that was made shorter may go unnoticed."""
PATIENCE_SECONDS = 1.8
"""How long we wait for killed processes to be gone; the kernel may hold one in the middle of a read from a disk."""

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Do all of it, and end this process."""
    socket, owner, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    posix.set_inheritable(socket, False)  # noqa: FBT003  the argument has no name
    this_program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    prctl = _ctypes.dlsym(this_program, "prctl")
    _ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    said = _launch(socket, owner, _Leash(file))
    try:
        posix.write(socket, said.encode())
    finally:
        posix._exit(0)  # noqa: SLF001  public in os; no owner is left to be told when the write fails


def _launch(socket: int, owner: int, leash: _Leash) -> str:
    try:
        watched = posix.pidfd_open(owner)
    except OSError:
        return "code -9"
    command = _command(socket)
    if command is None or posix.getppid() != owner:
        return "code -9"
    if leash.left() <= 0:
        return "leash"
    # signals to the session's group are for the command; a default that the owner had switched off would stop them
    ours = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGPIPE, _signal.SIGXFSZ)
    for number in ours[:2]:
        _signal.signal(number, _signal.SIG_IGN)
    try:
        child = posix.posix_spawnp(command[0], command, _environment(), setsigdef=ours)
    except OSError as problem:
        return f"errno {problem.errno}"
    # the command alone holds its pipes: their ends come when it closes them
    low, high = sorted((socket, watched))
    for first, last in ((0, low), (low + 1, high), (high + 1, 1 << 20)):
        posix.closerange(first, last)
    code = _until_ended(child, (socket, watched), leash)
    _end_all(child)
    return "leash" if code is None and leash.left() <= 0 else f"code {-9 if code is None else code}"


def _command(socket: int) -> list[bytes] | None:
    """The command line; None when the owner went before it was told."""
    data = b""
    while b"\n" not in data or len(data) - data.index(b"\n") - 1 < int(data[: data.index(b"\n")]):
        more = posix.read(socket, 1 << 16)
        if not more:
            return None
        data += more
    return data[data.index(b"\n") + 1 :].split(b"\0")


def _environment() -> dict[bytes, bytes]:
    """The environment as it was given to us: an interpreter adds to its own when the locale is C."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123  no pathlib here
        pairs = [one.partition(b"=") for one in file.read().split(b"\0") if b"=" in one]
    return {name: value for name, _, value in pairs}


def _until_ended(child: int, owner: tuple[int, int], leash: _Leash) -> int | None:
    """The command's exit code, or None when it must end before it has one."""
    ending = select.poll()
    for one in owner:
        ending.register(one, select.POLLIN)
    ending.register(posix.pidfd_open(child), select.POLLIN)
    while True:
        ready = [one for one, _ in ending.poll(max(1, int(min(leash.left(), LOOK_SECONDS) * 1000)))]
        code, _ = _reap(child)
        if code is not None:
            return code
        if leash.left() <= 0 or any(one in owner for one in ready):
            return None


def _reap(child: int) -> tuple[int | None, bool]:
    """Wait for what has ended: the command's exit code if it was among them, and whether any child is left."""
    code = None
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return code, False
        if pid == 0:
            return code, True
        if pid == child:
            code = posix.waitstatus_to_exitcode(status)


def _end_all(child: int) -> None:
    """Kill generation after generation: when a child dies, its own children become ours."""
    until = time.monotonic() + PATIENCE_SECONDS
    while _reap(child)[1] and time.monotonic() < until:
        for pid in _children():
            try:
                posix.kill(pid, _signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.002)


def _children() -> list[int]:
    us, found = str(posix.getpid()).encode(), []
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    stat = file.read()
            except OSError:
                continue  # gone between the two looks
            # the name may hold spaces and brackets, so count from the last one
            if stat[stat.rindex(b")") + 2 :].split()[1] == us:
                found.append(int(name))
    return found


class _Leash:
    """The moment in the file. A file that cannot be read leaves the moment that was read last; none at all is over."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._moment = 0

    def left(self) -> float:
        """Seconds until it is over; a long time where there is no leash."""
        if not self._file:
            return 1e9
        try:
            with open(self._file, "rb") as file:  # noqa: PTH123
                self._moment = int(file.read())
        except (OSError, ValueError):
            pass
        return (self._moment - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9
