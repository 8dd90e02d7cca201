"""Ends processes of a stopped run that fled into sessions of their own, by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_PATIENCE_SECONDS = 3.0


def end_marked(variable: str, value: str) -> None:
    """Kill every process of ours whose environment holds the variable with this value; returns when all are gone."""
    mark = f"{variable}={value}".encode()
    until = time.monotonic() + _PATIENCE_SECONDS
    while found := marked(mark):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(0.02)


def marked(mark: bytes) -> tuple[int, ...]:
    """The living processes that carry a mark; ourselves left out."""
    return tuple(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in _environment(entry).split(b"\0")
    )


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        # it has just ended, or it is somebody else's
        return b""
