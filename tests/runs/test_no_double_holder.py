"""10,000 random races for one lease: clocks that are wrong and run at different speeds, messages that are late or lost,
holders that pause, die and come back. At no moment do two believe that they hold, and tokens only grow.

The store is linearizable: what it does for a holder happens in one instant between request and reply. What a holder
believes is the keeper's own rule, the same code: ``gripped`` and ``Grip.holds``. Time is simulated, in nanoseconds.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from ismgr_automation.core.errors import LeaseHeld, LeaseLost
from ismgr_automation.ports.leases import Holder, Lease
from ismgr_automation.ports.memory import MemoryLeaseStore
from ismgr_automation.runs.keeper import Grip, gripped

RACES = 10_000
SECOND = 1_000_000_000
TTL = timedelta(seconds=10)
TTL_NS = 10 * SECOND
LENGTH = 8 * TTL_NS
DRIFT = 0.03
"""Clocks gain or lose up to so much: a hundred times more than a machine whose clock is set by the network."""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clock:
    """Where it is wrong, and how fast it goes."""

    offset_ns: int
    rate: float

    def at(self, real_ns: int) -> int:
        return self.offset_ns + int(real_ns * self.rate)

    def when(self, shown_ns: int) -> int:
        """The real moment at which it shows this."""
        return int((shown_ns - self.offset_ns) / self.rate)


Rule = Callable[[Lease, int, int], Grip]
"""From a lease, when it was asked for and when the reply came (by the holder's own clock) to what it believes."""


def the_rule(lease: Lease, asked_ns: int, _replied_ns: int) -> Grip:
    return gripped(lease, asked_ns)


def without_margin(lease: Lease, asked_ns: int, _replied_ns: int) -> Grip:
    return Grip(lease=lease, until_ns=asked_ns + lease.ttl // timedelta(microseconds=1) * 1000)


def from_the_reply_on(lease: Lease, _asked_ns: int, replied_ns: int) -> Grip:
    return gripped(lease, replied_ns)


def by_the_time_of_day(lease: Lease, _asked_ns: int, _replied_ns: int) -> Grip:
    """As if the store's clock and ours showed the same."""
    return Grip(lease=lease, until_ns=(lease.expires_at - EPOCH) // timedelta(microseconds=1) * 1000)


@dataclass
class Believer:
    """One process that wants the lease."""

    name: str
    clock: Clock
    grip: Grip | None = None

    def believes(self, real_ns: int) -> bool:
        return self.grip is not None and self.grip.holds(self.clock.at(real_ns))

    def believed_at_some_time_after(self, real_ns: int) -> bool:
        """Also one that is paused or dead: what it started runs until its leash is over."""
        return self.grip is not None and self.clock.when(self.grip.until_ns) > real_ns


@dataclass
class Race:
    """One run of the model. ``double`` has the first moment at which two believed."""

    seed: int
    rule: Rule = the_rule
    now_ns: int = 0
    double: str = ""
    tokens: list[int] = field(default_factory=list)
    winners: list[str] = field(default_factory=list)
    lost: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311  chance, not secrecy
        self.server = self._clock()
        self.store = MemoryLeaseStore(clock=lambda: EPOCH + timedelta(microseconds=self.server.at(self.now_ns) // 1000))
        self.believers = [Believer(name, self._clock()) for name in "abcd"[: self.random.randint(2, 4)]]

    def _clock(self) -> Clock:
        offset = self.random.choice([0, self.random.randint(-3 * TTL_NS, 3 * TTL_NS)])
        return Clock(offset, 1 + self.random.uniform(-DRIFT, DRIFT))

    def run(self) -> Race:
        """Let everybody act until the end; the earliest wish comes first."""
        queue = [(self._soon(), number, self._live(one)) for number, one in enumerate(self.believers)]
        heapq.heapify(queue)
        while queue and queue[0][0] < LENGTH and not self.double:
            self.now_ns, number, life = queue[0]
            pause = next(life, None)
            if pause is None:
                heapq.heappop(queue)
            else:
                heapq.heapreplace(queue, (self.now_ns + pause, number, life))
        return self

    def _soon(self) -> int:
        return self.random.randrange(SECOND)

    def _travel(self) -> int:
        """How long a message takes: now and then longer than a lease."""
        return self.random.randrange(SECOND // 20) if self.random.random() < 0.8 else self.random.randrange(TTL_NS)

    def _live(self, me: Believer) -> Iterator[int]:
        """Want it, hold it for a while, give it back; again."""
        while True:
            asked = me.clock.at(self.now_ns)
            yield self._travel()
            lease = self._granted(me)
            yield self._travel()
            if (
                lease is not None and self.random.random() < 0.95
            ):  # else the reply is lost, and the store thinks otherwise
                self._believe(me, lease, asked)
                yield from self._hold(me)
            yield self._soon()

    def _hold(self, me: Believer) -> Iterator[int]:
        assert me.grip is not None
        ends = self.now_ns + self.random.randrange(3 * TTL_NS)
        while me.believes(self.now_ns) and self.now_ns < ends:
            chance = self.random.random()
            if chance < 0.05:  # killed: it never acts again, and what it started runs until its leash is over
                yield LENGTH
            yield TTL_NS // 3 if chance < 0.85 else self.random.randrange(2 * TTL_NS)  # the latter: SIGSTOP
            if not me.believes(self.now_ns):
                return
            asked, lease = me.clock.at(self.now_ns), me.grip.lease
            yield self._travel()
            renewed = self._renewed(lease)
            yield self._travel()
            if renewed is None:
                return  # believes until its time is over, and renews no more
            if renewed is not lease and me.believes(self.now_ns):
                self._believe(me, renewed, asked)
        if me.believes(self.now_ns):
            lease, me.grip = me.grip.lease, None
            yield self._travel()
            self.store.release(lease)

    def _granted(self, me: Believer) -> Lease | None:
        try:
            lease = self.store.acquire("e/lab", Holder(user=me.name, host="h", pid=1, started=0), TTL)
        except LeaseHeld:
            return None
        self.tokens.append(lease.token)
        self.winners.append(me.name)
        return lease

    def _renewed(self, lease: Lease) -> Lease | None:
        """None: refused. The same lease: request or reply was lost."""
        arrives, returns = self.random.random() < 0.9, self.random.random() < 0.9
        try:
            renewed = self.store.renew(lease) if arrives else lease
        except LeaseLost:
            self.lost += 1
            return None
        return renewed if returns else lease

    def _believe(self, me: Believer, lease: Lease, asked_ns: int) -> None:
        me.grip = self.rule(lease, asked_ns, me.clock.at(self.now_ns))
        if not me.believes(self.now_ns):
            return
        for other in self.believers:
            if other is not me and other.believed_at_some_time_after(self.now_ns):
                self.double = f"race {self.seed}: {other.name} and {me.name} at {self.now_ns / SECOND:.3f} s"


def test_at_no_moment_do_two_believe_that_they_hold_and_tokens_only_grow() -> None:
    changes, lost = 0, 0
    for seed in range(RACES):
        race = Race(seed).run()
        assert not race.double
        assert race.tokens == list(range(1, len(race.tokens) + 1)), f"race {seed}"
        changes += sum(one != two for one, two in zip(race.winners, race.winners[1:], strict=False))
        lost += race.lost
    # the races are races: the lease changes hands, and holders lose it
    assert changes > 3 * RACES
    assert lost > RACES // 10


@pytest.mark.parametrize("rule", [without_margin, from_the_reply_on, by_the_time_of_day], ids=lambda one: one.__name__)
def test_the_model_finds_two_holders_when_the_rule_is_broken(rule: Rule) -> None:
    assert any(Race(seed, rule=rule).run().double for seed in range(2000))


def test_the_model_finds_two_holders_when_a_lease_that_is_over_can_be_renewed() -> None:
    class Forgetful(MemoryLeaseStore):
        def renew(self, lease: Lease) -> Lease:
            return replace(lease, expires_at=self.clock() + lease.ttl)

    def run(seed: int) -> str:
        race = Race(seed)
        race.store = Forgetful(clock=race.store.clock)
        return race.run().double

    assert any(map(run, range(2000)))
