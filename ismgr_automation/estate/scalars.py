"""What a YAML scalar without quotes means: YAML 1.2, and a complaint where tools disagree. Nothing is read here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ismgr_automation.core.json import Json

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TWO_FACED = {"yes": True, "no": False, "on": True, "off": False}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASE = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_LARGEST = 2**53
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Why a scalar must be written otherwise."""

    summary: str
    expected: str


def plain(text: str) -> tuple[Json, Complaint | None]:
    """The value of an unquoted scalar. With a complaint comes the value that was probably meant, so that one mistake
    gives one diagnostic.

    >>> plain("12")
    (12, None)
    >>> plain("2026-01-01")
    ('2026-01-01', None)
    >>> plain("yes")[1].expected
    'true, or quotes around the text'
    """
    if text in _NULL:
        return None, None
    if text in _BOOL:
        return _BOOL[text], None
    first = text[0]
    if first in "0123456789-+.":
        return _number(text)
    meant = _TWO_FACED.get(text.lower()) if len(text) <= 3 else None  # noqa: PLR2004  the longest is "yes"
    if meant is not None and text in {text.lower(), text.upper(), text.capitalize()}:
        summary = f"{text} is a truth value for some tools and text for others"
        return meant, Complaint(summary=summary, expected=f"{str(meant).lower()}, or quotes around the text")
    return text, None


def _number(text: str) -> tuple[Json, Complaint | None]:
    """A text that begins as numbers do: a number, a number that cannot be carried, or text after all."""
    value: int | float | None
    value = _whole(text) if _INT.match(text) else _based(text) if _BASE.match(text) else None
    if value is None and _FLOAT.match(text):
        value = float(text)
    if value is None and not _SPECIAL.match(text):
        return text, None
    digits = text.lstrip("+-")
    if _INT.match(text) and digits != "0" and digits.startswith("0"):
        summary = f"{text} has a leading zero: octal for some tools, decimal for others"
        return 0, Complaint(summary=summary, expected="quotes around it, or 0o for octal")
    if value is None or abs(value) == float("inf"):
        return 0, Complaint(summary=f"{text} is not a number that JSON can carry", expected="a finite number")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return 0, Complaint(summary="the number is larger than JSON can carry exactly", expected="at most 2**53")
    return value, None


def _whole(text: str) -> int:
    # Python refuses to read thousands of digits; all that counts is that there are too many
    return int(text) if len(text) <= _MOST_DIGITS else _LARGEST + 1


def _based(text: str) -> int:
    return int(text, 0) if len(text) <= _MOST_DIGITS else _LARGEST + 1
