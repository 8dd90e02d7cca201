"""Speaks with HAProxy on its own host, through the runtime socket. It stands alone: its text is what balancers run. It
changes the administrative states of the servers of one backend, and nothing else.

Every line that it reads is a command of ``COMMANDS``; every answer is one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path

COMMANDS = ("look", "switch")
KEPT = "servers.state"
"""Beside the runtime socket: where the states are written down for a reload, as the role haproxy does."""


def ask(path: str, command: str) -> str:
    """One exchange with the runtime socket."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        one.connect(path)
        one.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: one.recv(65536), b"")).decode(errors="replace")


def members(path: str, backend: str) -> list[list[str]]:
    """The servers of a backend, as words of a row each."""
    return [row.split() for row in ask(path, f"show servers state {backend}").splitlines()[2:] if row.strip()]


def switch(path: str, backend: str, server: str) -> str:
    """Send clients to the server alone; what HAProxy said to it.

    The others go first, so that there are never two; their sessions go last, so that a client that connects again finds
    somebody. The new server counts as healthy until its check says something else: it was not checked until now.
    """
    names = [row[3] for row in members(path, backend)]
    others = [f"{backend}/{name}" for name in names if name != server]
    if len(others) == len(names):
        return ""
    orders = [f"set server {name} state maint" for name in others]
    orders += [f"set server {backend}/{server} state ready", f"set server {backend}/{server} health up"]
    orders += [f"shutdown sessions server {name}" for name in others]
    return " ".join(ask(path, ";".join(orders)).split())


def hang_up(path: str, backend: str, server: str) -> None:
    """Break off connections that HAProxy is still trying to open to the others. One whose client has sent something
    already outlives ``shutdown sessions`` until the connection times out, and a machine without power answers nothing.
    Where the kernel cannot do that, or nobody may, they time out as before."""
    for row in members(path, backend):
        name, address, port = row[3], row[4], row[18]
        if name != server:
            order = ["ss", "-Knt", "state", "syn-sent", "dst", address, "dport", "=", f":{port}"]
            subprocess.run(order, check=False, capture_output=True, timeout=5)


def keep(path: str) -> None:
    """Write the states down."""
    states = ask(path, "show servers state")
    place = Path(path).with_name(KEPT)
    with contextlib.suppress(OSError):
        new = place.with_suffix(".new")
        new.write_text(states, encoding="utf-8")
        new.replace(place)


def rivals(pid: int) -> list[str]:
    """Processes that listen where HAProxy's worker does, on sockets of their own. Such a one takes a share of the
    connections, and sends them where it likes: a HAProxy that was forgotten, as a rule."""
    inodes, listening = _sockets(pid), _listening(pid)
    ours = [address for inode, address in listening.items() if inode in inodes]
    strange = {
        inode: address
        for inode, address in listening.items()
        if inode not in inodes and any(_overlap(address, one) for one in ours)
    }
    return sorted(f"{_owner(inode)} listens on port {int(strange[inode][-4:], 16)} as well" for inode in strange)


def _overlap(one: str, other: str) -> bool:
    """Whether a connection could come to either: the same port, and the same address or every address."""
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    return port == other_port and (host == other_host or not host.strip("0") or not other_host.strip("0"))


def _listening(pid: int) -> dict[str, str]:
    found = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                words = row.split()
                if words[3] == "0A":
                    found[words[9]] = words[1]
    return found


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(one.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def _owner(inode: str) -> str:
    for process in Path("/proc").glob("[0-9]*"):
        if inode in _sockets(int(process.name)):
            with contextlib.suppress(OSError):
                return f"process {process.name} ({(process / 'comm').read_text(encoding='utf-8').strip()})"
    return "another process"


def answer(command: str, path: str, backend: str, server: str) -> dict[str, object]:
    """Do it, and tell what is there afterwards."""
    said = switch(path, backend, server) if command == "switch" else ""
    tables = ask(path, f"show servers state {backend};show stat {backend} 6 -1")
    info = dict(row.partition(": ")[::2] for row in ask(path, "show info").splitlines())
    return {"said": said, "tables": tables, "rivals": rivals(int(info["Pid"]))}


def main() -> None:
    """Answer each line. What is slow and nobody waits for is done after the answer."""
    path, backend, server = sys.argv[1:]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        command = line.strip()
        try:
            told = answer(command, path, backend, server)
        except (OSError, KeyError, ValueError) as error:
            told = {"trouble": f"the runtime socket {path} cannot be asked: {error}"}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        if command == "switch":
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                hang_up(path, backend, server)
            with contextlib.suppress(OSError):
                keep(path)


if __name__ == "__main__":
    main()
