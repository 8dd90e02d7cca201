"""Says where a source is wrong: mistakes are collected with their place and raised once. Opens nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import InputError

MOST = 20
"""So many mistakes are listed: a file of another format has as many as it has entries."""
_SHOWN = 200
_BLANK = re.compile(r"\s")
_UNSEEN = re.compile(r"[^\x20-\x7e\xa1-\uffff]")


class Mistakes:
    """What is wrong in one source."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: list[Diagnostic] = []

    def at_key(self, keys: Iterable[str | int], summary: str, file: str = "") -> None:
        """A value that is not what it should be, by its keys from the top of the file."""
        path = ".".join(str(key) for key in keys)
        self._found.append(
            Diagnostic(summary=f"{plain(file or self.name)}: {plain(path) or 'the whole'}: {plain(summary)}")
        )

    @property
    def full(self) -> bool:
        """Whether it is enough: more would tell nothing new."""
        return len(self._found) >= MOST

    def raise_if_any(self, what: str) -> None:
        """One ``InputError`` with all of them; ``what`` the source was taken for."""
        if self._found:
            raise InputError(
                f"{plain(self.name)} is not {what}.", diagnostics=self._found[:MOST], next_step=_ANOTHER_FORMAT
            )


def wrong(name: str, summary: str) -> InputError:
    """The error for a source that is wrong as a whole."""
    return InputError(f"{plain(name)} cannot be read: {plain(summary)}.", next_step=_ANOTHER_FORMAT)


def wrong_at(name: str, text: str, offset: int, summary: str) -> InputError:
    """The error for a source that is no JSON, with line and column."""
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    return wrong_on(name, line, column, summary)


def wrong_on(name: str, line: int, column: int, summary: str) -> InputError:
    """The error for a source that is wrong at a line and column."""
    place = Diagnostic(summary=plain(summary), position=Position(plain(name), line, column))
    return InputError(f"{plain(name)} cannot be read.", diagnostics=[place], next_step=_ANOTHER_FORMAT)


def too_large(name: str, what: str, most_bytes: int) -> InputError:
    """The error for a source that is larger than we read."""
    return InputError(
        f"{plain(name)} is too large: {what} has more than {most_bytes:,} bytes.",
        next_step="Look whether it is what you meant; a mirror can hold less of it.",
    )


def plain(text: str) -> str:
    """Texts of others for a terminal: no control characters, and not longer than is read.

    >>> plain("a" + chr(27) + "[2J")
    'a?[2J'
    """
    shown = _UNSEEN.sub("?", _BLANK.sub(" ", text[: 2 * _SHOWN]))
    return shown if len(text) <= 2 * _SHOWN else f"{shown[:_SHOWN]}..."


_ANOTHER_FORMAT = "Look at the source and at its `format`: debian, osv, kev or epss."
