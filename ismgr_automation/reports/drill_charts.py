"""What a drill measured, drawn: the client's outage write by write, where its time went, how far behind the standby
was, and how it stands to the drills before. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.result import DrillResult, Outage, Verdict
from ismgr_automation.recovery.trend import Point, Trend
from ismgr_automation.recovery.waterfall import LIMIT, UNACCOUNTED
from ismgr_automation.reports.drawing import Anchor, Box, Drawing, Ink, Rule, Scale, Shape, Words

LANES = {
    Outcome.ACKED: (Ink.GOOD, "acknowledged", 16.0),
    Outcome.FAILED: (Ink.BAD, "refused", 42.0),
    Outcome.UNKNOWN: (Ink.WARN, "unknown", 68.0),
}
LANE = 18.0
GUTTER = 13.0
"""Per cent of the width for the names of lanes."""
COLUMN = 0.25
"""Writes of one outcome that begin within so much of the width are drawn as one."""
ROW = 24.0
MOST_POINTS = 24
"""Drills that are drawn, the newest."""
VERDICTS = {
    Verdict.PASSED: Ink.GOOD,
    Verdict.FAILED: Ink.BAD,
    Verdict.INVALID: Ink.WARN,
    Verdict.ABORTED: Ink.WARN,
    Verdict.SKIPPED: Ink.CALM,
}


def client(result: DrillResult, outage: Outage, attempts: Sequence[Attempt]) -> Drawing | None:
    """The writes of the client around one move, with the time that nobody was served. None where its log is not here,
    or nobody knows when the move was."""
    span = _span(result, outage)
    if span is None or result.start_ns is None or not attempts:
        return None
    began, ended = span
    pad = max(0.6 * (ended - began), 60.0)
    scale = Scale(low=began - pad, high=ended + pad, left=GUTTER)
    seen = [(one, (one.sent_ns - result.start_ns) / 1e6, (one.ended_ns - result.start_ns) / 1e6) for one in attempts]
    inside = [one for one in seen if one[2] >= scale.low and one[1] <= scale.high]
    if not inside:
        return None
    counts = Counter(one.outcome for one, _, _ in inside)
    told = ", ".join(f"{counts[outcome]} {name}" for outcome, (_, name, _) in LANES.items())
    shapes: list[Shape] = [
        Box(left=GUTTER, width=100 - GUTTER, top=top, height=LANE, ink=Ink.LANE) for _, _, top in LANES.values()
    ]
    shapes.append(scale.box(began, ended, top=12, height=78, ink=Ink.GAP, title=f"no service: {outage.figure}"))
    shapes += [Words(left=0, top=top + 13, text=name) for _, name, top in LANES.values()]
    shapes += _writes(inside, scale)
    shapes.append(
        Words(left=scale.at((began + ended) / 2), top=9, text=f"no service: {outage.figure}", anchor=Anchor.MIDDLE)
    )
    shapes += _axis(scale, 12, 90, "ms")
    return Drawing(
        name=f"{outage.leg}: what the client saw",
        words=f"Writes around {outage.leg}: {told}; no service for {outage.figure}.",
        height=110,
        shapes=tuple(shapes),
        note=f"{told} in view; 0 ms is when the first step began.",
    )


def fall(outage: Outage) -> Drawing | None:
    """Where the time of an outage went, with its sum beside what the client saw. None for one that was not cut."""
    if not outage.waterfall:
        return None
    first, last = outage.waterfall[0].began_ms, outage.waterfall[-1].ended_ms
    scale = Scale(low=first, high=last, left=24, right=86)
    shapes: list[Shape] = []
    for number, one in enumerate(outage.waterfall):
        top = 4 + ROW * number
        ink = Ink.WARN if one.name == UNACCOUNTED else Ink.CALM
        title = f"{one.name}: {one.took_ms:.1f} ms"
        shapes.append(Words(left=0, top=top + 12, text=one.name))
        shapes.append(scale.box(one.began_ms, one.ended_ms, top=top, height=16, ink=ink, title=title))
        shapes.append(Words(left=100, top=top + 12, text=f"{one.took_ms:.1f} ms", anchor=Anchor.END))
    return Drawing(
        name=f"{outage.leg}: where the time went",
        words="; ".join(f"{one.name} {one.took_ms:.1f} ms" for one in outage.waterfall),
        height=8 + ROW * len(outage.waterfall),
        shapes=tuple(shapes),
        note=sum_of(outage),
    )


def sum_of(outage: Outage) -> str:
    """How the pieces add up to what the client saw."""
    whole = sum(one.took_ms for one in outage.waterfall)
    share = outage.unaccounted_ms / outage.outage_ms if outage.outage_ms else 0.0
    mark = "within" if outage.explained else "MORE than"
    return (
        f"The pieces add up to {whole:.1f} ms of the {outage.outage_ms:.1f} ms that the client waited; no step "
        f"explains {outage.unaccounted_ms:.1f} ms of it ({share * 100:.1f} %), {mark} the {LIMIT * 100:.0f} % that "
        "are allowed."
    )


def lag(result: DrillResult) -> Drawing | None:
    """How far behind each standby was before each move. None where nobody looked."""
    rows = [
        (one.at, each)
        for one in result.readings
        for each in one.standings
        if each.streaming and each.part is Part.STANDBY
    ]
    if not rows:
        return None
    scale = Scale(low=0, high=max(1, *(each.lag_bytes for _, each in rows)), left=30, right=74)
    shapes: list[Shape] = []
    for number, (at, each) in enumerate(rows):
        top = 4 + ROW * number
        age = f", {each.lag_seconds * 1000:.0f} ms" if each.lag_seconds is not None else ", age not known"
        shapes.append(Words(left=0, top=top + 12, text=f"{each.host} before {at}"))
        shapes.append(Box(left=30, width=44, top=top, height=16, ink=Ink.LANE))
        shapes.append(scale.box(0, each.lag_bytes, top=top, height=16, ink=Ink.CALM, title=f"{each.lag_bytes:,} bytes"))
        shapes.append(Words(left=100, top=top + 12, text=f"{each.lag_bytes:,} bytes{age}", anchor=Anchor.END))
    lost = result.writes.lost if result.writes is not None else None
    counted = f"{lost} acknowledged writes were lost, counted." if lost is not None else "Lost writes were not counted."
    return Drawing(
        name="How far behind the standby was",
        words="; ".join(f"{each.host} before {at}: {each.lag_bytes} bytes" for at, each in rows),
        height=8 + ROW * len(rows),
        shapes=tuple(shapes),
        note=f"{counted} A lag is read a moment before, and says neither that writes were lost nor that none were.",
    )


def line(found: Trend) -> Drawing | None:
    """The outages of all drills of one plan, mode and fault, oldest first, each with how far it may be off and the load
    at which it was measured. None where there is one alone."""
    points = [one for one in found.points if one.rto_ms is not None][-MOST_POINTS:]
    if len(points) < 2:  # noqa: PLR2004  one point is no line
        return None
    highest = max((one.rto_ms or 0) + one.resolution_ms for one in points)
    up = Scale(low=0, high=highest * 1.1, left=150, right=10)
    shapes: list[Shape] = []
    if found.rto_ms is not None:
        top, bottom = up.at(found.rto_ms.high), up.at(found.rto_ms.low)
        shapes.append(
            Box(left=GUTTER, width=100 - GUTTER, top=top, height=max(1.0, bottom - top), ink=Ink.LANE, title="range")
        )
        middle = up.at(found.rto_ms.median)
        shapes.append(Rule(left=GUTTER, top=middle, right=100, bottom=middle))
        shapes.append(Words(left=100, top=middle - 3, text=f"median {found.rto_ms.median:.0f} ms", anchor=Anchor.END))
    shapes += [Words(left=0, top=up.at(figure) + 4, text=f"{figure:g} ms") for figure in up.ticks(4)]
    shapes.append(Rule(left=GUTTER, top=150, right=100, bottom=150))
    shapes.append(Words(left=0, top=168, text="load"))
    shapes.append(Words(left=0, top=184, text="lost"))
    shapes += _points(points, up)
    return Drawing(
        name="Outage of each drill, oldest first",
        words="; ".join(f"{one.run}: {one.rto_ms:.0f} ms, {one.verdict}" for one in points),
        height=194,
        shapes=tuple(shapes),
        note=_range(found),
    )


def _range(found: Trend) -> str:
    words = []
    for name, one, unit in (("outage", found.rto_ms, " ms"), ("lost writes", found.lost, ""), ("load", found.load, "")):
        if one is not None:
            form = "{:.1f}" if name == "load" else "{:.0f}"
            low, middle, high = (form.format(each) for each in (one.low, one.median, one.high))
            words.append(f"{name} {low} / {middle} / {high}{unit}")
    compared = f"Lowest / median / highest of the {len(found.compared)} drills compared with: {', '.join(words)}."
    return compared if words else "No drill before it is compared with."


def _points(points: Sequence[Point], up: Scale) -> Iterator[Shape]:
    for number, one in enumerate(points):
        if one.rto_ms is None:
            continue
        place = round(GUTTER + 3 + (94 - GUTTER) * number / max(1, len(points) - 1), 3)
        low, high = up.at(one.rto_ms - one.resolution_ms), up.at(one.rto_ms + one.resolution_ms)
        yield Rule(left=place, top=high, right=place, bottom=low)
        title = f"{one.run}: {one.verdict}, {one.rto_ms:.0f} ± {max(1.0, one.resolution_ms):.0f} ms"
        yield Box(
            left=place - 0.6, width=1.2, top=up.at(one.rto_ms) - 4, height=8, ink=VERDICTS[one.verdict], title=title
        )
        load = f"{one.load:.1f}" if one.load is not None else "-"
        yield Words(left=place, top=168, text=load, anchor=Anchor.MIDDLE)
        yield Words(left=place, top=184, text=str(one.lost) if one.lost is not None else "-", anchor=Anchor.MIDDLE)


def _span(result: DrillResult, outage: Outage) -> tuple[float, float] | None:
    """When a move was: its outage, or what was done where the client noticed nothing."""
    if outage.waterfall:
        return outage.waterfall[0].began_ms, outage.waterfall[-1].ended_ms
    mine = [one for one in result.tasks if one.leg == outage.leg and not one.found]
    return (min(one.began_ms for one in mine), max(one.ended_ms for one in mine)) if mine else None


def _writes(seen: Sequence[tuple[Attempt, float, float]], scale: Scale) -> Iterator[Shape]:
    drawn: set[tuple[Outcome, int]] = set()
    for one, sent, ended in seen:
        ink, name, top = LANES[one.outcome]
        box = scale.box(sent, ended, top=top + 2, height=LANE - 4, ink=ink, title=f"write {one.number}: {name}")
        column = (one.outcome, int(box.left / COLUMN))
        if column not in drawn or box.width > COLUMN:
            drawn.add(column)
            yield box


def _axis(scale: Scale, top: float, bottom: float, unit: str) -> Iterator[Shape]:
    for figure in scale.ticks():
        place = scale.at(figure)
        yield Rule(left=place, top=top, right=place, bottom=bottom + 3)
        yield Words(left=place, top=bottom + 16, text=f"{figure:g} {unit}", anchor=Anchor.MIDDLE)
