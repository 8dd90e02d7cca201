"""Runs and their steps in memory, with the same refusals as a database has. Nothing is written anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory.leases import MemoryClock
from ismgr_automation.ports.refusals import (
    no_run,
    refuse_if_ended,
    round_differs,
    run_exists,
    run_moved_on,
    unit_ended,
    unit_never_started,
    used_approvals,
)
from ismgr_automation.ports.runs import ANY, Round, Run, Sought, StepRecord, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRunLedger:
    """``ports.runs.RunLedger``; ``rows`` has the runs by id, ``used`` the run that used each nonce up."""

    rows: dict[str, Run] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, run: Run, nonces: Sequence[str]) -> None:
        """Write the run and its nonces, or neither."""
        with self.lock:
            again = {nonce: self.used[nonce] for nonce in nonces if nonce in self.used}
            if again:
                raise used_approvals(again)
            if run.id in self.rows:
                raise run_exists(run.id)
            self.rows[run.id] = run
            self.used.update(dict.fromkeys(nonces, run.id))

    def take_over(self, run: str, token: int, holder: Holder, nonces: Sequence[str] = ()) -> None:
        """The run goes on under another lease, and uses more approvals up, or neither."""
        with self.lock:
            found = self.run(run)
            refuse_if_ended(found)
            self.refuse_older(found, token)
            again = {nonce: self.used[nonce] for nonce in nonces if self.used.get(nonce, run) != run}
            if again:
                raise used_approvals(again)
            self.rows[run] = replace(found, token=token, holder=holder)
            self.used.update(dict.fromkeys(nonces, run))

    def close(self, run: Run) -> None:
        """Write how it ended."""
        with self.lock:
            found = self.run(run.id)
            self.refuse_older(found, run.token)
            self.rows[run.id] = replace(
                found, state=run.state, finished_at=run.finished_at, report=run.report, rest=run.rest
            )

    def run(self, run: str) -> Run:
        """One run."""
        with self.lock:
            if run not in self.rows:
                raise no_run(run, list(self.rows))
            return self.rows[run]

    def runs(self, environment: str | None = None, limit: int | None = 50, sought: Sought = ANY) -> tuple[Run, ...]:
        """The newest first."""
        with self.lock:
            mine = [one for one in self.rows.values() if environment in {None, one.environment} and sought.fits(one)]
            return tuple(sorted(mine, key=lambda one: (one.started_at, one.id), reverse=True)[:limit])

    def nonces(self, run: str) -> tuple[str, ...]:
        """What a run used up."""
        with self.lock:
            return tuple(sorted(nonce for nonce, by in self.used.items() if by == run))

    @staticmethod
    def refuse_older(run: Run, token: int) -> None:
        """Raises ``LeaseLost`` when the run belongs to a larger token."""
        if run.token > token:
            raise run_moved_on(run.id, token, run.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStepJournal:
    """``ports.runs.StepJournal`` over a ledger; ``records`` has the units in the order in which they were started."""

    ledger: MemoryRunLedger
    clock: Callable[[], datetime] = field(default_factory=MemoryClock)
    opened: dict[tuple[str, int], Round] = field(default_factory=dict)
    records: dict[Unit, StepRecord] = field(default_factory=dict)

    def open_round(self, run: str, round_: Round) -> None:
        """Write a round; the same once more is no mistake, another under its number is."""
        with self.ledger.lock:
            if self.opened.setdefault((run, round_.number), round_) != round_:
                raise round_differs(run, round_.number)

    def rounds(self, run: str) -> tuple[Round, ...]:
        """In order."""
        with self.ledger.lock:
            return tuple(self.opened[key] for key in sorted(self.opened) if key[0] == run)

    def started(self, unit: Unit, executor: str, token: int) -> None:
        """The unit is about to be done."""
        with self.ledger.lock:
            self.ledger.refuse_older(self.ledger.run(unit.run), token)
            before = self.records.get(unit)
            if before is not None and before.outcome is not None:
                raise unit_ended(unit.id)
            at = before.started_at if before is not None else self.clock()
            self.records[unit] = StepRecord(unit=unit, executor=executor, token=token, started_at=at)

    def finished(self, unit: Unit, token: int, outcome: JsonObject, post_state: str = "") -> None:
        """The unit has ended; the first outcome stays."""
        with self.ledger.lock:
            self.ledger.refuse_older(self.ledger.run(unit.run), token)
            before = self.records.get(unit)
            if before is None:
                raise unit_never_started(unit.id)
            if before.outcome is None:
                self.records[unit] = replace(
                    before, finished_at=self.clock(), outcome=outcome, post_state=post_state, token=token
                )

    def steps(self, run: str) -> tuple[StepRecord, ...]:
        """In the order in which they were started."""
        with self.ledger.lock:
            return tuple(one for one in self.records.values() if one.unit.run == run)
