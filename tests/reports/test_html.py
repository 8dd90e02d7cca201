"""The page of a run: what it says, that nothing can get out of its place, and what a real browser makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ismgr_automation.core.address import group
from ismgr_automation.planning.change import Finding, Level
from ismgr_automation.reports.differences import difference
from ismgr_automation.reports.html import render
from ismgr_automation.reports.page import compose
from ismgr_automation.reports.story import Story
from ismgr_automation.reports.timeline import MOST_BARS, span
from ismgr_automation.reports.views import Tone
from tests.reports import stories
from tests.reports.browser import BROWSER, measure, open_page, served

EVERY = {"done": stories.done, "stopped": stories.stopped, "glass": stories.glass, "running": stories.running}
HOSTILE = (
    "</style></title><script>document.body.innerHTML='OWNED'</script><img src=x onerror=alert(1)>\u202e\"'`&{{7*7}}"
)
NEEDS_BROWSER = pytest.mark.skipif(not BROWSER, reason="there is no chromium on this machine")
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Every tag with its attributes, and whether each that was opened was closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shown(page: str) -> str:
    """The text of a page, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))


def hostile() -> Story:
    """Texts of an attacker wherever a text can stand."""
    story = stories.glass()
    assert story.plan is not None
    finding = Finding(level=Level.WARN, subject=group("databases"), summary=HOSTILE, next_step=HOSTILE)
    report = {**story.report, "stopped": HOSTILE, "warnings": [HOSTILE]}
    record = story.records[0]
    body = {**record.body, "break_glass": {"by": HOSTILE, "reason": HOSTILE}}
    changes = [dict(one) for one in story.rounds[0].changes]
    changes[0]["steps"] = [
        {**step, "what": HOSTILE, "target": HOSTILE, "after": {HOSTILE: HOSTILE}}
        for step in changes[0]["steps"]  # type: ignore[union-attr]
    ]
    return replace(
        story,
        run=replace(story.run, estate=HOSTILE, commit=HOSTILE, report=report),
        plan=replace(story.plan, findings=(finding,)),
        rounds=(replace(story.rounds[0], changes=tuple(changes)),),
        records=(replace(record, body=body), *story.records[1:]),
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_tag_is_closed_and_every_link_leads_into_the_page(name: str) -> None:
    outline = Outline(render(EVERY[name]()))
    assert not outline.open
    ids = [attributes["id"] for _tag, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] or "" for tag, attributes in outline.tags if tag == "a"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


@pytest.mark.parametrize("make", [*EVERY.values(), hostile])
def test_a_page_holds_nothing_that_runs_or_loads(make: Callable[[], Story]) -> None:
    page = render(make())
    outline = Outline(page)
    assert not {tag for tag, _attributes in outline.tags} & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "form",
        "base",
    }
    for _tag, attributes in outline.tags:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "style", "action"}]
    [policy] = [one["content"] for _tag, one in outline.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert (policy or "").startswith("default-src 'none'; style-src 'sha256-")
    assert "url(" not in page
    assert "@import" not in page


def test_what_an_attacker_writes_stays_text() -> None:
    page = render(hostile())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{7*7}}" in page
    assert not Outline(page).open


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("done", "Applied", ["6 of 6 changes landed", "9 of 9", "signed by runner1@example.org", "2 of role approver"]),
        ("stopped", "Stopped, partly applied", ["the failure budget of 0 is spent", "2 of 4", "The agent is gone."]),
        ("glass", "Stopped, partly applied", ["BREAK-GLASS.", "INC-4711: the edge of dc1 answers nobody"]),
        ("running", "Not finished", ["resume 20261122T081500-3f9a", "does not hold the digest of the line before it"]),
    ],
)
def test_a_page_says_first_how_it_ended(name: str, verdict: str, words: list[str]) -> None:
    page = render(EVERY[name]())
    assert f'<strong id="verdict">{verdict}</strong>' in page
    text = shown(page)
    assert [one for one in words if one not in text] == []
    assert EVERY[name]().run.digest in text


def test_what_is_left_is_listed_with_what_to_do() -> None:
    left = [(one.word, one.subject) for one in compose(stories.stopped()).left]
    assert left == [
        ("may still run", "group/databases#1"),
        ("failed", "group/databases#1"),
        ("not started", "group/databases#2"),
        ("deferred", "stack/names"),
        ("warning", ""),
    ]
    assert "ismgr -e production plan" in render(stories.stopped())
    assert compose(stories.done()).left == ()


def test_differences_are_shown_of_what_was_planned_and_of_what_really_changed() -> None:
    text = shown(render(stories.stopped()))
    assert "- max_connections = 100" in text
    assert "+ max_connections = 400" in text
    assert "What really changed" in text
    assert "+ cluster: 15/main" in text
    assert "create the cluster changed, and was not in the plan" in text


def test_every_change_has_its_place_on_the_timeline() -> None:
    waves = compose(stories.done()).waves
    bars = [bar for wave in waves for bar in wave.bars]
    assert [wave.name for wave in waves] == [
        *(f"Round 1, wave {number}" for number in (1, 2, 3)),
        *(f"Round 2, wave {number}" for number in (1, 2)),
    ]
    assert all(0 <= bar.left <= bar.left + bar.width <= 100.5 for bar in bars)
    assert [round(bar.left) for bar in bars] == [0, 0, 15, 40, 85, 98]
    stopped = compose(stories.stopped()).waves[-1].bars[0]
    assert (stopped.word, stopped.width) == ("not started", 0.0)


def test_a_change_that_nothing_says_the_end_of_is_drawn_until_now() -> None:
    story = stories.running()
    bar = compose(story).waves[1].bars[0]
    assert (bar.word, bar.left, round(bar.width)) == ("running", 5.0, 95)


def test_a_run_that_was_refused_before_its_first_round_shows_what_was_planned() -> None:
    story = replace(stories.stopped(), rounds=(), steps=())
    story = replace(story, run=replace(story.run, report={"stopped": "the lease was lost"}))
    page = compose(story)
    assert page.verdict == "Stopped, nothing applied"
    assert [one.key for one in page.changes] == [one.key for one in stories.FIRST]
    assert {one.tone for one in page.changes} == {Tone.CALM}


def test_a_wave_of_thousands_draws_what_failed_and_counts_the_rest() -> None:
    story = stories.done()
    keys = tuple(f"group/databases#{number}" for number in range(1, 2001))
    body = dict(story.rounds[0].changes[2])
    changes = tuple({**body, "part": number} for number in range(1, 2001))
    rounds = (replace(story.rounds[0], changes=changes, waves=(keys,)),)
    outcomes = [{**story.report["outcomes"][2], "key": key} for key in keys]  # type: ignore[index]
    outcomes[1500] = {**outcomes[1500], "fate": "failed"}
    story = replace(story, rounds=rounds, run=replace(story.run, report={**story.report, "outcomes": outcomes}))
    [wave] = compose(story).waves
    assert len(wave.bars) == MOST_BARS
    assert wave.more == 2000 - MOST_BARS
    assert "group/databases#1501" in {bar.label for bar in wave.bars if bar.word == "failed"}
    assert wave.counts == ((Tone.GOOD, "1999 landed"), (Tone.BAD, "1 failed"))


def test_the_same_run_gives_the_same_page() -> None:
    assert render(stories.done()) == render(stories.done())


def test_half_a_character_can_be_written() -> None:
    story = stories.done()
    assert b"\\udc80" in render(replace(story, run=replace(story.run, commit="\udc80"))).encode()


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("a\nb\n", "a\nc\n", ["  a", "- b", "+ c"]),
        (None, "x", ["+ x"]),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["- b: 2", "+ b: 3"]),
        ({"a": 1}, None, ["- a: 1"]),
        ([1], {"a": None}, ["- [1]", '+ {"a": null}']),
        (None, None, []),
        ("same", "same", []),
        ({"a": "x\ny"}, {"a": "x\nz"}, ["- a: x", "-   y", "+ a: x", "+   z"]),
    ],
)
def test_a_difference_is_what_differs(before: object, after: object, lines: list[str]) -> None:
    signs = {"before": "-", "after": "+", "neither": " "}
    assert [f"{signs[one.side]} {one.text}" for one in difference(before, after)] == lines  # type: ignore[arg-type]


def test_a_difference_without_end_is_cut() -> None:
    found = difference(None, "\n".join(map(str, range(5000))))
    assert len(found) == 401
    assert "the plan has all" in found[-1].text
    assert len(difference(None, "x" * 9000)[0].text) < 2100


def test_lengths_of_time_are_said_as_people_say_them() -> None:
    assert [span(timedelta(seconds=one)) for one in (0, 59.94, 60, 3599, 3600)] == [
        *("0.0 s", "59.9 s", "1 min 0 s"),
        *("59 min 59 s", "1 h 0 min"),
    ]


@NEEDS_BROWSER
def test_a_browser_shows_the_page_and_asks_for_nothing() -> None:
    with served(render(hostile())) as (address, asked):
        opened = open_page(address)
    assert '<strong id="verdict">Stopped, partly applied</strong>' in opened.dom
    assert "innerHTML" in shown(opened.dom), "the script is there to be read"
    assert not opened.console, "the page's own policy lets its own style be used"
    assert set(asked) - {"/favicon.ico"} == {"/report.html"}


@NEEDS_BROWSER
def test_a_page_that_asks_for_something_is_noticed() -> None:
    with served("<!DOCTYPE html><title>x</title><body><img src=x>") as (address, asked):
        open_page(address)
    assert "/x" in asked


@NEEDS_BROWSER
def test_a_page_fits_a_telephone_and_a_desk(tmp_path: Path) -> None:
    for make in (stories.done, hostile):
        page = render(make())
        for width in (390, 1280):
            found = measure(page, width, tmp_path)
            assert found["scroll"] == found["client"] == width, found
            assert found["wide"] == [], found
            assert found["mark"] == "50%", "its style is used"
