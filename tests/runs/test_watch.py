"""How long somebody else's lease lasts at least: never longer than its store would say, whatever the clocks show."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory.leases import MemoryClock, MemoryLeaseStore
from ismgr_automation.runs.watch import Watch

TTL = timedelta(seconds=8)
US = timedelta(microseconds=1)
HOLDER = Holder(user="ana", host="desk", pid=1, started=0.0)


def test_nothing_is_believed_before_a_renewal_was_seen() -> None:
    store = MemoryLeaseStore()
    lease = store.acquire("infra/lab", HOLDER, TTL)
    watch = Watch(token=lease.token).seen(lease, 0).seen(lease, 1_000_000_000)
    assert not watch.over
    assert not watch.lasts(1_000_000_000)


def test_a_renewal_counts_from_the_look_before_it() -> None:
    clock = MemoryClock()
    store = MemoryLeaseStore(clock=clock)
    lease = store.acquire("infra/lab", HOLDER, TTL)
    watch = Watch(token=lease.token).seen(lease, 1_000_000_000)
    clock.pass_(timedelta(seconds=3))
    watch = watch.seen(store.renew(lease), 5_000_000_000)
    assert watch.until_ns == 8_000_000_000
    assert watch.lasts(7_999_999_999)
    assert not watch.lasts(8_000_000_000)


def test_a_lease_that_is_gone_over_or_somebody_elses_never_comes_back() -> None:
    store = MemoryLeaseStore()
    lease = store.acquire("infra/lab", HOLDER, TTL)
    watch = Watch(token=lease.token).seen(lease, 0)
    for bad in (None, Watch(token=lease.token + 1)):
        gone = watch.seen(None, 1) if bad is None else bad.seen(lease, 1)
        assert gone.over
        assert gone.seen(lease, 2).over


steps = st.lists(st.tuples(st.integers(0, 4_000_000), st.sampled_from(["look", "renew"])), min_size=3, max_size=40)


@given(steps, st.integers(-(10**15), 10**15))
def test_what_is_believed_is_never_longer_than_what_the_store_says(moves: list[tuple[int, str]], skew: int) -> None:
    """The store's clock and ours show different times and run equally fast. A look takes no time here, which is the
    worst case: its answer is as old as the question at most."""
    clock = MemoryClock()
    store = MemoryLeaseStore(clock=clock)
    lease = store.acquire("infra/lab", HOLDER, TTL)
    started = clock.now
    watch = Watch(token=lease.token)
    for microseconds, move in moves:
        clock.pass_(US * microseconds)
        ours_ns = (clock.now - started) // US * 1000 + skew
        held = store.look("infra/lab")
        if move == "renew" and held is not None and not held.expired:
            store.renew(lease)
        if move == "look":
            watch = watch.seen(store.look("infra/lab"), ours_ns)
        if watch.until_ns:
            assert started + US * ((watch.until_ns - skew) // 1000) <= store.held["infra/lab"].expires_at
