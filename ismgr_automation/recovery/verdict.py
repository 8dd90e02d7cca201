"""How a drill ended, judged from what was measured: three verdicts apart, and the worst of them for the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ismgr_automation.recovery.faults import DETECT, LIFT, WATCH
from ismgr_automation.recovery.faults import FAULT as FAULT_LEG
from ismgr_automation.recovery.result import Goals, Outage, TaskResult, Verdict, Writes

FAULT, RECOVERY, CLEANUP = "fault", "recovery", "cleanup"

_ORDER = (Verdict.ABORTED, Verdict.INVALID, Verdict.FAILED, Verdict.SKIPPED, Verdict.PASSED)
"""The worst first: what was broken off proves nothing, and what proves nothing cannot have failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a drill is judged by. ``unsteady``: why service was not steady before, ``unbitten`` why the fault did not
    bite, ``uncounted`` why lost writes could not be counted; each empty where all is well. ``redundant``: whether a
    standby streams in the original direction at the end."""

    goals: Goals
    outages: Sequence[Outage]
    writes: Writes | None
    tasks: Sequence[TaskResult]
    unsteady: str = ""
    unbitten: str = ""
    uncounted: str = ""
    redundant: bool = False
    left: Sequence[str] = ()
    stopped: str = ""
    """Why it stopped before its end, where no task of it says so."""
    unserved: Sequence[str] = ()
    """Sentences of moves after which service did not come back to stay."""
    moves: bool = True
    """Whether there is a move that clients wait for."""
    faulty: Sequence[str] = ()
    """Why the fault proves nothing: it did not bite, was gone too early, or was not seen to be lifted."""
    unharmed: bool = False
    """Nothing was begun but a fault that did not bite."""
    taken: int = 0
    """Acknowledged writes that a stale primary took."""
    aborted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdicts, and why each is not ``passed``."""

    verdicts: Mapping[str, Verdict]
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """That of the whole drill."""
        return worst(self.verdicts.values())


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several; passed for none.

    >>> worst([Verdict.PASSED, Verdict.FAILED, Verdict.INVALID])
    <Verdict.INVALID: 'invalid'>
    """
    found = set(verdicts)
    return next((one for one in _ORDER if one in found), Verdict.PASSED)


def late(goals: Goals, outages: Iterable[Outage]) -> tuple[Outage, ...]:
    """The outages that were longer than the RTO allows, or may have been: each counts with all that it may be longer
    than it looks."""
    if goals.rto is None:
        return ()
    return tuple(one for one in outages if one.outage_ms + one.resolution_ms > goals.rto * 1000)


def whole_s(tasks: Iterable[TaskResult]) -> float:
    """From the fault, or else the first step that clients wait for, until the last step ended: seconds. What was looked
    at before is no part of a recovery."""
    return max((one.ended_ms for one in tasks), default=0.0) / 1000


def judge(seen: Measured) -> Judgement:
    """The verdicts of a drill on the live service."""
    reasons: dict[str, list[tuple[Verdict, str]]] = {FAULT: [], RECOVERY: [], CLEANUP: []}
    if seen.aborted:
        reasons[RECOVERY].append((Verdict.ABORTED, seen.aborted))
    for why in filter(None, (seen.unsteady, seen.unbitten, *seen.faulty)):
        reasons[FAULT].append((Verdict.INVALID, why))
    if seen.uncounted:
        reasons[RECOVERY].append((Verdict.INVALID, seen.uncounted))
    if seen.unsteady or seen.unharmed:
        words = "nothing was begun" if seen.unsteady else "nothing else was begun"
        reasons[RECOVERY].append((Verdict.SKIPPED, words))
    else:
        reasons[RECOVERY] += [(Verdict.FAILED, why) for why in (*_steps(seen), *_missed(seen))]
    if not seen.redundant:
        reasons[CLEANUP].append((Verdict.FAILED, "no standby streams in the original direction at the end"))
    reasons[CLEANUP] += [(Verdict.FAILED, one) for one in seen.left]
    return Judgement(
        verdicts={part: worst([verdict for verdict, _ in found]) for part, found in reasons.items()},
        reasons=tuple(f"{part}: {why}" for part, found in reasons.items() for _, why in found),
    )


def _steps(seen: Measured) -> list[str]:
    found = []
    for one in seen.tasks:
        if one.leg == LIFT or (one.leg == FAULT_LEG and one.action not in {DETECT, WATCH}):
            continue  # of which the verdict on the fault speaks
        if one.rule:
            found.append(f"step {one.name} of {one.leg} was refused by the rule {one.rule}: {one.words}")
        elif not one.ok:
            found.append(f"step {one.name} of {one.leg} did not end well: {one.words}")
    return found or ([seen.stopped] if seen.stopped else [])


def _missed(seen: Measured) -> list[str]:
    """Objectives that were not reached. Every move counts, also the way back."""
    goals, found = seen.goals, list(seen.unserved)
    if seen.moves and not (seen.outages or seen.uncounted or seen.unserved):
        found.append("no outage was measured")
    found += [
        f"clients waited {one.figure} in {one.leg}, and {goals.rto:g} s is the RTO" for one in late(goals, seen.outages)
    ]
    if seen.writes is not None and goals.rpo is not None:
        lost = seen.writes
        if lost.lost and (not goals.rpo or lost.lost_span_ms > goals.rpo * 1000):
            gone = f"{lost.lost} acknowledged writes of {lost.lost_span_ms:.0f} ms are lost"
            found.append(f"{gone}, and {goals.rpo:g} s is the RPO")
        if seen.taken:
            found.append(f"the stale primary took {seen.taken} writes that were acknowledged, and are lost")
        if lost.contradictions:
            found.append(f"{lost.contradictions} writes that were refused are there all the same")
    if goals.mtd is not None and whole_s(seen.tasks) > goals.mtd:
        found.append(f"it took {whole_s(seen.tasks):.0f} s until all was as before, and {goals.mtd:g} s are tolerable")
    return found
