"""What a worker works with and what it was asked to do: the seams between the loop of ``ismgr worker`` and the rest.
Values and Protocols only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.events import Emit, ignore
from ismgr_automation.ports.leases import LeaseStore
from ismgr_automation.ports.runs import Run, RunLedger, Unit
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.runs.keeper import clock_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a worker gives to whoever opens an estate for it. ``executor`` is the name for the journal; ``cancelled`` is
    set when the unit in hand must stop; ``leash`` is the file for ``Context.leash``. ``disowned`` is set when the unit
    in hand is somebody else's from now on: what comes of it must not be journaled."""

    executor: str
    cancelled: threading.Event
    disowned: threading.Event
    leash: Path

    def ours(self) -> bool:
        """Whether the end of the unit in hand may be written down. Engines that ran when the leash was over were killed
        by it, so their words say nothing about the unit."""
        return not self.disowned.is_set() and clock_ns() < int(self.leash.read_text(encoding="ascii") or 0)


class Server(Protocol):
    """What carries units out in this process; ``engines.steps`` has the real one."""

    @property
    def name(self) -> str:
        """The name of this executor."""
        ...

    @property
    def listening(self) -> tuple[str, ...]:
        """The runs whose units are taken."""
        ...

    @property
    def until_ns(self) -> int:
        """Until when others certainly count us as living (nanoseconds of ``CLOCK_BOOTTIME``)."""
        ...

    def listen(self, runs: Sequence[str]) -> None:
        """Take units of these runs and of no others; no unit may be in hand when they change."""
        ...

    def in_hand(self) -> tuple[Unit, ...]:
        """Units that are being carried out."""
        ...

    def give_up(self, unit: Unit) -> None:
        """Somebody else shall go on with a unit in hand."""
        ...

    def takes_work(self, run: str) -> bool:
        """Whether the coordinator wants units begun."""
        ...

    def is_cancelled(self, run: str) -> bool:
        """Whether the coordinator wants units in hand stopped."""
        ...

    def waiting(self, run: str) -> int:
        """How many units nobody has ended yet."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when a unit ended here, or when the time is over."""
        ...


MayBegin = Callable[[Unit], bool]
Serving = Callable[[Work, MayBegin], AbstractContextManager[Server]]
"""Opens what carries units out: ``work`` does one, ``may_begin`` is asked right before."""
Opener = Callable[[Run, Seat], AbstractContextManager[Work]]
"""Opens the estate at the run's commit. Raises ``IsmgrError`` when that cannot be done on this machine."""
Resume = Callable[[Run], str]
"""Takes the lease, makes sure that inputs and approvals hold, and goes on with a run in this process to its end.
Returns in words how it ended. Raises ``IsmgrError`` when that is refused; then nothing was touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Everything that a worker works with. ``folder`` is private and its own."""

    runs: RunLedger
    leases: LeaseStore
    serving: Serving
    open: Opener
    resume: Resume
    folder: Path
    emit: Emit = ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker was asked to do. ``once``: end when nothing is left to do. ``only``: work for one run. ``grace``:
    how long units in hand may go on after it was told to stop."""

    environment: str | None = None
    once: bool = False
    only: str = ""
    grace: timedelta = timedelta(minutes=10)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a worker did: units that ended here, units that somebody else must go on with, runs that it took over."""

    done: int = 0
    given_up: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
