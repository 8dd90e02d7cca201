"""Where a client's outage went: cut by the marks of the drill's journal into pieces that add up to it exactly. No time
is given to a step that did not run then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

DETECT = "detect"
"""From the last acknowledged write to the first mark: nobody had done anything yet."""
RECONNECT = "reconnect"
"""From the last mark to the first acknowledged write: all was done, and the client did not know yet."""
UNACCOUNTED = "unaccounted"
"""Between two marks: the drill did something that its journal does not tell."""
LIMIT = 0.05
"""The share of an outage that may be unaccounted for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A named time of the journal, such as ``fence``, by the probe's clock."""

    name: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an outage."""

    name: str
    began_ns: int
    ended_ns: int

    @property
    def lasted_ns(self) -> int:
        """Never zero or less."""
        return self.ended_ns - self.began_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """An outage in pieces, each beginning where the one before ended."""

    pieces: tuple[Piece, ...]

    @property
    def lasted_ns(self) -> int:
        """The outage."""
        return sum(one.lasted_ns for one in self.pieces)

    @property
    def unaccounted(self) -> float:
        """The share of it that no mark explains."""
        return sum(one.lasted_ns for one in self.pieces if one.name == UNACCOUNTED) / self.lasted_ns

    @property
    def explained(self) -> bool:
        """Whether no more than ``LIMIT`` of it is unaccounted for."""
        return self.unaccounted <= LIMIT


def waterfall(began_ns: int, ended_ns: int, marks: Sequence[Mark]) -> Waterfall:
    """Cut an outage. Where steps ran side by side, the time is that of the one that began first: the others waited for
    nothing less. Without a mark in it, all of the outage is unaccounted for. Raises ``ValueError`` when the outage does
    not end after it began.

    >>> marks = [("fence", 4, 50), ("promote", 50, 90)]
    >>> cut = waterfall(0, 100, [Mark(name=name, began_ns=began, ended_ns=ended) for name, began, ended in marks])
    >>> [(one.name, one.lasted_ns) for one in cut.pieces]
    [('detect', 4), ('fence', 46), ('promote', 40), ('reconnect', 10)]
    """
    if ended_ns <= began_ns:
        raise ValueError("an outage ends after it began")
    inside = sorted(
        (one for one in marks if one.began_ns < ended_ns and one.ended_ns > began_ns and one.began_ns < one.ended_ns),
        key=lambda one: (one.began_ns, one.ended_ns),
    )
    if not inside:
        return Waterfall(pieces=(Piece(name=UNACCOUNTED, began_ns=began_ns, ended_ns=ended_ns),))
    edges = {min(max(edge, began_ns), ended_ns) for one in inside for edge in (one.began_ns, one.ended_ns)}
    pieces: list[Piece] = []
    for start, end in pairwise(sorted({began_ns, ended_ns, *edges})):
        name = _name(start, end, inside)
        if pieces and pieces[-1].name == name:
            start = pieces.pop().began_ns  # noqa: PLW2901  the same step goes on
        pieces.append(Piece(name=name, began_ns=start, ended_ns=end))
    return Waterfall(pieces=tuple(pieces))


def _name(start: int, end: int, marks: Sequence[Mark]) -> str:
    """What ran in a time within which nothing begins or ends."""
    running = (one.name for one in marks if one.began_ns <= start and one.ended_ns >= end)
    if end <= marks[0].began_ns:
        return DETECT
    if start >= max(one.ended_ns for one in marks):
        return RECONNECT
    return next(running, UNACCOUNTED)
