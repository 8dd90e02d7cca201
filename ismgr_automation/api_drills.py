"""What an estate does about drills and backups: the verbs that ``Estate`` has besides those of plans and patches. Kept
records are looked up; whatever runs code of the estate asks first who signed it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge import drill_calendar, drill_review
from ismgr_automation.converge.backups import BackupStatus, backup_status, take_backup
from ismgr_automation.converge.drill_leftovers import Leftovers, leftovers
from ismgr_automation.converge.drill_paper import runbook
from ismgr_automation.converge.drill_table import keep_exercise
from ismgr_automation.converge.held import Held, Names
from ismgr_automation.converge.run import new_name, refuse_if_lost
from ismgr_automation.converge.scope import Mode, Scope
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.backups import BackupKind
from ismgr_automation.ports.recovery import Attempt
from ismgr_automation.recovery.clauses import Case, Seal
from ismgr_automation.recovery.particulars import Note
from ismgr_automation.recovery.result import DrillResult, read_result
from ismgr_automation.recovery.runbook import Runbook
from ismgr_automation.recovery.schedule import Outlook, Turn
from ismgr_automation.recovery.sign_offs import Weighed
from ismgr_automation.recovery.trend import Trend


class EstateDrills(ABC):
    """The part of an ``Estate`` that is about drills and backups."""

    @abstractmethod
    def _scope(self, targets: Names, excludes: Names, mode: Mode = Mode.PLAN) -> AbstractContextManager[Scope]: ...

    @abstractmethod
    def _looked_up(
        self, targets: Names = (), excludes: Names = (), mode: Mode = Mode.PLAN
    ) -> AbstractContextManager[Scope]: ...

    @abstractmethod
    def hold(self, purpose: str = "apply", *, wait: timedelta | None = None) -> AbstractContextManager[Held]:
        """Hold the environment's lease."""

    def drill_faults(
        self, name: str = "", *, lift: bool = False, wait: timedelta | None = None
    ) -> tuple[Leftovers, ...]:
        """What is left of faults on the hosts of a RecoveryPlan, or of all, from whatever run. With ``lift`` it is
        taken away, under the environment's lease."""
        if not lift:
            with self._scope((), ()) as scope:
                return leftovers(scope, name)
        with self.hold("drill faults", wait=wait), self._scope((), (), Mode.APPLY) as scope:
            return leftovers(scope, name, lift=True)

    def stop_drill(self, run: str, by: str) -> None:
        """Ask whoever carries a drill out, in another process of this checkout, to stop. Does not wait."""
        with self._looked_up() as scope:
            scope.engines.recovery.journal(run).ask_to_stop(by)

    def keep_exercise(self, result: DrillResult) -> None:
        """Keep the result of a paper run, in the evidence too. For whoever holds the lease (``hold``)."""
        with self._scope((), (), Mode.APPLY) as scope:
            keep_exercise(scope, result)

    def runbook(self, name: str, mode: DrillMode) -> Runbook:
        """How people do by hand what a RecoveryPlan asks for. Reads documents and states; no host is asked."""
        with self._scope((), ()) as scope:
            return runbook(scope, name, mode)

    def drills(self, name: str = "", limit: int = 20) -> tuple[DrillResult, ...]:
        """What drills measured, the newest first; of one RecoveryPlan, or of all."""
        with self._looked_up() as scope:
            return tuple(map(read_result, scope.engines.recovery.results.results(name, limit)))

    def drill(self, run: str) -> DrillResult | None:
        """What one drill measured."""
        with self._looked_up() as scope:
            found = scope.engines.recovery.results.result(run)
            return read_result(found) if found is not None else None

    def drills_due(self, name: str = "", now: datetime | None = None, *, held: Held | None = None) -> Outlook:
        """Which drills are due by which schedules, what forbids others, what was skipped, which alarms there are; of
        one DrillSchedule, or of all. No host is asked. Who ``held`` the lease is in nobody's way."""
        with self._looked_up() as scope:
            token = held.lease.token if held is not None else None
            return drill_calendar.due(scope, now or datetime.now(UTC), name, token=token)

    def drill_calendar(
        self, begin: datetime, end: datetime, name: str = "", now: datetime | None = None
    ) -> tuple[Turn, ...]:
        """The times of all schedules, or of one, between two moments: with their records, or with what forbids them."""
        with self._looked_up() as scope:
            return drill_calendar.coming(scope, now or datetime.now(UTC), (begin, end), name)

    def skip_drills(self, held: Held, turns: Sequence[Turn], now: datetime | None = None) -> tuple[DrillResult, ...]:
        """Put on record, under a lease, that no drill was carried out at some times; each once. Raises
        ``EngineError``."""
        refuse_if_lost(held.tenure)
        with self._looked_up(mode=Mode.APPLY) as scope:
            return tuple(drill_calendar.record_skip(scope, one, now or datetime.now(UTC)) for one in turns)

    def drill_trend(self, result: DrillResult) -> Trend:
        """A drill among those of the same plan, mode and fault before it."""
        with self._looked_up() as scope:
            return drill_review.trend_of(scope, result)

    def drill_case(self, result: DrillResult, seal: Seal) -> Case:
        """All that is known of a drill: besides its result its trend, and what people wrote down. ``seal`` is what its
        evidence says."""
        with self._looked_up() as scope:
            return drill_review.case_of(scope, result, seal, datetime.now(UTC))

    def drill_attempts(self, run: str) -> Sequence[Attempt]:
        """What is left on this machine of the log of a drill's client."""
        with self._looked_up() as scope:
            return scope.engines.recovery.attempts(run)

    def note_drill(self, note: Note) -> Note:
        """Append a finding, a statement or a sign-off about a drill, in the evidence too; returns it as it is kept. For
        whoever holds the lease (``hold``). Raises ``InputError`` for a drill that there is not, and for a person who is
        in no Team document, ``NotApproved`` for a sign-off that does not count."""
        with self._looked_up(mode=Mode.APPLY) as scope:
            return drill_review.write_down(scope, note, new_name(datetime.now(UTC)))

    def drill_sign_offs(self, run: str) -> tuple[Weighed, ...]:
        """Who signed a drill off, and which of it counts."""
        with self._looked_up() as scope:
            return drill_review.sign_offs_of(scope, run)

    def backup_status(self, name: str = "") -> tuple[BackupStatus, ...]:
        """What backups there are and how old; of one RecoveryPlan, or of all that have some."""
        with self._scope((), ()) as scope:
            return backup_status(scope, name)

    def take_backup(self, name: str, kind: BackupKind) -> None:
        """Make a backup of a RecoveryPlan's database and files now. Raises ``EngineFailed`` for one that was not."""
        with self._scope((), (), Mode.APPLY) as scope:
            take_backup(scope, name, kind)
