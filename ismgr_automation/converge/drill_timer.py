"""The dead-man's timer of a fault: the hosts lift what nobody renews, so it is renewed while the drill lives, as leases
are; and one that was faster than we is written down, for then the drill proves nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta

from ismgr_automation.converge.drill_notes import Notes
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.ports.faults import Injection


@dataclass(slots=True, kw_only=True)
class Timer:
    """That of one fault. ``dark``: its fence takes the machine's power, and the fault with it."""

    name: str
    injection: Injection
    notes: Notes
    lifetime: timedelta
    dark: bool
    _ended: threading.Event = field(default_factory=threading.Event)
    _renewal: threading.Thread | None = None

    def keep(self) -> None:
        """Renew it, over and over, until it is let go."""
        if self._renewal is None:
            self._ended.clear()
            self._renewal = threading.Thread(target=self._renew, name="ismgr-fault", daemon=True)
            self._renewal.start()

    def let(self) -> None:
        """Renew it no more. Safe to call twice."""
        self._ended.set()
        if self._renewal is not None:
            self._renewal.join()
            self._renewal = None

    def lapsed(self) -> str:
        """Renew it once; the sentence for one that was faster than we, which is written down."""
        if self.notes.last("fault-lapsed") is None and (self._renewed() or self._gone_with_power()):
            return ""
        words = f"the fault {self.name} did not stand as long as it should: the hosts have lifted it themselves"
        if self.notes.last("fault-lapsed") is None:
            self.notes.tried({"what": "fault-lapsed", "words": words})
        return words

    def _renew(self) -> None:
        every = self.lifetime.total_seconds() / 3
        while not self._ended.wait(every):
            if self.lapsed():
                return

    def _renewed(self) -> bool:
        try:
            return self.injection.renew()
        except IsmgrError:
            return False

    def _gone_with_power(self) -> bool:
        """Whether the fence has taken the machine that it lay on."""
        return self.dark and any(one["action"] == "fence" for one in self.notes.all("task-ended", "failover"))
