"""Stopping a process that holds a lease in a SQLite file, as a hypervisor would stop its machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from ismgr_automation.engines.database.lockers import lockers
from tests.fixtures_lab import until


def stop_between_transactions(pid: int, files: Sequence[Path]) -> None:
    """Stop a process while it locks none of these files: in the midst of a transaction it would keep them locked, and
    whoever comes next is told so (tests/engines/database/test_failures.py)."""
    assert all(one.exists() for one in files)

    def stopped_outside() -> bool:
        os.kill(pid, signal.SIGSTOP)
        until("it is stopped", lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        if not any(lockers(one) for one in files):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    until("it is stopped between two transactions", stopped_outside)
