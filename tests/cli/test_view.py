"""Values as text for people: every kind of event, change, difference and end has a line, and odd text breaks none."""

from __future__ import annotations

import io
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.progress import progress
from ismgr_automation.cli.view import show_plan, show_report
from ismgr_automation.converge.report import Fate, Outcome, Queued, Report, report_json
from ismgr_automation.core.address import group, stack
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.events import Event
from ismgr_automation.core.json import Json, canonical
from ismgr_automation.planning.change import Action, Drift
from ismgr_automation.ports.verification import CheckResult, Verdict
from tests.core.test_events import KINDS
from tests.planning.test_compose import (
    STACK,
    composed,
    deferred,
    group_sight,
    replace,
    seen,
    stack_sight,
    step,
    task,
)

ODD = "[/red] [bold] :key: \\ \x00 \udcff"
SAMPLES = {
    "str": ODD,
    "int": 3,
    "float": 1.5,
    "float | None": None,
    "int | None": None,
    "Address": stack("names"),
    "Address | None": None,
    "tuple[Address, ...]": (stack("a"), stack("b")),
}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def shown(show: object, value: object) -> str:
    console = Console(file=io.StringIO(), width=160, emoji=False)
    show(value, console)  # type: ignore[operator]
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_event_breaks_the_progress_view(kind: type[Event], terminal: bool) -> None:
    file = io.StringIO()
    face = Face(errors=Console(file=file, force_terminal=terminal, emoji=False))
    event = kind(**{field.name: SAMPLES[str(field.type)] for field in fields(kind)})
    with progress(face):
        for _ in range(2):
            face.emit(event)
    face.emit(event)
    assert face.watch is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_one_json_line(kind: type[Event], capsys: pytest.CaptureFixture[str]) -> None:
    event = kind(**{field.name: SAMPLES[str(field.type)] for field in fields(kind)})
    Face(json=True).emit(event)
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ({"a": 1}, {"a": 2}, "a: 1 -> 2"),
        (None, {"a": 2}, "a: 2"),
        ({"a": 1}, None, "a: 1 -> null"),
        ([1], [1, 2], "[1] -> [1, 2]"),
        (1, None, "1 -> null"),
        ("old\nsame", "new\nsame", "- old"),
        (None, "[/red] new", "+ [/red] new"),
        ({"a": "x" * 200}, {}, "xxx..."),
    ],
)
def test_a_difference_of_any_shape_is_shown(before: Json, after: Json, line: str) -> None:
    changed = replace(step("thing"), before=before, after=after)
    plan = composed(seen(stack_sight(stack("s"), changed)))
    assert line in shown(show_plan, plan)


@pytest.mark.parametrize("action", Action)
def test_every_action_has_a_sign(action: Action) -> None:
    change = replace(STACK, action=action, steps=tuple(replace(one, action=action) for one in STACK.steps))
    plan = replace(composed(seen()), changes=(change,), waves=((change.key,),))
    assert f"stack/s {action}" in shown(show_plan, plan)


def test_long_changes_are_cut_and_say_how_to_see_the_rest() -> None:
    plan = composed(seen(stack_sight(stack("s"), *(step(f"r{number:02}") for number in range(30)))))
    assert "and 18 more; --full shows all" in shown(show_plan, plan)
    console = Console(file=io.StringIO(), width=160)
    show_plan(plan, console, everything=True)
    assert "r29" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_plan_with_odd_words_everywhere_is_shown() -> None:
    words = replace(task("h1"), before=ODD, after=ODD, task=ODD, path=ODD, unpredictable=ODD)
    plan = composed(seen(group_sight(group("g"), words, applied=None)))
    plan = replace(
        plan,
        drift=(Drift(address=stack("s"), target=ODD, what=ODD, before=ODD, after={"a": ODD}),),
        deferred=(replace(deferred(stack("late")), why=ODD),),
    )
    assert "[/red] [bold] :key:" in shown(show_plan, plan)


def outcome(fate: Fate, summary: str = "", *, touched: bool = False) -> Outcome:
    return Outcome(key=f"stack/{fate}", address=stack(fate), fate=fate, summary=summary, touched=touched)


def report(*outcomes: Outcome, **more: object) -> Report:
    plain = Report(digest="sha256:1", outcomes=outcomes, checks=(), rounds=1, seconds=1.0)
    return replace(plain, **more)  # type: ignore[arg-type]


REPORTS = [
    (report(outcome(Fate.LANDED)), ExitCode.DONE, "Applied"),
    (report(outcome(Fate.FAILED, "boom"), stopped="stack/failed failed: boom"), ExitCode.ENGINE, "boom"),
    (report(outcome(Fate.FAILED, "boom", touched=True), stopped="boom"), ExitCode.PARTLY_APPLIED, "boom"),
    (report(outcome(Fate.UNKNOWN, "killed"), stopped="killed"), ExitCode.PARTLY_APPLIED, "unknown"),
    (report(outcome(Fate.LANDED), stopped="outside the envelope: [/x]"), ExitCode.PARTLY_APPLIED, "envelope: [/x]"),
    (report(outcome(Fate.NOT_STARTED), cancelled=True), ExitCode.CANCELLED, "Cancelled"),
    (report(stopped="what was deferred is still not known"), ExitCode.ENGINE, "still not known"),
    (report(), ExitCode.DONE, "Applied"),
]


@pytest.mark.parametrize(("value", "code", "words"), REPORTS)
def test_an_end_has_its_code_and_its_reason_is_shown(value: Report, code: ExitCode, words: str) -> None:
    assert value.exit_code is code
    assert words in shown(show_report, value)
    body = report_json(value)
    assert canonical(body)
    assert (body["exit_code"], body["ok"]) == (int(code), code is ExitCode.DONE)


def test_a_reason_is_not_told_twice() -> None:
    value = report(outcome(Fate.FAILED, "boom", touched=True), stopped="stack/failed failed: boom")
    assert shown(show_report, value).count("boom") == 1


def test_what_a_check_said_is_shown_and_what_passed_is_counted() -> None:
    checks = tuple(
        CheckResult(host="h", suite="s", check=f"c-{verdict}", verdict=verdict, seconds=0.1, message=ODD)
        for verdict in Verdict
    )
    text = shown(show_report, report(outcome(Fate.LANDED), checks=checks))
    assert "c-failed" in text
    assert "c-error" in text
    assert "1 of 4 checks passed" in text


def test_hosts_that_were_away_are_told_with_how_long_they_wait() -> None:
    noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
    queued = tuple(Queued(host=name, until=noon + timedelta(days=at)) for name, at in (("a", 0), ("b", 1), ("c", 0)))
    text = shown(show_report, report(queued=queued))
    assert "0 of 0" not in text
    assert "2 hosts were away and wait in the queue until 2026-11-02 12:00 UTC: a, c." in text
    assert "1 host was away and waits in the queue until 2026-11-03 12:00 UTC: b." in text
    assert "1 host was away" in shown(show_report, report(outcome(Fate.LANDED), queued=queued))
    assert canonical(report_json(report(queued=queued)))


def test_an_apply_of_nothing_says_so() -> None:
    assert shown(show_report, replace(report(), rounds=0)).strip() == "Nothing was to be done."


@pytest.mark.parametrize(
    ("changed", "words"), [(0, "0 things changed"), (1, "1 thing changed"), (2, "2 things changed")]
)
def test_one_thing_is_no_things(changed: int, words: str) -> None:
    assert words in shown(show_report, report(replace(outcome(Fate.LANDED), changed=changed)))


def test_the_words_of_an_engine_stand_below_the_line_that_says_what_failed() -> None:
    said = replace(outcome(Fate.FAILED, "web1 failed: the script"), detail="Setting up web\n[/x] dpkg: error")
    first, *rest = shown(show_report, report(said, stopped="web1 failed: the script")).splitlines()
    assert first.endswith("web1 failed: the script")
    assert rest[:2] == ["    Setting up web", "    [/x] dpkg: error"]
