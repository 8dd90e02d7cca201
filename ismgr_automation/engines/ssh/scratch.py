"""Private folders of a run, gone at its end; what a killed run left is taken away by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PREFIX = "ismgr-run-"
_YOUNG_SECONDS = 60.0


@contextlib.contextmanager
def scratch(base: Path, before_removal: Callable[[Path], None] = lambda _folder: None) -> Iterator[Path]:
    """A folder of mode 700 below ``base``, removed afterwards. ``before_removal`` also gets those of killed runs.

    The folder is locked while its owner lives; the kernel gives the lock back when the owner is gone, however it went.
    Raises ``OSError`` when it cannot be made.
    """
    _sweep(base, before_removal)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        try:
            before_removal(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _sweep(base: Path, before_removal: Callable[[Path], None]) -> None:
    """Remove folders of ours whose owner is dead. One that was made a moment ago may not be locked yet."""
    for folder in base.glob(f"{PREFIX}*"):
        # another run may be sweeping too
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_ctime < _YOUNG_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                before_removal(folder)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
