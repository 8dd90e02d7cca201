"""How long a look lasts: what was seen a moment ago need not be looked at again before it is changed. What was seen
longer ago is hearsay: a lease keeps other runs away, and nobody who logs in to a host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ismgr_automation.runs.keeper import clock_ns

FRESH_NS = 60 * 1_000_000_000
"""How long what was seen is taken for how it is (ns). Looking at a fleet takes about as long by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Keys of what was looked at, and until when that holds (ns of ``clock_ns``: the world moves while we sleep). Only
    the process that looked can know; by default nothing was looked at."""

    keys: frozenset[str] = frozenset()
    until_ns: int = 0

    @classmethod
    def now(cls, keys: Iterable[str]) -> Looked:
        """All of these were looked at just now."""
        return cls(keys=frozenset(keys), until_ns=clock_ns() + FRESH_NS)

    def covers(self, key: str) -> bool:
        """Whether this one was looked at, and not too long ago."""
        return key in self.keys and clock_ns() < self.until_ns
