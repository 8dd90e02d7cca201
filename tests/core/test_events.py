"""Events: facts that turn into one JSON object each."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone

import pytest

from ismgr_automation.core import events
from ismgr_automation.core.address import stack
from ismgr_automation.core.events import Event

AT = datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))
SAMPLES = {
    "str": "text",
    "int": 3,
    "float": 1.5,
    "float | None": None,
    "int | None": None,
    "Address": stack("names"),
    "Address | None": None,
    "tuple[Address, ...]": (stack("a"), stack("b")),
}
KINDS = [
    kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_event_turns_into_json_with_all_its_fields(kind: type[Event]) -> None:
    event = kind(**{field.name: SAMPLES[str(field.type)] for field in fields(kind)})
    body = json.loads(json.dumps(event.to_json(AT)))
    assert body["format"] == "ismgr.event/1"
    assert body["at"] == "2026-03-01T12:00:00+00:00"
    assert body.keys() - {"format", "type", "at"} == {field.name for field in fields(kind)}


def test_the_type_of_an_event_is_its_class_in_kebab_case() -> None:
    assert events.RoundStarted(round=1, waves=2, changes=3).to_json(AT)["type"] == "round-started"


def test_no_two_kinds_have_one_type_and_no_field_hides_the_frame() -> None:
    assert len({kind.__name__.lower() for kind in KINDS}) == len(KINDS)
    assert not [kind for kind in KINDS if {"format", "type", "at"} & {field.name for field in fields(kind)}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd(Event):
    thing: object


@pytest.mark.parametrize("thing", [object(), {"a": 1}, [1], b"x", timedelta(1)])
def test_an_event_cannot_hold_what_json_does_not_know(thing: object) -> None:
    with pytest.raises(TypeError, match=type(thing).__name__):
        Odd(thing=thing).to_json(AT)
