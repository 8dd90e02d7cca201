"""How a drill in isolation ended: whether its walls held and were seen to hold, whether the clone is what it should be,
whether production was left alone, and whether nothing stayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ismgr_automation.recovery.isolated import IsolationTold, Step
from ismgr_automation.recovery.result import Goals, TaskResult, Verdict, Writes
from ismgr_automation.recovery.verdict import CLEANUP, FAULT, RECOVERY, Judgement, worst

GAP_MS = 50.0
"""A longer time without an acknowledged write in production is told; one over the RTO has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What it is judged by. ``unsteady``: why production was not steady before; ``unmeasured``: why nobody watched
    production; ``redundant``: whether production's standby streams at the end."""

    told: IsolationTold
    goals: Goals
    tasks: Sequence[TaskResult]
    writes: Writes | None
    unsteady: str = ""
    unmeasured: str = ""
    stopped: str = ""
    aborted: str = ""
    redundant: bool = True
    left: Sequence[str] = ()


def judge_isolated(seen: Seen) -> Judgement:
    """The verdicts: *fault* is that of the isolation, *recovery* that of the clone and of production, *cleanup* whether
    all is as before."""
    found: dict[str, list[tuple[Verdict, str]]] = {FAULT: [], RECOVERY: [], CLEANUP: []}
    if seen.aborted:
        found[RECOVERY].append((Verdict.ABORTED, seen.aborted))
    if seen.unsteady:
        found[FAULT].append((Verdict.INVALID, seen.unsteady))
        found[RECOVERY].append((Verdict.SKIPPED, "nothing was begun"))
    else:
        found[FAULT] += _walls(seen)
        found[RECOVERY] += _clone(seen)
        found[RECOVERY] += _production(seen)
    if not seen.redundant:
        found[CLEANUP].append((Verdict.FAILED, "production's standby does not stream at the end"))
    found[CLEANUP] += [(Verdict.FAILED, one) for one in seen.left]
    return Judgement(
        verdicts={part: worst([verdict for verdict, _ in some]) for part, some in found.items()},
        reasons=tuple(f"{part}: {why}" for part, some in found.items() for _, why in some),
    )


def effects(told: IsolationTold) -> Iterator[str]:
    """What production noticed, within its objectives: told, and no failure."""
    if told.longest_gap_ms is not None and told.longest_gap_ms > GAP_MS:
        yield f"production waited {told.longest_gap_ms:.0f} ms for a write, and {GAP_MS:.0f} ms are aimed at"


def _walls(seen: Seen) -> Iterator[tuple[Verdict, str]]:
    told = seen.told
    passed = (told.passed_out or 0) + (told.passed_in or 0)
    if passed:
        yield Verdict.FAILED, f"{passed} packets went through the closed gateways"
    reached = [f"{place} ({met})" for place, met in (told.tried or {}).items() if met in {"open", "refused"}]
    if reached:
        yield Verdict.FAILED, f"production was reached from inside: {', '.join(reached)}"
    if seen.aborted:
        return
    if told.passed_out is None:
        yield Verdict.INVALID, "the gateways' counters are not of one piece: nobody can say what got out"
    if not told.tried or not told.knocked:
        yield Verdict.INVALID, "the rules were not seen to bite: no try from inside was met by them"


def _clone(seen: Seen) -> Iterator[tuple[Verdict, str]]:
    bad = list(_steps(seen.tasks))
    yield from ((Verdict.FAILED, why) for why in (bad or ([seen.stopped] if seen.stopped else [])))
    told = seen.told
    if _too_old(told, seen.goals):
        gone = told.expected_rows - (told.held_rows or 0)
        yield Verdict.FAILED, f"{gone} of {told.expected_rows} writes acknowledged before the copy are not in the clone"
    for one in told.checks:
        if not one.ok:
            why = one.words or f"{one.found!r}, and {one.expected!r} is expected"
            yield Verdict.FAILED, f"check {one.name} of the clone: {why}"
    if not (seen.stopped or bad or seen.aborted or told.checks or told.held_rows is not None):
        yield Verdict.INVALID, "nothing was asked of the clone"


def _too_old(told: IsolationTold, goals: Goals) -> bool:
    """Whether the clone lacks more than the recovery point objective allows; all of it is always too much."""
    if told.held_rows is None or told.held_rows >= told.expected_rows:
        return False
    return not told.held_rows or not goals.rpo or (told.behind_ms or 0.0) > goals.rpo * 1000


def _steps(tasks: Sequence[TaskResult]) -> Iterator[str]:
    # what a removal left behind is a matter of cleanup
    last = {one.name: one for one in tasks if one.name not in {Step.REMOVE, Step.OPEN}}
    for one in last.values():
        if one.rule:
            yield f"step {one.name} was refused by the rule {one.rule}: {one.words}"
        elif not one.ok:
            yield f"step {one.name} did not end well: {one.words}"


def _production(seen: Seen) -> Iterator[tuple[Verdict, str]]:
    told, rto = seen.told, seen.goals.rto
    if seen.unmeasured:
        yield Verdict.INVALID, seen.unmeasured
    if told.longest_gap_ms is not None and rto is not None and told.longest_gap_ms > rto * 1000:
        yield Verdict.FAILED, f"production waited {told.longest_gap_ms:.0f} ms for a write, and {rto:g} s is the RTO"
    if told.errors:
        yield Verdict.FAILED, f"{told.errors} writes in production did not go well meanwhile"
    if seen.writes is not None and seen.writes.lost:
        yield Verdict.FAILED, f"{seen.writes.lost} acknowledged writes of production are lost"
