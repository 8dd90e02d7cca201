"""Diagnostics: one mistake, its place, what was meant."""

from __future__ import annotations

import pytest

from ismgr_automation.core.diagnostic import Diagnostic, Position, Severity, did_you_mean


@pytest.mark.parametrize(
    ("diagnostic", "text"),
    [
        (Diagnostic(summary="no name"), "error: no name"),
        (Diagnostic(summary="no name", position=Position("a.yaml", 3, 7)), "a.yaml:3:7: error: no name"),
        (Diagnostic(summary="old", severity=Severity.WARNING, expected="new"), "warning: old; expected new"),
        (Diagnostic(summary="no x", suggestion="y"), "error: no x (did you mean 'y'?)"),
    ],
)
def test_a_diagnostic_reads_as_editors_and_people_expect(diagnostic: Diagnostic, text: str) -> None:
    assert str(diagnostic) == text


def test_positions_are_ordered_as_they_stand_in_files() -> None:
    places = [Position("b", 1, 1), Position("a", 10, 1), Position("a", 2, 9), Position("a", 2, 10)]
    assert sorted(places) == [Position("a", 2, 9), Position("a", 2, 10), Position("a", 10, 1), Position("b", 1, 1)]


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [("selecter", ["selector", "playbook"], "selector"), ("zzz", ["selector"], ""), ("x", [], "")],
)
def test_only_a_near_word_is_suggested(word: str, known: list[str], near: str) -> None:
    assert did_you_mean(word, known) == near


@pytest.mark.parametrize("word", ["db-0700x", "b-0700", "dv-0700", "ddb-0700"])
def test_a_near_word_is_found_among_thousands(word: str) -> None:
    known = [*(f"web-{number:04}" for number in range(5000)), *(f"db-{number:04}" for number in range(700, 800))]
    assert did_you_mean(word, known) == "db-0700"
