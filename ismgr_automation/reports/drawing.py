"""Drawings as values: boxes, lines and words on a sheet that is 100 wide and some pixels high. A page makes SVG of
them, a PDF draws them; neither is known here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

THINNEST = 0.15
"""The width that a box has at least, so that it can be seen."""
SMALLEST = 1e-9
"""Figures that are closer are one."""
STEPS = (1, 2, 5)


class Ink(StrEnum):
    """What a box is filled with."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    CALM = "calm"
    GAP = "gap"
    """A time without service, behind all else."""
    LANE = "lane"
    """The ground on which boxes stand."""


class Anchor(StrEnum):
    """Where words stand at their place."""

    START = "start"
    MIDDLE = "middle"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """``left`` and ``width`` in per cent of the sheet, ``top`` and ``height`` in pixels."""

    left: float
    width: float
    top: float
    height: float
    ink: Ink
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line from one point to another."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Words whose line stands at ``top``."""

    left: float
    top: float
    text: str
    anchor: Anchor = Anchor.START


Shape = Box | Rule | Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawing with its name, and in words what it shows, for whom cannot see it."""

    name: str
    words: str
    height: float
    shapes: tuple[Shape, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Figures as places: ``low`` stands at ``left`` and ``high`` at ``right``."""

    low: float
    high: float
    left: float = 0.0
    right: float = 100.0

    def at(self, figure: float) -> float:
        """Where a figure stands; at the edge when it lies beyond."""
        share = (figure - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return round(self.left + min(max(share, 0.0), 1.0) * (self.right - self.left), 3)

    def box(self, began: float, ended: float, *, top: float, height: float, ink: Ink, title: str = "") -> Box:
        """A box from one figure to another."""
        left = min(self.at(began), self.right - THINNEST)
        width = max(round(self.at(ended) - left, 3), THINNEST)
        return Box(left=left, width=width, top=top, height=height, ink=ink, title=title)

    def ticks(self, most: int = 6) -> tuple[float, ...]:
        """A few round figures on it."""
        step = round_step((self.high - self.low) / most) if self.high - self.low > SMALLEST else 1.0
        first = -(-self.low // step)
        found = []
        for number in range(most + 2):
            figure = (first + number) * step
            if figure <= self.high:
                found.append(figure)
        return tuple(found)


def round_step(least: float) -> float:
    """The next 1, 2 or 5 times a power of ten.

    >>> round_step(0.3), round_step(37), round_step(60)
    (0.5, 50, 100)
    """
    power = 1.0
    while power > least:
        power /= 10
    while power * 10 <= least:
        power *= 10
    found = next((one * power for one in STEPS if one * power >= least), 10 * power)
    return int(found) if found >= 1 else round(found, 9)
