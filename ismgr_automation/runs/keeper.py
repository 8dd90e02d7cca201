"""Keeps a lease: takes it or waits for it, renews it, and says by our own clock alone until when it may be believed in.
Nothing here knows what is done under a lease.

The rule: whoever asked at ``t`` (a clock of our own that counts on in sleep and that nobody sets) and was given ``ttl``
believes until ``t + ttl - margin``. The store begins to count after we asked, so its end is later than ours, also when
the reply took long; the margin pays for clocks of different speed and for killing what runs. After that moment we do
not believe any more, whatever the store would say: a process that was paused asks nobody before it acts.
"""

from __future__ import annotations

import os
import pwd
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

from ismgr_automation.core.errors import (
    Cancelled,
    EngineError,
    EngineFailed,
    IsmgrError,
    LeaseHeld,
    LeaseLost,
    SettingsError,
)
from ismgr_automation.core.events import Emit, LeaseAwaited, LeaseTaken
from ismgr_automation.core.events import LeaseLost as LeaseLostSeen
from ismgr_automation.core.spans import nanoseconds
from ismgr_automation.ports.leases import Holder, Lease, LeaseStore
from ismgr_automation.ports.refusals import STAYS, lease_held

SHORTEST = timedelta(seconds=1)
POLL_SECONDS = 0.5
"""How often a waiter looks; with it the next holder is there within a second after the end of a lease."""
LONGEST_LOOK_SECONDS = 1.0
"""The watch looks at our clock at least so often: the one that threads wait by stands while the machine sleeps."""

_NS = 1_000_000_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def margin(ttl: timedelta) -> timedelta:
    """What is taken off the end of a lease.

    >>> margin(timedelta(seconds=30))
    datetime.timedelta(seconds=3, microseconds=750000)
    """
    return ttl / 8


def believed_until(asked_ns: int, ttl: timedelta) -> int:
    """Until when whoever asked at ``asked_ns`` may believe, by the same clock. The whole rule; it is pure.

    >>> believed_until(0, timedelta(seconds=8))
    7000000000
    """
    return asked_ns + nanoseconds(ttl - margin(ttl))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grip:
    """What a holder knows: the lease as the store gave it, and until when to believe in it."""

    lease: Lease
    until_ns: int

    def holds(self, now_ns: int) -> bool:
        """Whether it may be believed in at this moment of our own clock."""
        return now_ns < self.until_ns


def gripped(lease: Lease, asked_ns: int) -> Grip:
    """The grip of whoever asked at ``asked_ns`` and was given this lease, new or renewed."""
    return Grip(lease=lease, until_ns=believed_until(asked_ns, lease.ttl))


def clock_ns() -> int:
    """``CLOCK_BOOTTIME``: it only goes forward, and counts while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Kept:
    """A lease that is kept for us. ``lost`` is set once, when it is ours no longer."""

    def __init__(self, grip: Grip) -> None:
        self.lost = threading.Event()
        self.why = ""
        """Why it was lost; empty while it is ours."""
        self._grip = grip

    @property
    def lease(self) -> Lease:
        """The lease as the store gave it last."""
        return self._grip.lease

    @property
    def until_ns(self) -> int:
        """Until when it may be believed in, in nanoseconds of ``CLOCK_BOOTTIME``."""
        return self._grip.until_ns

    def check(self) -> None:
        """Raise ``LeaseLost`` when it is ours no longer. Ask before each effect; it costs nothing."""
        if self.lost.is_set() or not self._grip.holds(clock_ns()):
            raise LeaseLost(
                f"The lease {self.lease.name} (token {self.lease.token}) is ours no longer: "
                f"{self.why or 'its time is over'}.",
                untouched=STAYS,
                next_step="Look with `ismgr lease` who works there now, and with `ismgr runs` what is unfinished.",
            )


@contextmanager
def hold(
    store: LeaseStore,
    name: str,
    holder: Holder,
    ttl: timedelta,
    *,
    wait: timedelta | None,
    leash: Path,
    emit: Emit,
    cancelled: threading.Event,
) -> Iterator[Kept]:
    """Hold a lease while the ``with`` lasts; it is renewed every third of ``ttl``, and given back at the end.

    ``wait`` is how long to wait for somebody else to end; None: not at all. ``leash`` is a file that holds, after each
    renewal, the moment until which engines may run: nanoseconds of ``CLOCK_BOOTTIME``. It is replaced in one step.
    When the lease is lost ``cancelled`` is set as well, so that whatever watches it stops.

    Raises ``LeaseHeld`` naming the holder, ``Cancelled`` when somebody cancelled while we waited, ``EngineError`` when
    the store cannot be used, and ``SettingsError`` for a ``ttl`` below a second.
    """
    if ttl < SHORTEST:
        raise SettingsError(
            f"A lease of {ttl.total_seconds():g} s is too short.", next_step="Write lease_ttl: 30s, and 1s at least."
        )
    grip = _take(store, name, holder, ttl, wait=wait, emit=emit, cancelled=cancelled)
    keeper = _Keeper(store, grip, leash, emit, cancelled)
    try:
        keeper.begin()
        emit(LeaseTaken(name=name, token=grip.lease.token))
        yield keeper.kept
    finally:
        keeper.end()


def this_process(purpose: str = "") -> Holder:
    """Who we are."""
    import psutil

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Holder(
        user=user,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        boot=_boot_id(),
        purpose=purpose,
    )


def alive(holder: Holder) -> bool | None:
    """Whether the process of a holder lives; None when it is none of this machine, or cannot be told.

    It is for people only. A lease is never taken because of it: a container sees no process of another one, and what
    a dead holder started may live a moment longer than it did.
    """
    import psutil

    if not holder.boot or (holder.host, holder.boot) != (socket.gethostname(), _boot_id()):
        return None
    try:
        # the start is counted from the boot by a wall clock that may have been set since
        return abs(psutil.Process(holder.pid).create_time() - holder.started) < 2.0  # noqa: PLR2004
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return None


def _take(
    store: LeaseStore,
    name: str,
    holder: Holder,
    ttl: timedelta,
    *,
    wait: timedelta | None,
    emit: Emit,
    cancelled: threading.Event,
) -> Grip:
    end = clock_ns() + nanoseconds(wait or timedelta())
    seen = 0
    while True:
        asked = clock_ns()
        try:
            return gripped(store.acquire(name, holder, ttl), asked)
        except LeaseHeld:
            if wait is None:
                raise
        while (held := store.look(name)) is not None and not held.expired:
            if clock_ns() >= end:
                raise lease_held(held)
            if held.token != seen:
                seen = held.token
                until = held.expires_at.astimezone(UTC).isoformat(timespec="seconds")
                emit(LeaseAwaited(name=name, holder=str(held.holder), until=until))
            if cancelled.wait(min(POLL_SECONDS, max(0.0, (end - clock_ns()) / _NS))):
                raise Cancelled(
                    f"Stopped while waiting for {name}, which {held.holder} holds.", untouched="Nothing was touched."
                )


class _Keeper:
    """Renews in one thread and watches the clock in another, because a renewal may hang for as long as it likes."""

    def __init__(self, store: LeaseStore, grip: Grip, leash: Path, emit: Emit, cancelled: threading.Event) -> None:
        self.kept = Kept(grip)
        self._store = store
        self._leash = leash
        self._emit = emit
        self._cancelled = cancelled
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._trouble = ""
        self._threads = [
            threading.Thread(target=work, name=f"ismgr-lease-{work.__name__.strip('_')}", daemon=True)
            for work in (self._renew, self._watch)
        ]

    def begin(self) -> None:
        """Write the leash and begin to renew. Raises ``EngineFailed`` when the leash cannot be written, and
        ``LeaseLost`` when the store took so long to answer that the lease is over."""
        self.kept.check()
        try:
            self._write_leash(self.kept.until_ns)
        except OSError as problem:
            raise EngineFailed(
                f"The leash {self._leash} cannot be written: {problem}.",
                engine="this machine",
                subject=str(self._leash),
                untouched="Nothing was touched.",
                next_step="Make room or give permission where it says, and run the command again.",
            ) from problem
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop renewing, let no engine run on, and give the lease back. A store that cannot be reached frees it by
        itself when its time is over."""
        self._ended.set()
        with self._lock:
            self._slip()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=LONGEST_LOOK_SECONDS)
        try:
            self._store.release(self.kept.lease)
        except IsmgrError as problem:
            # what was done under it is done; this is no reason to say that it failed
            self._trouble = problem.summary

    def _renew(self) -> None:
        ttl = self.kept.lease.ttl.total_seconds()
        pause = ttl / 3
        while not self._ended.wait(pause) and not self.kept.lost.is_set():
            asked = clock_ns()
            try:
                grip = gripped(self._store.renew(self.kept.lease), asked)
                with self._lock:
                    if self._ended.is_set() or self.kept.lost.is_set():
                        return
                    self._write_leash(grip.until_ns)
                    # only now: engines must never outlive what we believe, nor end while we believe
                    self.kept._grip = grip  # noqa: SLF001  one value, of one file
                pause, self._trouble = ttl / 3, ""
            except LeaseLost as problem:
                self._lose(problem.summary)
                return
            except (EngineError, OSError) as problem:
                # there may be time for another try
                pause, self._trouble = ttl / 12, str(problem)
            except Exception as problem:
                self._lose(f"it could not be renewed: {problem!r}")
                raise

    def _watch(self) -> None:
        while not self.kept.lost.is_set():
            left = (self.kept.until_ns - clock_ns()) / _NS
            if left <= 0:
                why = f"it could not be renewed in time: {self._trouble}" if self._trouble else "its time was over"
                self._lose(why)
                return
            if self._ended.wait(min(left, LONGEST_LOOK_SECONDS)):
                return

    def _lose(self, why: str) -> None:
        with self._lock:
            if self._ended.is_set() or self.kept.lost.is_set():
                return
            self.kept.why = why
            self.kept.lost.set()
            # a lease that was broken may be somebody else's already: what runs is killed, and not asked to end
            self._slip()
        self._cancelled.set()
        lease = self.kept.lease
        self._emit(LeaseLostSeen(name=lease.name, token=lease.token, why=why))

    def _slip(self) -> None:
        """The leash is over now; where that cannot be written it is over at the moment that it holds."""
        try:
            self._write_leash(0)
        except OSError as problem:
            self._trouble = str(problem)

    def _write_leash(self, until_ns: int) -> None:
        beside = self._leash.with_name(f"{self._leash.name}.new")
        beside.write_text(str(until_ns), encoding="ascii")
        beside.replace(self._leash)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
