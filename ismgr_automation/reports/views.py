"""What a page about a run is made of, as values: sections, rows, bars. No markup, no colors: tones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.converge.report import Fate
from ismgr_automation.reports.differences import Line


class Tone(StrEnum):
    """How something is to be taken."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    CALM = "calm"


FATES = {
    Fate.LANDED: (Tone.GOOD, "landed"),
    Fate.FAILED: (Tone.BAD, "failed"),
    Fate.UNKNOWN: (Tone.WARN, "unknown"),
    Fate.NOT_STARTED: (Tone.CALM, "not started"),
}
"""How a fate is taken, and its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number of the top of the page."""

    label: str
    value: str
    note: str = ""
    tone: Tone = Tone.CALM


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One change on the timeline: where it begins and how wide it is, in per cent of the run."""

    label: str
    word: str
    tone: Tone
    left: float
    width: float
    took: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on the axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """One wave: its numbers, its bars, and how many more there are."""

    name: str
    began: str
    took: str
    changes: int
    hosts: int
    counts: tuple[tuple[Tone, str], ...]
    bars: tuple[Bar, ...]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One resource or task."""

    sign: str
    action: str
    target: str
    what: str
    where: str
    unsure: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeView:
    """One change with its differences."""

    anchor: str
    key: str
    action: str
    word: str
    tone: Tone
    summary: str
    facts: tuple[str, ...]
    notes: tuple[tuple[str, tuple[str, ...]], ...]
    planned: tuple[StepView, ...]
    applied: tuple[StepView, ...]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A finding, a drifted thing, a check: how it is to be taken, about what, in words."""

    tone: Tone
    word: str
    subject: str
    summary: str
    detail: str = ""
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who approved, with which key, until when it holds, and what it counted for."""

    who: str
    key: str
    until: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The checks of one host."""

    host: str
    passed: int
    failed: int
    skipped: int
    seconds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordView:
    """One record of the evidence."""

    sequence: int
    at: str
    kind: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole page."""

    title: str
    verdict: str
    tone: Tone
    lead: str
    facts: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    break_glass: tuple[str, str] | None
    stopped: str
    ticks: tuple[Tick, ...]
    waves: tuple[Wave, ...]
    changes: tuple[ChangeView, ...]
    findings: tuple[Said, ...]
    drift: tuple[Said, ...]
    signers: tuple[Signer, ...]
    failed_checks: tuple[Said, ...]
    suites: tuple[Suite, ...]
    left: tuple[Said, ...]
    next_steps: tuple[tuple[str, str], ...]
    proof: tuple[Said, ...]
    records: tuple[RecordView, ...]
    made: str
