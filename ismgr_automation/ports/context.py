"""What every engine call is given besides its request: who watches, whether somebody cancelled, where scratch goes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from ismgr_automation.core.events import Emit, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """``work`` is the run's own private folder (mode 700); whoever made it removes it.

    ``cancelled`` is polled by engines. ``leash`` is a file with the moment (nanoseconds of ``CLOCK_BOOTTIME``, as
    decimal digits) until which engines may run: whoever holds a lease writes it anew with each renewal, and processes
    that engines start are killed when it is over, or when we die. None: only when we die.
    ``token`` is the fencing token of the lease, 0 where nothing is leased; ``run`` the run's id, empty outside of one.
    """

    work: Path
    emit: Emit = ignore
    cancelled: threading.Event = field(default_factory=threading.Event)
    leash: Path | None = None
    token: int = 0
    run: str = ""
