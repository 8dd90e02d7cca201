"""A linearizable table of leases and the executors that live, in memory, by a clock that a test may set. Each call is
one step: nothing of another holder's may come between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.ports.leases import Holder, Lease
from ismgr_automation.ports.refusals import lease_gone, lease_held, lease_not_broken

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class MemoryClock:
    """A clock that stands until a test moves it."""

    def __init__(self, now: datetime = NOON) -> None:
        """It shows ``now``."""
        self.now = now

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now

    def pass_(self, span: timedelta) -> None:
        """Move it on."""
        self.now += span


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLeaseStore:
    """``ports.leases.LeaseStore``. ``faults`` has an error by verb (``acquire``, ``renew``, ...) that is raised instead
    of doing it, until a test takes it out."""

    clock: Callable[[], datetime] = field(default_factory=MemoryClock)
    tokens: dict[str, int] = field(default_factory=dict)
    """The largest token of each name, also of those that nobody holds."""
    held: dict[str, Lease] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self, name: str, holder: Holder, ttl: timedelta) -> Lease:
        """Take it when it is free or over."""
        with self.lock:
            self._fault("acquire")
            now = self.clock()
            self._refuse_if_held(name, now)
            self.tokens[name] = self.tokens.get(name, 0) + 1
            lease = Lease(
                name=name, token=self.tokens[name], holder=holder, acquired_at=now, expires_at=now + ttl, ttl=ttl
            )
            self.held[name] = lease
            return lease

    def renew(self, lease: Lease) -> Lease:
        """Begin its time anew."""
        with self.lock:
            self._fault("renew")
            now = self.clock()
            mine = self.held.get(lease.name)
            if mine is None or mine.token != lease.token or mine.expires_at <= now:
                raise lease_gone(lease.name, lease.token, mine)
            self.held[lease.name] = replace(mine, expires_at=now + mine.ttl)
            return self.held[lease.name]

    def release(self, lease: Lease) -> None:
        """Give it back."""
        with self.lock:
            self._fault("release")
            if lease.name in self.held and self.held[lease.name].token == lease.token:
                del self.held[lease.name]

    def look(self, name: str) -> Lease | None:
        """The lease as it is."""
        with self.lock:
            self._fault("look")
            found = self.held.get(name)
            return replace(found, expired=found.expires_at <= self.clock()) if found is not None else None

    def break_(self, name: str, token: int) -> None:
        """End the one with this token."""
        with self.lock:
            self._fault("break")
            held = self.held.get(name)
            if held is None or held.token != token:
                raise lease_not_broken(name, token, held)
            del self.held[name]

    def advance(self, name: str, at_least: int) -> int:
        """Count every token up to this one as used."""
        with self.lock:
            self._fault("advance")
            self._refuse_if_held(name, self.clock())
            self.held.pop(name, None)
            self.tokens[name] = max(self.tokens.get(name, 0), at_least)
            return self.tokens[name]

    def _fault(self, verb: str) -> None:
        if verb in self.faults:
            raise self.faults[verb]

    def _refuse_if_held(self, name: str, now: datetime) -> None:
        held = self.held.get(name)
        if held is not None and held.expires_at > now:
            raise lease_held(held)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryExecutors:
    """``ports.runs.Executors``; ``beats`` has who each is, and until when it lives."""

    clock: Callable[[], datetime] = field(default_factory=MemoryClock)
    beats: dict[str, tuple[Holder, datetime]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def beat(self, executor: str, holder: Holder, ttl: timedelta) -> None:
        """It lives for ``ttl``."""
        with self.lock:
            self.beats[executor] = (holder, self.clock() + ttl)

    def living(self) -> tuple[str, ...]:
        """Those whose time is not over."""
        with self.lock:
            now = self.clock()
            return tuple(sorted(name for name, (_, until) in self.beats.items() if until > now))

    def gone(self, executor: str) -> None:
        """It ends."""
        with self.lock:
            self.beats.pop(executor, None)
