"""What people write down about a drill, as it is kept."""

from __future__ import annotations

import json

import pytest

from ismgr_automation.recovery.particulars import Note, People, note_json, read_note
from ismgr_automation.recovery.result import read_result, result_json
from ismgr_automation.recovery.topics import Topic
from tests.recovery.results import finding, result, statement


@pytest.mark.parametrize("note", [finding(), statement(Topic.ACCESS)])
def test_a_note_comes_back_from_json_as_it_was(note: Note) -> None:
    assert read_note(json.loads(json.dumps(note_json(note)))) == note


def test_what_is_no_note_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ismgr\.drill-note/1"):
        read_note({**note_json(finding()), "format": "ismgr.drill-note/2"})
    with pytest.raises(ValueError, match="owner"):
        read_note({key: one for key, one in note_json(finding()).items() if key != "owner"})


def test_a_result_comes_back_with_all_its_particulars_and_an_older_one_without() -> None:
    body = json.loads(json.dumps(result_json(result())))
    assert read_result(body) == result()
    later = ("people", "extent", "scenario", "method", "tools", "confirmations", "start_ns", "steady")
    old = read_result({key: one for key, one in body.items() if key not in later})
    assert (old.people, old.method, old.tools) == (People(), None, {})


def test_duties_are_apart_when_somebody_else_approved() -> None:
    assert People(planned=("Ada",), approved=("Ada", "Bob")).apart
    assert not People(planned=("Ada",), approved=("Ada",)).apart
    assert not People(planned=("Ada",)).apart
    assert not People(planned=("Ada <ada@example.org>",), approved=("ADA@example.org",)).apart
    assert People(planned=("Ada <ada@example.org>",), approved=("bob@example.org",)).apart
