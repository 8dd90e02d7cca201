"""Asks a PostgreSQL server at one place whether it is there, and says what it met. It stands alone: its text is what
witnesses run, and it asks for nothing but whether a connection could be encrypted."""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
import time

ANSWERS, MUTE, REFUSED, SILENT, LOST = "answers", "mute", "refused", "silent", "lost"
"""It answers; a connection, over which nothing comes; an answer that there is none; no connection and no answer; no way
out of this machine at all."""

QUESTION = struct.pack("!ii", 8, 80877103)


def ask(address: str, port: int, patience_seconds: float) -> tuple[str, float]:
    """What was met, and after how many seconds. A connection, and an answer over it, may take the patience each."""
    began = time.monotonic()
    met = SILENT
    try:
        with socket.create_connection((address, port), patience_seconds) as one:
            met = MUTE
            one.sendall(QUESTION)
            met = ANSWERS if one.recv(1) else REFUSED
    except TimeoutError:
        pass
    except OSError as error:
        refused = error.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)
        # word from the way that nobody is there is no answer of the place
        met = REFUSED if refused else SILENT if error.errno == errno.EHOSTUNREACH else LOST
    return met, time.monotonic() - began


def main() -> None:
    """Ask at the place of the arguments, with the patience that each line says."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        met, seconds = ask(sys.argv[1], int(sys.argv[2]), float(line))
        sys.stdout.write(json.dumps({"met": met, "seconds": round(seconds, 6)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
