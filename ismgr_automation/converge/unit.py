"""One unit of a run, done to its end by whichever process has it: the journal first, then the world, then an engine.
What the journal calls ended is never done again; what it calls begun is looked at before anything is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.converge.course import PackageWork
from ismgr_automation.converge.drill_unit import DrillWork, apply_drill
from ismgr_automation.converge.firmware_unit import FirmwareWork, apply_firmware
from ismgr_automation.converge.ground import Ground, ground_of
from ismgr_automation.converge.host_unit import HostWork, apply_hosts
from ismgr_automation.converge.looked import Looked
from ismgr_automation.converge.outcome import Done, carry_out, not_started
from ismgr_automation.converge.outcomefile import read_outcome
from ismgr_automation.converge.package_unit import apply_packages
from ismgr_automation.converge.prepared import Prepared, prepared
from ismgr_automation.converge.report import Outcome, outcome_json
from ismgr_automation.converge.requests import stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stack_unit import StackWork, apply_stack, destroy_stack
from ismgr_automation.converge.stacks import state_moved
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import EngineError, EngineMissing, IsmgrError, LeaseLost
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.change import Change
from ismgr_automation.planning.plan import Purpose
from ismgr_automation.ports.runs import Round, StepRecord, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Everything that an executor needs for the units of one run. ``looked`` has the changes that were observed
    under this lease a moment ago; the coordinator alone can know that. ``ours`` says whether a unit in hand is still
    ours: a worker may lose it while its engine runs, and then the outcome belongs to whoever goes on. ``undoes`` is the
    run that this one is the way back from, if it is one; ``mode`` what kind of drill it is, if it is one.
    ``planned_with`` has the versions of the engines that looked when it was planned, by address."""

    scope: Scope
    run: str
    purpose: Purpose
    executor: str
    undoes: str = ""
    mode: str = ""
    planned_with: Mapping[str, str] = field(default_factory=dict)
    looked: Looked = field(default_factory=Looked)
    ours: Callable[[], bool] = lambda: True
    _grounds: dict[tuple[int, str], Ground] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rounds: dict[int, tuple[Round, Mapping[str, Prepared]]] = field(default_factory=dict)

    def work(self, unit: Unit) -> JsonObject:
        """Do one unit and journal it; returns the outcome's JSON. A failed target is an outcome."""
        journal = self.scope.engines.journal
        steps = journal.steps(self.run)
        mine = [one for one in steps if (one.unit.round, one.unit.key) == (unit.round, unit.key)]
        ended = next((one.outcome for one in mine if one.outcome is not None), None)
        if ended is not None:
            return ended
        known, missions = self._round(unit.round)
        mission = missions[unit.key]
        if self.scope.context.cancelled.is_set():
            return outcome_json(not_started(mission.change))
        journal.started(unit, self.executor, self.scope.context.token)
        again = bool(mine)
        outcome = self._carry_out(mission, known, steps, again=again)
        body = outcome_json(outcome)
        if not self.ours():
            raise LeaseLost(
                f"{unit.key} is somebody else's by now.",
                untouched="What its engine had done by then stays.",
                next_step="Whoever coordinates the run looks at the world and goes on.",
            )
        journal.finished(unit, self.scope.context.token, body, outcome.post_state)
        return body

    def _round(self, number: int) -> tuple[Round, Mapping[str, Prepared]]:
        """A round and its changes by key. It never changes once it is open: it is read once, however many its units."""
        with self._lock:
            if number not in self._rounds:
                known = next(one for one in self.scope.engines.journal.rounds(self.run) if one.number == number)
                self._rounds[number] = (known, {one.change.key: one for one in map(prepared, known.changes)})
            return self._rounds[number]

    def _carry_out(self, mission: Prepared, known: Round, steps: Sequence[StepRecord], *, again: bool) -> Outcome:
        change, scope = mission.change, self.scope
        before = ""

        def work() -> Done:
            nonlocal before
            looked, engine = self.looked.covers(change.key), self.planned_with.get(str(change.address), "")
            if change.address.kind is Kind.STACK:
                # of its own, not of the wave: others of the wave may have been at work for an hour
                state = scope.engines.stacks.state(stack_request(scope, change.address.name))
                before = state.state_digest
                request = StackWork(
                    change=change, sealed=mission.sealed, engine=engine, before=state, again=again, looked=looked
                )
                return (destroy_stack if self.purpose is Purpose.DESTROY else apply_stack)(request, scope)
            ground = self._ground(known, change)
            if change.address.kind is Kind.BASELINE:
                packages = PackageWork(change=change, ground=ground, again=again, looked=looked, undoes=self.undoes)
                return apply_packages(packages, scope)
            if change.address.kind is Kind.RECOVERY:
                drill = DrillWork(change=change, ground=ground, mode=DrillMode(self.mode), again=again)
                return apply_drill(drill, scope)
            if change.address.kind is Kind.MACHINE:
                return apply_firmware(FirmwareWork(change=change, ground=ground, again=again), scope)
            return apply_hosts(
                HostWork(
                    change=change,
                    ground=ground,
                    again=again,
                    looked=looked,
                    engine=engine,
                    rebooted=bool(ground.fleet.makers[change.address] & _touched(known, steps)),
                ),
                scope,
            )

        def touched(problem: Exception) -> bool:
            if again:
                return True
            if change.address.kind is Kind.STACK:
                return bool(before) and state_moved(change.address, before, scope)
            return _may_have_touched(problem)

        return carry_out(change, scope, work, touched)

    def _ground(self, known: Round, change: Change) -> Ground:
        """The changes of one wave stand on one ground, all but stacks."""
        wave = next(one for one in known.waves if change.key in one)
        _, missions = self._round(known.number)
        with self._lock:
            place = (known.number, wave[0])
            if place not in self._grounds:
                changes = [one.change for key, one in missions.items() if key in wave]
                self._grounds[place] = ground_of(changes, self.scope)
            return self._grounds[place]


def _touched(known: Round, steps: Sequence[StepRecord]) -> frozenset[Address]:
    """What has changed in this round; between rounds everybody was waited for."""
    ended = [read_outcome(one.outcome) for one in steps if one.unit.round == known.number and one.outcome is not None]
    return frozenset(one.address for one in ended if one.touched)


def _may_have_touched(problem: Exception) -> bool:
    """Whether a failed playbook run may have changed hosts: an engine that never began says so."""
    if isinstance(problem, EngineError):
        return not problem.untouched and not isinstance(problem, EngineMissing)
    return not isinstance(problem, IsmgrError)
