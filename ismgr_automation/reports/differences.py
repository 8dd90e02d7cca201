"""Before and after as lines that people read: what was, what is, what stays out. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from enum import StrEnum
from itertools import islice

from ismgr_automation.core.json import Json

LONGEST = 400
"""Lines of one difference that are shown."""
WIDEST = 2000
"""Characters of one line that are shown."""


class Side(StrEnum):
    """Which side of a difference a line is on."""

    BEFORE = "before"
    AFTER = "after"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a difference."""

    side: Side
    text: str


def difference(before: Json, after: Json) -> tuple[Line, ...]:
    """The lines that differ.

    >>> [f"{one.side} {one.text}" for one in difference({"port": 80}, {"port": 443})]
    ['before port: 80', 'after port: 443']
    """
    lines = tuple(islice(_lines(before, after), LONGEST + 1))
    if len(lines) > LONGEST:
        lines = (*lines[:LONGEST], Line(side=Side.NEITHER, text="and more; the JSON of the plan has all"))
    return tuple(Line(side=one.side, text=_cut(one.text)) for one in lines)


def _lines(before: Json, after: Json) -> Iterator[Line]:
    if isinstance(before, str | None) and isinstance(after, str | None):
        yield from _texts(before or "", after or "")
    elif isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
        yield from _objects(before or {}, after or {})
    else:
        if before is not None:
            yield Line(side=Side.BEFORE, text=_value(before))
        if after is not None:
            yield Line(side=Side.AFTER, text=_value(after))


def _texts(before: str, after: str) -> Iterator[Line]:
    sides = {"-": Side.BEFORE, "+": Side.AFTER, " ": Side.NEITHER}
    found = islice(unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""), 2, None)
    for number, line in enumerate(found):
        if line.startswith("@@"):
            if number:
                yield Line(side=Side.NEITHER, text="...")
        else:
            yield Line(side=sides.get(line[:1], Side.NEITHER), text=line[1:])


def _objects(before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[Line]:
    for key in sorted({*before, *after}):
        if before.get(key) == after.get(key) and (key in before) == (key in after):
            continue
        for side, body in ((Side.BEFORE, before), (Side.AFTER, after)):
            if key in body:
                first, *rest = _value(body[key]).splitlines() or [""]
                yield Line(side=side, text=f"{key}: {first}")
                yield from (Line(side=side, text=f"  {line}") for line in rest)


def _value(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=dict)


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[:WIDEST]} ..."
