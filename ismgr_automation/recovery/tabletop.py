"""A paper run of a recovery: people walk through the runbook, and say of each step whether it could be done. What they
said becomes a result as that of a drill; no machine is touched, and nothing is measured but their time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ismgr_automation.estate.drill_mode import PaperMode
from ismgr_automation.recovery.result import DrillResult, Seat, Table, TaskResult, Verdict
from ismgr_automation.recovery.runbook import Runbook
from ismgr_automation.recovery.verdict import RECOVERY


class Answer(StrEnum):
    """What people say of a step."""

    DONE = "done"
    NOTE = "note"
    """It can be done, and something about it must change: the remark says what."""
    NOT_POSSIBLE = "not-possible"
    """The remark says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one person said of one step, ``LEG/STEP``."""

    step: str
    person: str
    began: datetime
    ended: datetime
    answer: Answer
    remark: str = ""


def names(book: Runbook) -> tuple[str, ...]:
    """The steps of a runbook, as they are spoken of."""
    return tuple(f"{leg}/{step.name}" for leg, step in book.steps)


def wrong(book: Runbook, people: Sequence[str], said: Sequence[Said]) -> Iterator[str]:
    """What does not hold together, a sentence each: such notes are sent back, and never judged."""
    known = set(names(book))
    seen: set[str] = set()
    if not people:
        yield "nobody took part"
    for one in said:
        if one.step not in known:
            yield f"the runbook has no step {one.step}"
        if one.step in seen:
            yield f"step {one.step} is told twice"
        seen.add(one.step)
        if one.person not in people:
            yield f"{one.person} of step {one.step} did not take part"
        if one.ended < one.began:
            yield f"step {one.step} ended before it began"
        if one.answer is not Answer.DONE and not one.remark:
            yield f"step {one.step} is {one.answer}, and nobody says why"


def exercise(book: Runbook, run: str, people: Sequence[str], said: Sequence[Said]) -> DrillResult:
    """The result: passed where every step could be done; failed where one could not; aborted where the walk was broken
    off before its last step. Times are those of the people. Raises ``ValueError`` for notes that are ``wrong``, or for
    none at all."""
    bad = list(wrong(book, people, said))
    if bad or not said:
        raise ValueError("; ".join(bad) or "nothing was walked through")
    began, ended = min(one.began for one in said), max(one.ended for one in said)
    failed = [f"step {one.step} was not possible: {one.remark}" for one in said if one.answer is Answer.NOT_POSSIBLE]
    missing = [one for one in names(book) if one not in {one.step for one in said}]
    verdict = Verdict.ABORTED if missing else Verdict.FAILED if failed else Verdict.PASSED
    reasons = [*failed, *([f"{len(missing)} steps were not walked through, first {missing[0]}"] if missing else [])]
    head = book.head
    return DrillResult(
        run=run,
        plan=head.plan,
        service=head.service,
        mode=PaperMode.TABLETOP,
        estate=head.estate,
        environment=head.environment,
        commit=head.commit,
        digest=head.digest,
        began_at=began,
        ended_at=ended,
        goals=head.goals,
        verdict=verdict,
        verdicts={RECOVERY: verdict},
        reasons=tuple(f"{RECOVERY}: {one}" for one in reasons),
        home=head.home,
        away=head.away,
        tasks=tuple(_task(one, began) for one in said),
        table=Table(
            rehearsed=head.mode,
            paper=book.content,
            people=tuple(people),
            seats=tuple(Seat(step=one.step, person=one.person, answer=one.answer, remark=one.remark) for one in said),
        ),
    )


def _task(one: Said, began: datetime) -> TaskResult:
    leg, _, name = one.step.partition("/")
    return TaskResult(
        leg=leg,
        name=name,
        action="paper",
        ok=one.answer is not Answer.NOT_POSSIBLE,
        began_ms=(one.began - began) / timedelta(milliseconds=1),
        ended_ms=(one.ended - began) / timedelta(milliseconds=1),
        words=": ".join(filter(None, [one.person, one.remark])),
    )
