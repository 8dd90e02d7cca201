"""The table from the engine's words and exit codes to our errors, row by row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineError, EngineMissing, InputError, IsmgrError
from ismgr_automation.engines.pulumi.backend import Lock
from ismgr_automation.engines.pulumi.errors import Problem, Said
from ismgr_automation.engines.pulumi.table import EXIT_CODES, ROWS, Row, explain

TAXONOMY = {1, 2, 3, 4, 5, 6, 7, 8, 9, 255}
"""Every failing exit code of the engine's own taxonomy (exit.go, 3.230.0)."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.words.pattern[:40])
def test_each_row_turns_its_example_into_its_error_and_no_row_before_it_does(row: Row):
    first = next(one for one in ROWS if one.words.search(row.example))
    assert first is row
    error = explain(Said(subject="stack/things", code=1, stderr=row.example))
    assert type(error) is row.kind
    assert isinstance(error, InputError) or "stack/things" in str(error)
    assert error.exit_code in (1, 4)
    assert error.next_step or isinstance(error, InputError | EngineMissing)


def test_every_exit_code_of_the_engine_has_an_error():
    assert set(EXIT_CODES) == TAXONOMY
    for code in TAXONOMY:
        error = explain(Said(subject="stack/things", code=code))
        assert isinstance(error, EngineError | Cancelled)
        assert "stack/things" in str(error)
        assert "Nothing was touched" in str(error)


def test_words_that_nobody_knows_are_passed_on_once():
    said = Said(subject="stack/things", code=1, stderr="error: the moon is full\n", errors=("the moon is full",))
    assert str(explain(said)).startswith("stack/things: the moon is full ")


def test_an_error_after_something_landed_does_not_say_that_nothing_was_touched():
    for code in TAXONOMY:
        assert "Nothing was touched" not in str(explain(Said(subject="s", code=code, touched=True)))


def test_a_traceback_of_the_sdk_alone_is_told_in_one_sentence():
    text = (
        "python inline source runtime error: boom\nTraceback (most recent call last):\n"
        '  File "/venv/pulumi/runtime/stack.py", line 1, in run\n    x()\nValueError: boom\n'
    )
    error = explain(Said(subject="s", code=1, problem=Problem(text=text, frames=()), program=Path("/estate/p")))
    assert isinstance(error, InputError)
    assert [one.summary for one in error.diagnostics] == ["ValueError: boom"]
    assert error.diagnostics[0].position is None


def test_the_innermost_line_of_the_program_is_blamed_and_modules_beside_it_after_that():
    frames = (("/lib/runpy.py", 1), ("/estate/stacks/p/__main__.py", 3), ("/estate/common.py", 8), ("/lib/x.py", 9))
    said = Said(
        subject="s", code=1, problem=Problem(text="ValueError: no", frames=frames),
        program=Path("/estate/stacks/p"), root=Path("/estate"),
    )  # fmt: skip
    error = explain(said)
    assert isinstance(error, InputError)
    assert str(error.diagnostics[0].position) == "stacks/p/__main__.py:3:1"


@pytest.mark.parametrize(
    ("dead", "words", "step"),
    [
        (True, "by alice@db9, process 7, which is gone, since noon", "rm /state/lock.json"),
        (False, "by alice@db9, process 7, which still runs, since noon", "Wait for it to end"),
        (None, "by alice@db9, process 7, since noon", "after you made sure"),
    ],
)
def test_a_lock_says_who_where_since_when_and_what_to_do(dead, words, step):
    lock = Lock(path=Path("/state/lock.json"), user="alice", host="db9", pid=7, since="noon", dead=dead)
    error = explain(Said(subject="s", code=1, stderr="the stack is currently locked by 1 lock(s)", locks=(lock,)))
    assert words in error.summary
    assert step in error.next_step


def test_every_row_stands_for_an_error_of_our_family():
    assert all(issubclass(row.kind, IsmgrError) and row.words.flags & re.IGNORECASE for row in ROWS)
