"""What every engine call is given besides its request: who watches, whether somebody cancelled, where scratch goes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from ismgr_automation.core.events import Emit, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """``work`` is the run's own private folder (mode 700); whoever made it removes it.

    ``cancelled`` is polled by engines.
    """

    work: Path
    emit: Emit = ignore
    cancelled: threading.Event = field(default_factory=threading.Event)
