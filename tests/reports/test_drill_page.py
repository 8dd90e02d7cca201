"""The report of a drill as a page: what it says of each kind of drill, what is drawn, and what a real browser makes of
it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.drill_mode import DrillMode, PaperMode
from ismgr_automation.ports.recovery import Outcome
from ismgr_automation.recovery.isolated import CheckTold, IsolationTold
from ismgr_automation.recovery.restore_told import RestoreTold
from ismgr_automation.recovery.result import DrillResult, Goals, Outage, Seat, Span, Table, Verdict
from ismgr_automation.recovery.trend import trend
from ismgr_automation.reports import drill_charts as charts
from ismgr_automation.reports.drawing import THINNEST, Box, Drawing, Ink, Scale, Words, round_step
from ismgr_automation.reports.drill_html import render
from ismgr_automation.reports.drill_page import Told, compose
from ismgr_automation.reports.views import Tone
from tests.recovery.results import earlier, outage, result
from tests.reports import drills
from tests.reports.browser import measure, open_page, served
from tests.reports.test_html import NEEDS_BROWSER, Outline, shown


def page(told: Told) -> str:
    return render(compose(told))


@pytest.mark.parametrize("name", drills.EVERY)
def test_every_tag_is_closed_and_nothing_runs_or_loads(name: str) -> None:
    made = page(drills.EVERY[name]())
    outline = Outline(made)
    assert not outline.open
    ids = [attributes["id"] for _tag, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert not {tag for tag, _ in outline.tags} & {"script", "img", "link", "iframe", "object", "form", "base"}
    for _tag, attributes in outline.tags:
        assert not [one for one in attributes if one.startswith("on") or one in {"src", "style", "action", "href"}]
    [policy] = [one["content"] for _tag, one in outline.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert (policy or "").startswith("default-src 'none'; style-src 'sha256-")
    assert "url(" not in made


SAYS: dict[str, list[str]] = {
    "passed": [
        "clinic / lab: failover drill of records", "Passed", "92 ms ± 5 ms", "objective 2 s", "0 of 1985",
        "acknowledged, 7 refused, 1 unknown in view",
        "The pieces add up to 92.0 ms of the 92.0 ms that the client waited",
        "0 acknowledged writes were lost, counted", "120 bytes, 4 ms", "no worse: clients waited 92 ms",
        "Lowest / median / highest of the 3 drills compared with: outage 97 / 104 / 111 ms",
        "ISO 22301 withheld 5 of 6 sign off by the owner, sign off by management", "GDPR complete 3 of 3",
        "HIPAA 164.308(a)(7)(ii)(E)", "The runbook names a host that is gone.", "fire at dc1", "Ada <ada@example.org>",
        "signed by runner@example.org", "ismgr -e lab audit verify", "timeline",
    ],
    "failed": [
        "Failed", "and 0.05 s is the RTO", "objective 0.05 s", "does not hold the digest of this result",
        "No runner has signed",
    ],
    "invalid": [
        "Invalid", "It proves nothing", "fault: write 4 failed: reset", "No outage was measured.",
        "Lost writes were not counted", "not steady before", "No step was begun", "on another machine",
        "there is nothing to compare",
    ],
    "aborted": ["Aborted", "stopped on request", "not known", "systems, data classes", "withheld"],
}  # fmt: skip


@pytest.mark.parametrize("name", SAYS)
def test_a_report_of_every_kind_of_drill_says_what_is_known_and_what_is_not(name: str) -> None:
    text = shown(page(drills.EVERY[name]())).replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'")
    assert [one for one in SAYS[name] if one not in text] == []
    assert drills.EVERY[name]().digest in text


def test_a_drill_in_isolation_or_on_paper_says_what_it_was() -> None:
    apart = IsolationTold(
        network="bubble",
        gateways=("gw1",),
        spare="spare1",
        source="db2",
        passed_out=0,
        longest_gap_ms=31.0,
        checks=(CheckTold(name="tables", ok=False, words="one is empty"),),
    )
    text = shown(page(drills.told(mode=DrillMode.ISOLATED, outages=(), isolation=apart)))
    for words in ("A clone of db2 on spare1", "Packets that got out 0", "(ms) 31", "tables bad one is empty"):
        assert words in text, words
    seat = Seat(step="failover/fence", person="Ada", answer="done", remark="the lamp was red")
    table = Table(rehearsed=DrillMode.FAILOVER, paper="sha256:1", people=("Ada", "Bob"), seats=(seat,))
    text = shown(page(drills.told(mode=PaperMode.TABLETOP, outages=(), table=table)))
    for words in ("On paper, by Ada, Bob.", "failover/fence Ada done the lamp was red"):
        assert words in text, words


def test_a_restore_and_a_drill_that_was_never_begun_went_from_no_host_to_another() -> None:
    restored = RestoreTold(host="db2", repository="db2", stanza="records")
    text = shown(page(drills.told(mode=DrillMode.RESTORE, outages=(), restore=restored)))
    assert "as it was before. From a backup on db2, beside the service." in text
    text = shown(page(drills.told(verdict=Verdict.SKIPPED, reasons=("nobody asked",), outages=(), home="", away="")))
    assert "It was due, and was not begun. " in text
    assert "→" not in text


def test_what_an_attacker_writes_stays_text() -> None:
    made = page(drills.hostile())
    assert "<script" not in made
    assert "&lt;script&gt;" in made
    assert "{{7*7}}" in made


def test_the_same_drill_gives_the_same_page_and_a_copy_has_no_time_of_its_own() -> None:
    assert page(drills.passed()) == page(drills.passed())
    assert "2026-11-27 12:00 UTC from" in page(drills.passed())
    assert "Made by ismgr 0.1.0 from the drill" in page(replace(drills.passed(), made=None))


def boxes(drawing: Drawing | None, ink: Ink) -> list[Box]:
    assert drawing is not None
    return [one for one in drawing.shapes if isinstance(one, Box) and one.ink is ink]


def test_the_outage_is_marked_where_no_write_was_acknowledged() -> None:
    told = drills.passed()
    drawing = charts.client(told.result, told.result.outages[0], told.attempts)
    [gap] = boxes(drawing, Ink.GAP)
    good = boxes(drawing, Ink.GOOD)
    # the last one before ends where the gap begins, the first one after where it ends
    before = [one for one in good if one.left < gap.left]
    within = [one for one in good if gap.left < one.left < gap.left + gap.width]
    assert max(one.left + one.width for one in before) == pytest.approx(gap.left, abs=0.01)
    assert [one.left + one.width for one in within] == [pytest.approx(gap.left + gap.width, abs=0.01)]
    assert len(boxes(drawing, Ink.BAD)) == 7
    assert [one.title for one in boxes(drawing, Ink.WARN)] == ["write 142: unknown"]


def test_an_objective_that_only_the_way_back_missed_is_told_at_the_top() -> None:
    slow = outage(9000.0, leg="failback", start=20_000.0)
    found = drills.told(outages=(outage(), slow), goals=Goals(rto=2.0, rpo=0.0, mtd=3.0))
    tiles = {one.label: one for one in compose(found).tiles}
    waited, took = tiles["Client's outage"], tiles["Until all was as before"]
    assert (waited.value, waited.tone) == ("92 ms ± 5 ms", Tone.BAD)
    assert waited.note == "objective 2 s; missed by failback, 9000 ms ± 5 ms"
    assert (took.value, took.note, took.tone) == ("4 s", "tolerable 3 s", Tone.BAD)


def test_a_time_without_redundancy_that_nobody_measured_is_no_number() -> None:
    tiles = {one.label: one for one in compose(drills.told(without_redundancy_s=None)).tiles}
    assert tiles["Without redundancy"].value == "not measured"


@pytest.mark.parametrize("lost", ["log", "clock"])
def test_nothing_is_drawn_where_the_log_is_gone_or_nobody_knows_its_clock(lost: str) -> None:
    told = drills.passed()
    told = replace(told, attempts=()) if lost == "log" else drills.told(start_ns=None)
    assert charts.client(told.result, told.result.outages[0], told.attempts) is None
    assert "nothing can be drawn" in page(told)


def test_a_move_that_nobody_noticed_is_drawn_where_its_steps_were() -> None:
    told = drills.passed()
    calm = Outage(leg="failover", outage_ms=6.0, resolution_ms=5.0, interruptions=0)
    drawing = charts.client(told.result, calm, told.attempts)
    [gap] = boxes(drawing, Ink.GAP)
    assert gap.width > 10
    assert charts.fall(calm) is None


@pytest.mark.parametrize(("unexplained", "within"), [(0.0, True), (4.6, True), (4.7, False), (92.0, False)])
def test_what_no_step_explains_is_told_and_more_than_a_twentieth_is_no_waterfall(
    unexplained: float, within: bool
) -> None:
    outage = replace(result().outages[0], unaccounted_ms=unexplained)
    assert outage.explained is within
    assert (" within the 5 %" in charts.sum_of(outage)) is within
    found = page(drills.told(outages=(outage,)))
    assert ("the steps do not explain all of it" in found) is not within


def test_pieces_that_do_not_add_up_to_what_the_client_saw_explain_nothing() -> None:
    outage = result().outages[0]
    assert not replace(outage, outage_ms=outage.outage_ms * 1.2).explained
    assert not replace(outage, waterfall=(Span(name="fence", began_ms=0, ended_ms=5),)).explained


def test_a_drill_stands_on_a_line_with_those_before_it() -> None:
    others: list[DrillResult] = [earlier(days, ms) for days, ms in ((3, 90.0), (2, 110.0), (1, 100.0))]
    drawing = charts.line(trend(result(), others))
    points = boxes(drawing, Ink.GOOD)
    assert [one.left for one in points] == sorted(one.left for one in points)
    tops = [one.top for one in points]
    assert sorted(range(4), key=lambda place: -tops[place]) == [0, 3, 2, 1], "the longer, the higher"
    assert drawing is not None
    assert sum(isinstance(one, Words) and one.text == "1.5" for one in drawing.shapes) == 4, "load beside each"
    assert charts.line(trend(result(), [])) is None


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
    began=st.floats(-2e6, 2e6),
    took=st.floats(0, 1e6),
)
def test_nothing_is_drawn_beside_the_sheet(low: float, width: float, began: float, took: float) -> None:
    scale = Scale(low=low, high=low + width, left=13)
    box = scale.box(began, began + took, top=0, height=1, ink=Ink.CALM)
    assert 13 <= box.left <= 100
    assert box.width >= THINNEST
    assert box.left + box.width <= 100 + 1e-2
    ticks = scale.ticks()
    assert len(ticks) <= 8
    assert all(low - 1e-6 <= one <= low + width + 1e-6 for one in ticks)


@given(least=st.floats(1e-6, 1e9))
def test_steps_are_round_and_no_smaller_than_asked(least: float) -> None:
    step = round_step(least)
    assert least <= step * (1 + 1e-9)
    assert step <= 10 * least + 1e-9
    assert f"{step:e}"[0] in "125"


def test_writes_without_end_are_drawn_as_few() -> None:
    told = drills.passed()
    first = told.attempts[0]
    many = [
        replace(first, number=number, sent_ns=10**9 + number * 1000, ended_ns=10**9 + number * 1000 + 500)
        for number in range(50_000)
    ]
    drawing = charts.client(told.result, told.result.outages[0], many)
    assert 50 < len(boxes(drawing, Ink.GOOD)) < 400
    assert {one.outcome for one in many} == {Outcome.ACKED}


@NEEDS_BROWSER
def test_a_browser_shows_the_page_and_asks_for_nothing() -> None:
    with served(page(drills.hostile())) as (address, asked):
        opened = open_page(address)
    assert '<strong id="verdict">Failed</strong>' in opened.dom
    assert "innerHTML" in shown(opened.dom), "the script is there to be read"
    assert not opened.console, "the page's own policy lets its own style be used"
    assert set(asked) - {"/favicon.ico"} == {"/report.html"}


@NEEDS_BROWSER
@pytest.mark.parametrize("name", ["passed", "invalid", "hostile"])
def test_a_page_fits_a_telephone_and_a_desk(name: str, tmp_path: Path) -> None:
    made = page(drills.EVERY[name]())
    for width in (390, 1280):
        found = measure(made, width, tmp_path)
        assert found["scroll"] == found["client"] == width, found
        assert found["wide"] == [], found
        assert found["mark"] == "50%", "its style is used"
