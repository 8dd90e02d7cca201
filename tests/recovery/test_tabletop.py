"""A paper run: what people say of the steps of a runbook becomes a result, and notes that do not hold together none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ismgr_automation.estate.drill_mode import DrillMode, PaperMode
from ismgr_automation.recovery.past import past_of
from ismgr_automation.recovery.path import legs
from ismgr_automation.recovery.result import Goals, Verdict, read_result, result_json
from ismgr_automation.recovery.runbook import Head, Runbook, compose
from ismgr_automation.recovery.tabletop import Answer, Said, exercise, names
from tests.recovery.documents import SIDES, plan

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
PEOPLE = ("ada", "bob")


def book() -> Runbook:
    head = Head(
        plan="records",
        description="",
        service="records",
        mode=DrillMode.FAILOVER,
        estate="clinic",
        environment="lab",
        commit="c0ffee",
        digest="sha256:0",
        goals=Goals(rto=1, rpo=0),
        home=SIDES.old,
        away=SIDES.new,
    )
    return compose(head, (), legs(plan(), DrillMode.FAILOVER, SIDES), lambda _leg, _task: ())


def say(step: str, minute: int, answer: Answer = Answer.DONE, person: str = "ada", remark: str = "") -> Said:
    began = NOON + timedelta(minutes=minute)
    ended = began + timedelta(seconds=30)
    return Said(step=step, person=person, began=began, ended=ended, answer=answer, remark=remark)


def all_done() -> list[Said]:
    return [say(step, minute) for minute, step in enumerate(names(book()))]


def test_a_walk_in_which_every_step_could_be_done_passes_with_the_times_of_people_and_no_outage() -> None:
    found = exercise(book(), "run", PEOPLE, all_done())
    assert (found.mode, found.verdict, found.reasons) == (PaperMode.TABLETOP, Verdict.PASSED, ())
    assert (found.began_at, found.ended_at) == (NOON, all_done()[-1].ended)
    assert (found.outages, found.writes, found.outage_ms) == ((), None, None)
    assert [one.name for one in found.tasks][:2] == ["fence", "promote"]
    assert (found.tasks[1].began_ms, found.tasks[1].ended_ms) == (60_000, 90_000)
    assert found.table is not None
    assert (found.table.people, found.table.rehearsed) == (PEOPLE, DrillMode.FAILOVER)


def test_a_step_that_was_not_possible_fails_it_with_what_was_said() -> None:
    said = all_done()
    said[0] = say(said[0].step, 0, Answer.NOT_POSSIBLE, "bob", "nobody knew the password of the BMC")
    found = exercise(book(), "run", PEOPLE, said)
    assert found.verdict is Verdict.FAILED
    assert found.reasons == ("recovery: step failover/fence was not possible: nobody knew the password of the BMC",)


def test_a_note_is_kept_and_fails_nothing() -> None:
    said = all_done()
    said[0] = say(said[0].step, 0, Answer.NOTE, "bob", "the number of the on-call is old")
    found = exercise(book(), "run", PEOPLE, said)
    assert (found.verdict, found.tasks[0].words) == (Verdict.PASSED, "bob: the number of the on-call is old")


def test_a_walk_that_was_broken_off_is_aborted() -> None:
    found = exercise(book(), "run", PEOPLE, all_done()[:3])
    assert found.verdict is Verdict.ABORTED
    assert "steps were not walked through, first failover/" in found.reasons[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda said: [*said, said[0]], "step failover/fence is told twice"),
        (lambda said: [*said, say("failover/dance", 0)], "the runbook has no step failover/dance"),
        (lambda _said: [say("failover/fence", 0, person="eve")], "eve of step failover/fence did not take part"),
        (lambda _said: [say("failover/fence", 0, Answer.NOTE)], "step failover/fence is note, and nobody says why"),
        (lambda _said: [], "nothing was walked through"),
    ],
)
def test_notes_that_do_not_hold_together_are_sent_back(change: object, why: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=why):
        exercise(book(), "run", PEOPLE, change(all_done()))


def test_a_paper_run_is_kept_and_read_as_any_other_and_measures_nothing() -> None:
    found = exercise(book(), "run", PEOPLE, all_done())
    again = read_result(result_json(found))
    assert again == found
    assert past_of(legs(plan(), DrillMode.FAILOVER, SIDES)[0], [again]) is None
