"""Tries to connect to one place, and says what it met. It stands alone: its text is what witnesses run, and it sends
no byte over a connection that it gets."""

from __future__ import annotations

import errno
import json
import select
import socket
import sys
import time

OPEN, REFUSED, SILENT, UNREACHABLE, LOST = "open", "refused", "silent", "unreachable", "lost"
"""A connection; an answer that there is none; no answer; word from the way that the place is not there; no way out of
this machine at all."""

TRIES = 3
"""One packet may be lost; an answer to one of three that are sent after one another is enough to be open."""
GAP_SECONDS = 0.02


def knock(address: str, port: int, patience_seconds: float) -> tuple[str, float]:
    """What was met, and after how many seconds. The first answer counts; without any it takes the patience and
    ``TRIES`` - 1 gaps."""
    began = time.monotonic()
    tried: list[socket.socket] = []
    try:
        for last in (False,) * (TRIES - 1) + (True,):
            one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            one.setblocking(False)  # noqa: FBT003  socket's own
            tried.append(one)
            code = one.connect_ex((address, port))
            if code != errno.EINPROGRESS:
                return _word(code), time.monotonic() - began
            until = time.monotonic() + (patience_seconds if last else GAP_SECONDS)
            while (left := until - time.monotonic()) > 0:
                for met in select.select([], tried, [], left)[1]:
                    word = _word(met.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                    return word, time.monotonic() - began
        return SILENT, time.monotonic() - began
    finally:
        for one in tried:
            one.close()


def _word(code: int) -> str:
    if not code:
        return OPEN
    if code in (errno.ECONNREFUSED, errno.ECONNRESET):
        return REFUSED
    if code == errno.ETIMEDOUT:
        return SILENT
    return UNREACHABLE if code == errno.EHOSTUNREACH else LOST


def main() -> None:
    """Knock at the place of the arguments, with the patience that each line says."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        word, seconds = knock(sys.argv[1], int(sys.argv[2]), float(line))
        sys.stdout.write(json.dumps({"met": word, "seconds": round(seconds, 6)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
