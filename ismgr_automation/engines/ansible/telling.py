"""Tells watchers what happens, in a thread of its own: who listens slowly, never, or with errors holds no run up."""

from __future__ import annotations

import queue
import threading
import time
from typing import Self

from ismgr_automation.core.address import Address
from ismgr_automation.core.events import Emit, Event, OutputSeen

PATIENCE_SECONDS = 1.0
"""How long the end of a run waits for watchers that are behind."""


class Teller:
    """Events go out in order while the ``with`` lasts. At its end watchers get a moment to catch up; what is not told
    by then is left out and counted in one last event. An error of a watcher is raised again at the end of the ``with``,
    unless something else is being raised; nothing more is told after it."""

    def __init__(self, emit: Emit, subject: Address) -> None:
        self._emit, self._subject = emit, subject
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._problems: list[BaseException] = []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="ismgr-teller", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __call__(self, event: Event) -> None:
        """Take an event; never waits."""
        self._events.put(event)

    def __exit__(self, kind: object, *_: object) -> None:
        self._events.put(None)
        until = time.monotonic() + PATIENCE_SECONDS
        self._thread.join(PATIENCE_SECONDS)
        self._enough.set()
        # a watcher that is in the middle of one event may end with it; one that hangs is left alone
        self._thread.join(max(0.0, until + PATIENCE_SECONDS - time.monotonic()))
        if self._problems and kind is None:
            raise self._problems[0]

    def _tell(self) -> None:
        late = 0
        while (event := self._events.get()) is not None:
            if self._enough.is_set():
                late += 1
            else:
                self._one(event)
        if late:
            self._one(OutputSeen(subject=self._subject, text=f"{late} events were left out: a watcher is too slow"))

    def _one(self, event: Event) -> None:
        if self._problems:
            return
        try:
            self._emit(event)
        except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
            self._problems.append(error)
