"""What is wrong in an input, where, what was expected, what was probably meant. Collected, never raised one by one."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; line and column count from 1, as editors do."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class Severity(StrEnum):
    """An error stops; a warning is shown."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One mistake: a sentence, its place, what was expected, and a suggestion where a near name exists."""

    summary: str
    position: Position | None = None
    expected: str = ""
    suggestion: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = f"{self.position}: " if self.position else ""
        expected = f"; expected {self.expected}" if self.expected else ""
        suggestion = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{where}{self.severity}: {self.summary}{expected}{suggestion}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or an empty string when none is near.

    >>> did_you_mean("selecter", ["selector", "playbook"])
    'selector'
    >>> did_you_mean("xyz", ["selector", "playbook"])
    ''
    """
    candidates = list(known)
    if len(candidates) > _COMPARED:
        candidates = heapq.nlargest(_COMPARED, candidates, key=lambda one: _shared(word, one))
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return close[0] if close else ""


_COMPARED = 50
"""How many words are compared in full: a thousand mistakes among a thousand names must not take a minute."""


def _shared(word: str, other: str) -> int:
    """How many characters two words share at their two ends: a slip of the pen leaves most of them."""
    return _alike(word, other) + _alike(word[::-1], other[::-1])


def _alike(one: str, two: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))
