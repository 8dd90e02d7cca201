"""The report of a drill on paper: its text, read back out of the file."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.reports.drill_page import Told, compose
from ismgr_automation.reports.drill_pdf import render
from tests.recovery.results import NOON, finding
from tests.reports import drills

STREAM = re.compile(rb"/Filter /FlateDecode\s*/Length \d+\s*>>\s*stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
SHOWN = re.compile(rb"\(((?:\\.|[^\\()])*)\) Tj", re.DOTALL)


def streams(file: bytes) -> list[bytes]:
    """What is drawn on each page."""
    return [zlib.decompressobj().decompress(found) for found in STREAM.findall(file)]


def text(file: bytes) -> str:
    """The words of all pages, in the order in which they are shown, lines joined by spaces."""
    found = [one for stream in streams(file) for one in SHOWN.findall(stream)]
    return " ".join(re.sub(rb"\\(.)", rb"\1", one).decode("latin-1") for one in found)


def file(told: Told) -> bytes:
    return render(compose(told), told.result.ended_at)


SAYS: dict[str, list[str]] = {
    "passed": [
        "Passed", "92 ms \xb1 5 ms", "What the client saw", "no service: 92 ms", "acknowledged", "refused",
        "The pieces add up to 92.0 ms", "120 bytes, 4 ms", "median 104 ms", "fire at dc1",
        "withheld", "complete", "164.316(b)(2)", "The runbook names a host", "signed by runner@example.org",
        "db1 -> db2 -> db1", "page 2",
    ],
    "failed": ["Failed", "0.05 s is the RTO"],
    "invalid": ["Invalid", "write 4 failed: reset", "Lost writes were not counted"],
    "aborted": ["Aborted", "stopped on request", "not known"],
    "hostile": ["<script>", "{{7*7}}(\\)", "\\u202e"],
}  # fmt: skip


@pytest.mark.parametrize("name", SAYS)
def test_what_stands_on_the_page_stands_on_paper(name: str) -> None:
    made = file(drills.EVERY[name]())
    assert made.startswith(b"%PDF-")
    assert [one for one in SAYS[name] if one not in text(made)] == []


def test_charts_are_drawn_as_boxes_in_their_colors() -> None:
    drawn = b"\n".join(streams(file(drills.passed())))
    boxes = len(re.findall(rb"[\d.-]+ [\d.-]+ [\d.-]+ [\d.-]+ re f", drawn))
    without = b"\n".join(streams(file(replace(drills.passed(), attempts=()))))
    assert boxes - len(re.findall(rb"[\d.-]+ [\d.-]+ [\d.-]+ [\d.-]+ re f", without)) > 30
    assert b"0.7216 0.149 0.1843 rg" in drawn, "what was refused is red"


def test_the_same_drill_gives_the_same_bytes() -> None:
    assert file(drills.passed()) == file(drills.passed())
    later = render(compose(drills.passed()), NOON + timedelta(days=1))
    assert later != file(drills.passed())


def test_letters_that_the_fonts_have_not_are_told_as_escapes() -> None:
    made = text(file(drills.told(notes=(finding(text="脆い \N{EN DASH} ž \udc80"),))))
    assert "\\u8106\\u3044 - \\u017e \\udc80" in made


def test_a_text_without_end_is_cut_and_fits_a_page() -> None:
    made = file(drills.told(notes=(finding(text="x" * 90_000),)))
    assert "xxx ..." in text(made).replace("x x", "xx")
    assert len(streams(made)) < 12


FOREIGN = {
    "Greek": "\u03b1\u03b2\u03b3",
    "Cyrillic": "\u0416\u0437",
    "CJK": "\u8106\u5f31",
    "emoji": "\U0001f525",
    "both ways": "\u05d0",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_characters_that_the_fonts_lack_are_kept_as_escapes_and_the_paper_says_so(name: str) -> None:
    letters = FOREIGN[name]
    known = drills.passed()
    for note in (finding(text=f"see {letters}"), finding(owner=f"Ada {letters}")):
        told = replace(known, case=replace(known.case, notes=(note,)))
        said = text(file(told))
        escaped = letters.encode("ascii", "backslashreplace").decode()
        assert escaped in said.replace(" ", ""), "a narrow column breaks the line within a word"
        assert "Some characters of this report" in said


def test_a_report_in_western_letters_says_nothing_of_fonts() -> None:
    known = drills.passed()
    told = replace(known, case=replace(known.case, notes=(finding(text="Zo\u00eb, gr\u00fc\u00dfe"),)))
    assert "Some characters" not in text(file(told))
