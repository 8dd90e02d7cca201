"""The schema of events, from the classes of ``core.events``."""

from __future__ import annotations

import inspect
from typing import Any

from ismgr_automation.core import events
from ismgr_automation.core.json import JsonObject
from ismgr_automation.reports.formats.shapes import MOMENT, dataclass_of, document


def event() -> JsonObject:
    """One line of ``ismgr --json``: which fields it has is chosen by ``type``."""
    words = "One line of `ismgr --json`: a fact in the past tense. Which fields it has is chosen by `type`."
    return document(events.FORMAT, words, {"oneOf": [_one(kind) for kind in _kinds()]})


def _kinds() -> list[type[events.Event]]:
    found = [kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, events.Event)]
    return [kind for kind in found if kind is not events.Event]


def _one(kind: type[events.Event]) -> JsonObject:
    body: dict[str, Any] = dict(dataclass_of(kind))
    name = "".join(("-" if i and c.isupper() else "") + c.lower() for i, c in enumerate(kind.__name__))
    frame = {"format": {"const": events.FORMAT}, "type": {"const": name}, "at": MOMENT}
    return {**body, "required": [*frame, *body["required"]], "properties": {**frame, **body["properties"]}}
