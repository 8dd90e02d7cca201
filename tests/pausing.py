"""Stopping a process that holds a lease in a SQLite file, as a hypervisor would stop its machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from ismgr_automation.engines.database.lockers import lockers

_DEADLINE_SECONDS = 60.0


def stop_between_transactions(pid: int, files: Sequence[Path]) -> None:
    """Stop a process while it locks none of these files: in the midst of a transaction it would keep them locked, and
    whoever comes next is told so (tests/engines/database/test_failures.py)."""
    assert all(one.exists() for one in files)
    end = time.monotonic() + _DEADLINE_SECONDS
    while True:
        os.kill(pid, signal.SIGSTOP)
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < end, "it does not stop"
            time.sleep(0.01)
        if not any(lockers(one) for one in files):
            return
        os.kill(pid, signal.SIGCONT)
        assert time.monotonic() < end, "it is always in a transaction"
        time.sleep(0.01)
