"""``ports.sequencer.Sequencer`` over DBOS: units of a run are queued, carried out here and by every worker, and taken
over from executors that died. Decides nothing about a unit but who carries it out."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, assert_never

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.events import Emit, UnitTakenOver, ignore
from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.steps.hands import MOMENT_S, Hands, Pulse
from ismgr_automation.engines.steps.letters import Kind, Letter, as_error
from ismgr_automation.engines.steps.rows import POLL_S, Place, Row, Rows
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Executors, Unit
from ismgr_automation.ports.sequencer import Work

LIVING_S = 1.0
"""How often it is asked which executors live."""
MOST_TAKEOVERS = 3
"""A unit that ended this many executors is not given to another one."""
SOON = 5
"""So many quick looks follow the end of a unit here."""
AT_ONCE = 4
TTL = timedelta(seconds=15)


class DbosSequencer:
    """Carries the units of one run out after another. Use it as a context: nothing of DBOS is loaded before the first
    unit, and nothing is left at the end.

    ``executor`` must be a new name for each process that ever lives. ``at_once``: how many units this process takes at
    once, and each worker too unless it was told a smaller number. ``ttl``: how long this process counts as living after
    a beat. ``perform`` raises ``Refused`` when this process carries out another run, ``EngineFailed`` when the database
    fails, and what ``work`` raises. An outcome comes with the unit that was carried out: after a takeover that is a
    later attempt of the unit that was asked for.
    """

    def __init__(
        self,
        place: Place,
        *,
        executor: str,
        holder: Holder,
        executors: Executors,
        work: Work,
        at_once: int = AT_ONCE,
        ttl: timedelta = TTL,
        emit: Emit = ignore,
    ) -> None:
        self.executor = executor
        self.emit = emit
        self.rows = Rows(place)
        self.executors = executors
        self.at_once = at_once
        self.taking = threading.Event()
        """Set while units may begin here."""
        self._cancelled = threading.Event()
        self.hands = Hands(self.rows, executor, work, self._may_begin, at_once)
        self._pulse = Pulse(executors, executor, holder, ttl)
        self._run = ""
        self._marked = False

    def __enter__(self) -> Self:
        self.hands.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End DBOS in this process. The run takes no more work."""
        self.taking.clear()
        self.hands.close()
        self._pulse.stop()
        try:
            if self._run:
                self._unmark()
                self.rows.close_queue(self._run)
        finally:
            self._run = ""
            self.rows.close()

    def perform(self, units: Sequence[Unit], cancelled: threading.Event) -> Iterator[tuple[Unit, JsonObject]]:
        """Carry out all units, here and on every worker, and give each outcome as it comes. After ``cancelled`` is set,
        or when a unit could not be carried out, nothing new begins, and units in hand are waited for."""
        if not units:
            return
        self._prepare(units[0].run, cancelled)
        batch = _Batch(self, units, cancelled)
        try:
            yield from batch.outcomes()
        finally:
            batch.leave()

    def stop(self, *, cancelled: bool) -> None:
        """Let nothing new begin, here or anywhere; when it was cancelled, workers stop what they have in hand."""
        if self.taking.is_set():
            self.taking.clear()
            self.rows.close_queue(self._run)
        if cancelled and not self._marked:
            self._marked = True
            self.rows.mark_cancelled(self._run)

    def _unmark(self) -> None:
        if self._marked:
            self._marked = False
            self.rows.unmark_cancelled(self._run)

    def reopen(self) -> None:
        """Let units of the run be taken, if somebody else stopped that."""
        if not self.rows.queue_is_open(self._run):
            self.rows.open_queue(self._run, self.at_once)

    def _may_begin(self, _unit: Unit) -> bool:
        return self.taking.is_set() and not self._cancelled.is_set() and not self.hands.troubled.is_set()

    def _prepare(self, run: str, cancelled: threading.Event) -> None:
        self.hands.open()
        self.rows.open()
        self._pulse.start()
        if self._run and self._run != run:
            self.rows.close_queue(self._run)
        self._run = run
        self._marked = self.rows.is_cancelled(run)  # by a coordinator before us
        self._unmark()
        self.rows.open_queue(run, self.at_once)
        self._cancelled = cancelled
        self.hands.troubled.clear()
        self.taking.set()
        self.hands.listen([run])


class _Batch:
    """The units of one call: which are still waited for, who has them, what went wrong."""

    def __init__(self, sequencer: DbosSequencer, units: Sequence[Unit], cancelled: threading.Event) -> None:
        self._own = sequencer
        self._rows = sequencer.rows
        self._cancelled = cancelled
        self._waiting = {unit.id: unit for unit in units}
        self._problem: BaseException | None = None
        self._takeovers: Counter[str] = Counter()
        self._living: frozenset[str] = frozenset()
        self._asked_at = float("-inf")
        self._offered_at = time.monotonic()
        self._soon = 0

    def outcomes(self) -> Iterator[tuple[Unit, JsonObject]]:
        """Every outcome; raises in the end what a unit raised."""
        self._queue()
        while self._waiting:
            if self._cancelled.is_set() or self._problem is not None:
                self._own.stop(cancelled=self._cancelled.is_set())
            yield from self._look()
            if self._waiting:
                self._pause()
        if self._problem is not None:
            raise self._problem

    def _pause(self) -> None:
        """Until the next look: short after a unit ended here, because its row is about to follow."""
        hands = self._own.hands
        if hands.moved.wait(MOMENT_S if self._soon else POLL_S):
            hands.moved.clear()
            self._soon = SOON
        else:
            self._soon = max(0, self._soon - 1)

    def leave(self) -> None:
        """When whoever asked wants no more: call off what is queued, and wait for what is in hand here."""
        if not self._waiting:
            return
        try:
            self._own.stop(cancelled=self._cancelled.is_set())
            self._rows.drop([one for one, row in self._rows.look(list(self._waiting)).items() if row.state == "queued"])
        finally:
            while self._own.hands.in_hand:
                self._own.hands.moved.wait(POLL_S)
                self._own.hands.moved.clear()

    def _queue(self) -> None:
        """Queue what has no row. A row that another coordinator left is kept when somebody may still end it."""
        found = self._rows.look(list(self._waiting))
        stale = [one for one, row in found.items() if not _worth_waiting_for(row)]
        self._rows.forget(stale)
        for key, unit in self._waiting.items():
            if key not in found or key in stale:
                self._rows.add(unit)

    def _look(self) -> Iterator[tuple[Unit, JsonObject]]:
        found = self._rows.look(list(self._waiting))
        for unit in list(self._waiting.values()):
            row = found.get(unit.id)
            if row is None:
                self._fail(unit, "Its row is gone: somebody removed it from the database.")
                continue
            match row.state:
                case "queued":
                    self._offer(unit)
                case "taken":
                    self._watch(unit, row)
                case "ended":
                    outcome = self._read(unit, row)
                    if outcome is not None:
                        yield unit, outcome
                case "dropped":
                    self._fail(unit, self._why_dropped(unit))
                case _ as never:
                    assert_never(never)

    def _offer(self, unit: Unit) -> None:
        """Call it off when nothing may begin; else see to it that somebody can take it."""
        if not self._own.taking.is_set():
            self._rows.drop([unit.id])
            del self._waiting[unit.id]
        elif time.monotonic() - self._offered_at >= LIVING_S:
            self._offered_at = time.monotonic()
            self._own.reopen()  # a coordinator before us, who lost the lease and woke up late, may have closed it

    def _watch(self, unit: Unit, row: Row) -> None:
        """Take a unit over whose executor is dead."""
        if row.executor == self._own.executor or self._lives(row.executor):
            ended = self._own.hands.raised.get(unit.id)
            if isinstance(ended, BaseException) and not isinstance(ended, Exception):
                raise ended  # DBOS leaves the row of a thread that was killed as it was
            return
        if self._own.taking.is_set():
            self._again(unit, row.executor, "died")
        else:
            del self._waiting[unit.id]  # the journal tells that it was begun

    def _again(self, unit: Unit, executor: str, why: str) -> None:
        """Make a new attempt, which looks at the world first. The old one can no longer end."""
        self._rows.drop([unit.id])
        row = self._rows.look([unit.id]).get(unit.id)
        if row is not None and row.state == "ended" and row.letter is not None and row.letter.kind is Kind.OUTCOME:
            return  # it ended after all, a moment before
        del self._waiting[unit.id]
        self._takeovers[unit.key] += 1
        if self._takeovers[unit.key] > MOST_TAKEOVERS:
            self._fail(unit, f"It was taken over {MOST_TAKEOVERS} times, and again its executor {executor} {why}.")
            return
        following = dataclasses.replace(unit, attempt=unit.attempt + 1)
        self._waiting[following.id] = following
        self._rows.forget([one for one, old in self._rows.look([following.id]).items() if not _worth_waiting_for(old)])
        self._rows.add(following)
        subject = Address.parse(unit.key.partition("#")[0])
        self._own.emit(UnitTakenOver(subject=subject, executor=executor, attempt=following.attempt))

    def _read(self, unit: Unit, row: Row) -> JsonObject | None:
        letter = row.letter
        if letter is None:
            self._fail(unit, "Its row holds no result of ismgr.")
            return None
        match letter.kind:
            case Kind.OUTCOME:
                del self._waiting[unit.id]
                return letter.body
            case Kind.NOT_BEGUN:
                self._returned(unit)
            case Kind.GIVEN_UP:
                self._continue(unit, row.executor, "gave it up")
            case Kind.ERROR:
                self._raised(unit, row, letter)
            case _ as never:
                assert_never(never)
        return None

    def _raised(self, unit: Unit, row: Row, letter: Letter) -> None:
        if row.executor != self._own.executor and letter.lost:
            self._continue(unit, row.executor, "worked for the coordinator before us")
            return
        del self._waiting[unit.id]
        own = self._own.hands.raised.get(unit.id)
        self._problem = self._problem or own or as_error(letter, unit, row.executor)

    def _continue(self, unit: Unit, executor: str, why: str) -> None:
        if self._own.taking.is_set():
            self._again(unit, executor, why)
        else:
            del self._waiting[unit.id]

    def _returned(self, unit: Unit) -> None:
        """An executor had it and did not begin: queue it again under the same id, for anybody."""
        if self._own.taking.is_set():
            self._rows.forget([unit.id])
            self._rows.add(unit)
        else:
            del self._waiting[unit.id]

    def _lives(self, executor: str) -> bool:
        """Whether it lived a moment ago. Nobody is called dead by an old answer: it may have come since."""
        if executor not in self._living or time.monotonic() - self._asked_at >= LIVING_S:
            self._asked_at = time.monotonic()
            self._living = frozenset(self._own.executors.living())
        return executor in self._living

    def _fail(self, unit: Unit, why: str) -> None:
        self._waiting.pop(unit.id, None)
        if not why:
            return
        self._problem = self._problem or EngineFailed(
            f"{unit.key} could not be carried out. {why}",
            engine="dbos",
            subject=unit.key,
            next_step=f"See what {unit.key} looks like, then `ismgr resume {unit.run}` goes on.",
        )

    def _why_dropped(self, unit: Unit) -> str:
        if not self._own.taking.is_set():
            return ""
        return f"Somebody called {unit.id} off in the database."


def _worth_waiting_for(row: Row) -> bool:
    """Whether somebody may still end a row that an earlier call left. One that has ended is asked for again because the
    journal does not hold its end: the journal is the truth, and the work looks there first."""
    match row.state:
        case "queued":
            return row.ours  # nobody of another protocol would take it
        case "taken":
            return True
        case "ended" | "dropped":
            return False
        case _ as never:
            assert_never(never)
