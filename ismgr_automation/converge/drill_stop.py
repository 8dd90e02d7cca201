"""Whether somebody asked a drill to stop from elsewhere: who has no way to its process leaves word in its folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ismgr_automation.converge.scope import Scope
from ismgr_automation.ports.drills import DrillJournal

LOOK_SECONDS = 0.25
"""Between two looks: within a second of the request nothing new begins."""


def asked_to_stop(journal: DrillJournal, scope: Scope) -> str:
    """Who asked, once somebody did. From then on the drill is cancelled, as by whoever runs it."""
    by = journal.asked_to_stop()
    if by:
        scope.context.cancelled.set()
    return by


@contextmanager
def listening(journal: DrillJournal, scope: Scope) -> Iterator[None]:
    """Look for it for the length of the ``with``, also in the middle of work that nobody waits for."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(LOOK_SECONDS) and not scope.context.cancelled.is_set():
            asked_to_stop(journal, scope)

    thread = threading.Thread(target=listen, name="ismgr-drill-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
