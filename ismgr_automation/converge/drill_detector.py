"""The detector of a drill at work: it looks at the service in turns, as the plan says. It must see it before a fault,
miss it after one that a move is for, and see it all through one that the service is to survive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ismgr_automation.converge.drill_notes import Ended, Notes, span
from ismgr_automation.core.json import JsonObject
from ismgr_automation.core.spans import nanoseconds
from ismgr_automation.estate.recovery import Detector
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Acted
from ismgr_automation.recovery.faults import DETECT, FAULT, PATIENCE, WATCH, Lookout

WAY = "the endpoints of clients, from this controller"
"""How the detector looks. A look at the members would take the management network's word for what clients find, and
one from the edges is blind for the edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """The plan's detector, in a drill that may be cancelled."""

    detector: Detector
    notes: Notes
    context: Context
    look: Callable[[], str]
    """Why no endpoint takes a write; empty where one does. A look takes as long as the detector waits between two."""

    def green(self) -> str:
        """Look at a service that is well; why the detector is red all the same."""
        lookout, began, words = Lookout(misses=1), self.notes.clock(), ""
        while lookout.looks < self.detector.green and not words:
            words = self.turn()
            lookout.saw(found=not words)
        self._wrote("detector-green", words, began, looks=lookout.looks)
        return words

    def declared(self) -> str:
        """Look until the site counts as lost; why it does not."""
        lookout, began = Lookout(misses=self.detector.misses), self.notes.clock()
        until = began + nanoseconds(self.detector.misses * PATIENCE * duration(self.detector.every))
        words = ""
        while not lookout.saw(found=not self.turn()):
            if self.context.cancelled.is_set():
                words = "stopped on request before the detector had declared the site lost"
            elif self.notes.clock() > until:
                words = f"the detector has not declared the site lost, in {lookout.looks} looks"
            if words:
                break
        acted = self._wrote("detected", words, began, looks=lookout.looks, misses=lookout.missed, way=WAY)
        self._told(DETECT, acted, words or f"{lookout.missed} looks in a row found nobody who takes writes")
        return words

    def watched(self) -> str:
        """Look all through a fault that the service is to survive; why that is no proof, or a false alarm."""
        lookout, began, words = Lookout(misses=self.detector.misses), self.notes.clock(), ""
        for _ in range(self.detector.misses * PATIENCE):
            if lookout.saw(found=not self.turn()):
                words = f"a false alarm: the detector declared a site lost that is slow, after {lookout.looks} looks"
                break
            if self.context.cancelled.is_set():
                words = "stopped on request while the fault was watched"
                break
        acted = self._wrote("watched", words, began, looks=lookout.looks, misses=lookout.missed, way=WAY)
        self._told(WATCH, acted, words or f"{lookout.looks} looks, and no alarm")
        return words

    def turn(self) -> str:
        """One look, and the time until the next."""
        due = self.notes.clock() + nanoseconds(duration(self.detector.every))
        words = self.look()
        while (left := due - self.notes.clock()) > 0 and not self.context.cancelled.wait(left / 1e9):
            pass
        return words

    def _wrote(self, what: str, words: str, began: int, **told: str | int) -> Acted:
        now = self.notes.clock()
        facts: JsonObject = dict(told)
        self.notes.wrote({"what": what, "ok": not words, "words": words, **facts, **span(began, now)})
        return Acted(ok=not words, began_ns=began, ended_ns=now)

    def _told(self, task: str, acted: Acted, words: str) -> None:
        one = Ended(leg=FAULT, task=task, action=task, acted=replace(acted, words=words))
        self.notes.tried(one.entry)
        one.report(self.context)
