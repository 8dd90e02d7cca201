"""What a worker process has of DBOS: it listens to runs that others coordinate, and carries their units out. Which
runs, and whether they may still be worked for, is decided by whoever calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from ismgr_automation.engines.steps.hands import Hands, Pulse
from ismgr_automation.engines.steps.rows import Place, Rows
from ismgr_automation.engines.steps.sequencer import AT_ONCE, TTL
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Executors, Unit
from ismgr_automation.ports.sequencer import Work


class DbosServer:
    """``runs.worker.Server``. ``work`` carries a unit of any run out; ``may_begin`` is asked right before, in the same
    thread. ``at_once``: at most so many units at once here, and never more than their run says. Use it as a context;
    nothing is loaded and nobody hears of it before it is asked about a run.

    Raises ``EngineFailed`` when the database fails.
    """

    def __init__(
        self,
        place: Place,
        *,
        executor: str,
        holder: Holder,
        executors: Executors,
        work: Work,
        may_begin: Callable[[Unit], bool],
        at_once: int = AT_ONCE,
        ttl: timedelta = TTL,
    ) -> None:
        self._rows = Rows(place)
        self._hands = Hands(self._rows, executor, work, may_begin, at_once)
        self._pulse = Pulse(executors, executor, holder, ttl)

    def __enter__(self) -> Self:
        self._hands.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._hands.close()
        finally:
            self._pulse.stop()
            self._rows.close()

    def listen(self, runs: Sequence[str]) -> None:
        """Take units of these runs, and of no others. No unit may be in hand when they change; none: take nothing."""
        self._ready()
        self._hands.listen(runs)

    def in_hand(self) -> tuple[Unit, ...]:
        """The units that are being carried out here."""
        return tuple(self._hands.in_hand.values())

    def give_up(self, unit: Unit) -> None:
        """Somebody else shall go on with a unit in hand, whatever comes of it here."""
        self._hands.given_up.add(unit.id)

    def takes_work(self, run: str) -> bool:
        """Whether the run's coordinator still wants units begun."""
        return self._ready().queue_is_open(run)

    def is_cancelled(self, run: str) -> bool:
        """Whether the run's coordinator wants the units in hand stopped."""
        return self._ready().is_cancelled(run)

    def waiting(self, run: str) -> int:
        """How many units of a run nobody has ended yet."""
        return self._ready().waiting(run)

    def _ready(self) -> Rows:
        self._rows.open()
        self._pulse.start()
        return self._rows

    @property
    def name(self) -> str:
        """The name of this executor."""
        return self._hands.name

    @property
    def listening(self) -> tuple[str, ...]:
        """The runs whose units are taken."""
        return self._hands.listening

    @property
    def until_ns(self) -> int:
        """Until when others count us as living, at least (nanoseconds of ``CLOCK_BOOTTIME``)."""
        return self._pulse.until_ns

    def wait(self, seconds: float) -> None:
        """Return when a unit ended here, or when the time is over."""
        if self._hands.moved.wait(seconds):
            self._hands.moved.clear()
