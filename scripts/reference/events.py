"""The page of events, from `core/events.py`."""

from __future__ import annotations

import dataclasses
import inspect
import re

from ismgr_automation.core import events
from scripts.reference import markdown


def page() -> str:
    """Every event with its fields, in the order of the code: the order of a run."""
    return markdown.page(
        "Events",
        markdown.prose(events.__doc__),
        "`ismgr --json COMMAND` prints one of these a line, and the result as the last line. In Python, "
        "`Estate.open(..., emit=watch)` calls `watch(event)`.",
        *[_section(kind) for kind in _kinds()],
    )


def _kinds() -> list[type[events.Event]]:
    found = [kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, events.Event)]
    return [kind for kind in found if kind is not events.Event]


def _section(kind: type[events.Event]) -> str:
    rows = [(f"`{field.name}`", f"`{_type(field)}`") for field in dataclasses.fields(kind)]
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
    parts = [f"## `{name}`", markdown.prose(kind.__doc__), markdown.table(("field", "type"), rows)]
    return "\n\n".join(part for part in parts if part)


def _type(field: dataclasses.Field[object]) -> str:
    words = str(field.type)
    return words.replace("tuple[Address, ...]", "list of addresses").replace("Address", "address")
