"""Sequencing units of work durably, on this process or on others: what we ask of an engine such as DBOS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.runs import Unit

Work = Callable[[Unit], JsonObject]
"""Does one unit to its end and gives its outcome as JSON, which holds no secret. It looks into the journal first, and
never raises for a failed target."""


class Sequencer(Protocol):
    """Carries units out. Each unit is carried out at most once under its id; one whose executor died comes back as a
    new attempt, which looks at the world first."""

    def perform(self, units: Sequence[Unit], cancelled: threading.Event) -> Iterator[tuple[Unit, JsonObject]]:
        """Carry out all units, as many at once as there are executors, and give each outcome as it comes. After
        ``cancelled`` is set nothing new begins; units that never began are left out."""
        ...
