"""Leases: who may touch an environment now, with a token that only ever grows. What we ask of a store of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease: a person or account, on which machine and in which process, and what for."""

    user: str
    host: str
    pid: int
    started: float
    """When the process started, in seconds since the epoch: a pid alone is used again."""
    boot: str = ""
    """The machine's boot id; empty where there is none."""
    purpose: str = ""
    """For people: ``apply``, ``resume RUN``, ``worker``."""

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid}{', ' + self.purpose if self.purpose else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as its store has it. Times are by the store's clock; a holder must only ever use ``ttl`` and its own
    monotonic clock, started before it asked."""

    name: str
    """What is leased: ``ESTATE/ENVIRONMENT``."""
    token: int
    """The fencing token: every acquisition of this name gets a larger one, for ever."""
    holder: Holder
    acquired_at: datetime
    expires_at: datetime
    ttl: timedelta
    expired: bool = False
    """Whether its time was over, by the store's clock, when it was looked at."""


class LeaseStore(Protocol):
    """A table of leases whose changes are atomic. Raises ``EngineError`` when the store cannot be used."""

    def acquire(self, name: str, holder: Holder, ttl: timedelta) -> Lease:
        """Take a lease that is free or whose time is over. Raises ``LeaseHeld`` naming the holder and since when."""
        ...

    def renew(self, lease: Lease) -> Lease:
        """Begin its time anew. Raises ``LeaseLost`` when it is over, was broken, or belongs to somebody else."""
        ...

    def release(self, lease: Lease) -> None:
        """Give it back; nothing happens when it is no longer ours."""
        ...

    def look(self, name: str) -> Lease | None:
        """The lease as it is, expired or not; None when nobody ever held it or it was given back."""
        ...

    def break_(self, name: str, token: int) -> None:
        """End the lease with exactly this token, so that a holder who changed meanwhile is not hit. Raises
        ``LeaseLost`` when the token is another."""
        ...

    def advance(self, name: str, at_least: int) -> int:
        """For the day a database was lost: no later token of this name is ``at_least`` or less. Returns the largest
        token that counts as used now. Raises ``LeaseHeld`` while somebody holds it."""
        ...
