"""What was signed beside what was done: the rules, without an engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation.planning.change import Action, Certainty, Step
from ismgr_automation.planning.unplanned import predicted_only, tasks_of, unplanned, wider
from ismgr_automation.ports.hosts import PlaybookResult, Reach, Reachability, Status, TaskResult

PAGE = TaskResult(
    host="web1", task="Write", role="web", status=Status.CHANGED, before="a", after="b", path="roles/web/main.yml:4"
)
STEP = Step(
    target="web1",
    what="web : Write",
    action=Action.CONFIGURE,
    where="roles/web/main.yml:4",
    before="a",
    after="b",
)
OPEN = replace(STEP, certainty=Certainty.UNPREDICTABLE, before=None, after=None, why="command does not run")
FRESH = Step(
    target="web1",
    what="web.yml",
    action=Action.CONFIGURE,
    certainty=Certainty.UNPREDICTABLE,
    why="the host has just come up",
)


def result(*tasks: TaskResult, failed: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> PlaybookResult:
    return PlaybookResult(
        tasks=tasks,
        counts={},
        unreachable=tuple(Reachability(host=name, reach=Reach.TIMEOUT) for name in lost),
        failed=failed,
        engine="",
    )


HELD = {
    "signed as a change": (STEP, PAGE),
    "signed as unpredictable": (OPEN, PAGE),
    "a host that has just come up": (FRESH, PAGE),
    "an item of an unpredictable loop": (OPEN, replace(PAGE, path="roles/web/main.yml:4[x]")),
    "brought by an unpredictable include": (OPEN, replace(PAGE, path="more.yml:1", within=("roles/web/main.yml:4",))),
    "a handler that may run, at its second turn": (
        replace(OPEN, where="roles/web/main.yml:4#*"),
        replace(PAGE, path="roles/web/main.yml:4#2"),
    ),
    "run once, on another host": (STEP, replace(PAGE, host="web2", once=True)),
    "run once and open, on another host": (OPEN, replace(PAGE, host="web2", once=True)),
    "not a change": (replace(STEP, where="other:1"), replace(PAGE, status=Status.SKIPPED)),
}
NOT_HELD = {
    "another host": (STEP, replace(PAGE, host="web2")),
    "another task": (STEP, replace(PAGE, path="roles/web/main.yml:5")),
    "another turn of the same task": (STEP, replace(PAGE, path="roles/web/main.yml:4#2")),
    "another turn of an unpredictable task": (OPEN, replace(PAGE, path="roles/web/main.yml:4#2")),
    "another item of the loop": (
        replace(STEP, where="roles/web/main.yml:4[a]"),
        replace(PAGE, path="roles/web/main.yml:4[b]"),
    ),
    "below an include that was signed as a change": (
        STEP,
        replace(PAGE, path="more.yml:1", within=("roles/web/main.yml:4",)),
    ),
    "the fresh host is another": (FRESH, replace(PAGE, host="web2")),
}


@pytest.mark.parametrize("name", HELD)
def test_what_the_signed_steps_hold_is_not_unplanned(name):
    step, done = HELD[name]
    assert unplanned([step], result(done)) == ()


@pytest.mark.parametrize("name", NOT_HELD)
def test_a_change_that_nobody_signed_is_told_with_host_task_and_place(name):
    step, done = NOT_HELD[name]
    (told,) = unplanned([step], result(done))
    assert told == f"{done.host}: web : Write ({done.path}) changed, and the plan says that it would not"


def test_what_was_to_change_and_did_not_is_told_unless_its_host_was_lost():
    assert predicted_only([STEP], result(PAGE)) == ()
    assert predicted_only([OPEN, FRESH], result()) == ()
    assert predicted_only([STEP], result(failed=("web1",))) == ()
    assert predicted_only([STEP], result(lost=("web1",))) == ()
    assert predicted_only([STEP], result(replace(PAGE, host="web2", once=True))) == ()
    assert predicted_only([STEP], result()) == ("web1: web : Write (roles/web/main.yml:4) was to change, and did not",)


WIDER = {
    "a change that was not there": ([], PAGE, "would change now, and the plan says that it would not"),
    "another result of the same change": (
        [STEP],
        replace(PAGE, after="c"),
        "would change something else now than what the plan says",
    ),
    "a change of something else before": (
        [STEP],
        replace(PAGE, before="c"),
        "would change something else now than what the plan says",
    ),
    "a change that became unpredictable": (
        [STEP],
        replace(PAGE, unpredictable="depends on x"),
        "cannot be predicted any more: depends on x",
    ),
}


@pytest.mark.parametrize("name", WIDER)
def test_a_later_look_that_finds_more_than_was_signed_is_told(name):
    steps, found, words = WIDER[name]
    assert wider(steps, result(found)) == (f"web1: web : Write (roles/web/main.yml:4) {words}",)


def test_a_later_look_that_finds_what_was_signed_or_less_is_no_finding():
    assert wider([STEP], result(PAGE)) == ()
    assert wider([STEP], result()) == ()
    assert wider([OPEN], result(replace(PAGE, unpredictable="why not"))) == ()
    assert wider([FRESH], result(PAGE, replace(PAGE, path="other.yml:1"))) == ()


def test_check_mode_that_fails_now_is_told_with_its_first_line():
    broken = replace(PAGE, status=Status.FAILED, message="no such user\nmore")
    assert wider([STEP], result(broken, failed=("web1", "web2"))) == (
        "web1: web : Write (roles/web/main.yml:4) fails in check mode now: no such user",
        "web2 fails in check mode now",
    )


def test_a_task_that_runs_once_is_told_of_the_first_host_of_each_part():
    once = replace(PAGE, once=True)
    other = replace(PAGE, host="web3", path="x:1")
    checked = result(other, once)
    assert tasks_of(("web1", "web2"), checked) == (once,)
    assert tasks_of(("web4", "web3"), checked) == (replace(once, host="web4"), other)
    assert tasks_of((), checked) == ()
