"""What is known of one run, from wherever it is kept: ledger, journal, plan, evidence. Values; nothing is read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ismgr_automation.converge.outcomefile import read_outcome
from ismgr_automation.converge.report import Fate, Outcome
from ismgr_automation.core.address import Address
from ismgr_automation.core.json import JsonObject
from ismgr_automation.evidence.chain import Kind, Record
from ismgr_automation.evidence.telling import items, parts, text
from ismgr_automation.planning.change import Step
from ismgr_automation.planning.plan import Plan, change_json
from ismgr_automation.planning.planfile import read_step
from ismgr_automation.ports.runs import Round, Run, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What an audit says of the run's evidence. ``head`` is the digest of its last record."""

    whole: bool
    closed: bool
    signed_by: str = ""
    anchored: bool = False
    head: str = ""
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One change of the run and what became of it. ``began`` and ``ended`` are None where it did not."""

    key: str
    action: str
    round: int
    wave: int
    targets: tuple[str, ...]
    planned: tuple[Step, ...]
    outcome: Outcome
    attempt: int = 1
    executor: str = ""
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def running(self) -> bool:
        """Whether it began and nothing says how it ended."""
        return self.began is not None and self.ended is None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a change stands in a run."""

    key: str
    round: int
    wave: int


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything about one run. ``now`` is when it is told."""

    run: Run
    plan: Plan | None
    rounds: tuple[Round, ...]
    steps: tuple[StepRecord, ...]
    records: tuple[Record, ...]
    proof: Proof
    now: datetime

    @property
    def report(self) -> JsonObject:
        """The result; empty while there is none."""
        return self.run.report or {}

    @property
    def until(self) -> datetime:
        """When it ended, or now."""
        return self.run.finished_at or self.now

    @cached_property
    def changes(self) -> tuple[Told, ...]:
        """Every change that was to be done, in the order of rounds and waves."""
        found: list[Told] = []
        for round_ in self._rounds:
            by_key = {_key(one): one for one in round_.changes}
            for wave, keys in enumerate(round_.waves, start=1):
                places = [_Place(key=key, round=round_.number, wave=wave) for key in keys]
                found += [self._told(place, by_key.get(place.key, {})) for place in places]
        return tuple(found)

    def of(self, kind: Kind) -> tuple[Record, ...]:
        """The records of one kind."""
        return tuple(one for one in self.records if one.kind is kind)

    def _told(self, place: _Place, change: JsonObject) -> Told:
        step = self._last_steps.get((place.round, place.key))
        return Told(
            key=place.key,
            action=text(change, "action"),
            round=place.round,
            wave=place.wave,
            targets=tuple(str(one).removeprefix("host/") for one in items(change, "targets")),
            planned=tuple(map(read_step, parts(change, "steps"))),
            outcome=self._outcome(place, step),
            attempt=step.unit.attempt if step is not None else 1,
            executor=step.executor if step is not None else "",
            began=step.started_at if step is not None else None,
            ended=step.finished_at if step is not None else None,
        )

    def _outcome(self, place: _Place, step: StepRecord | None) -> Outcome:
        """What the report says; the journal, while there is none, or where a key came back in a later round."""
        again = sum(place.key in wave for one in self.rounds for wave in one.waves) > 1
        if place.key in self._results and not (again and step is not None and step.outcome is not None):
            return self._results[place.key]
        if step is not None and step.outcome is not None:
            return read_outcome(step.outcome)
        fate = Fate.NOT_STARTED if step is None else Fate.UNKNOWN
        return Outcome(key=place.key, address=Address.parse(place.key.partition("#")[0]), fate=fate)

    @property
    def _rounds(self) -> Sequence[Round]:
        if self.rounds or self.plan is None:
            return self.rounds
        # stopped before its first round: the plan says what would have been in it
        return [Round(number=1, changes=tuple(map(change_json, self.plan.changes)), waves=self.plan.waves)]

    @cached_property
    def _last_steps(self) -> Mapping[tuple[int, str], StepRecord]:
        return {(one.unit.round, one.unit.key): one for one in sorted(self.steps, key=lambda one: one.unit.attempt)}

    @cached_property
    def _results(self) -> Mapping[str, Outcome]:
        return {text(one, "key"): read_outcome(one) for one in parts(self.report, "outcomes")}


def _key(change: JsonObject) -> str:
    address, part = text(change, "address"), change.get("part")
    return f"{address}#{part}" if part else address
