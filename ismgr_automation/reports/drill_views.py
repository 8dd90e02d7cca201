"""What the report of a drill is made of, as values: sections of sentences, drawings and tables. A page and a PDF show
the same. No markup: tones."""

from __future__ import annotations

from dataclasses import dataclass

from ismgr_automation.reports.drawing import Drawing
from ismgr_automation.reports.views import Tile, Tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A text of a table, and how it is to be taken."""

    text: str
    tone: Tone | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows below heads; ``numbers`` are the heads of columns of figures."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[str] = frozenset()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence with a word before it that says how it is to be taken; without a word it is plain."""

    text: str
    word: str = ""
    tone: Tone = Tone.CALM


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report. ``commands`` are lines to type."""

    anchor: str
    title: str
    sentences: tuple[Sentence, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPage:
    """The whole report."""

    title: str
    verdict: str
    tone: Tone
    lead: str
    reasons: tuple[str, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    made: str
