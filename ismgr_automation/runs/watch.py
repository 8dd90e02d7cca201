"""How long somebody else's lease lasts at least, for an executor that works on its behalf, without comparing clocks.
Pure: the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ismgr_automation.ports.leases import Lease
from ismgr_automation.runs.keeper import believed_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What was seen of the lease with one token. A lease that was renewed between two looks was renewed after the first
    one began; so whoever began that look may believe in it as if the renewal had been their own.

    ``until_ns``: nanoseconds of the clock that ``asked_ns`` was read from; 0 while no renewal was seen. ``over``: it
    ended, or somebody else has it by now; then it never comes back under this token.
    """

    token: int
    until_ns: int = 0
    over: bool = False
    expires_at: datetime | None = None
    asked_ns: int = 0

    def seen(self, lease: Lease | None, asked_ns: int) -> Watch:
        """The watch after another look, which began at ``asked_ns``."""
        if self.over or lease is None or lease.expired or lease.token != self.token:
            return replace(self, over=True)
        renewed = self.expires_at is not None and lease.expires_at > self.expires_at
        until = believed_until(self.asked_ns, lease.ttl) if renewed else self.until_ns
        return replace(self, until_ns=max(self.until_ns, until), expires_at=lease.expires_at, asked_ns=asked_ns)

    def lasts(self, now_ns: int) -> bool:
        """Whether the lease certainly lasts at this moment."""
        return not self.over and now_ns < self.until_ns
