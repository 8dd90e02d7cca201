"""Whether a drill was slower than those before it of the same plan, mode and fault, by more than chance. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from ismgr_automation.core.json import JsonObject
from ismgr_automation.recovery.result import DrillResult, Verdict

PAST = 10
"""So many drills that passed are compared with, the newest."""
LEAST = 3
"""With fewer nothing is said."""
WORSE = 0.25
"""By more than this share of the median an outage is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Several figures of one kind."""

    low: float
    median: float
    high: float
    count: int

    @property
    def width(self) -> float:
        """From the lowest to the highest."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One drill on the line. ``load`` is the one-minute load average of the machine that measured, when it began."""

    run: str
    began_at: datetime
    verdict: Verdict
    rto_ms: float | None
    resolution_ms: float
    lost: int | None
    load: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A drill among those before it. ``points`` has all of the same fault and the drill itself, oldest first; ranges
    are of those that it was compared with, None where there are none."""

    points: tuple[Point, ...]
    compared: tuple[str, ...]
    """The runs that it was compared with, newest first."""
    rto_ms: Range | None
    lost: Range | None
    load: Range | None
    noise_ms: float
    """What chance explains: the range of those before, and both resolutions."""
    worse: bool
    words: tuple[str, ...]
    """What came of it, and what was not compared and why, a sentence each."""


def trend(result: DrillResult, others: Sequence[DrillResult]) -> Trend:
    """A drill among the others. Of these, earlier ones of the same plan, mode and fault count that passed and were
    measured at a load that is alike; the drill is worse when clients waited longer than their median by more than a
    quarter *and* by more than noise explains."""
    before = sorted(
        (one for one in others if _before(one, result)), key=lambda one: (one.began_at, one.run), reverse=True
    )
    earlier = [one for one in before if _fault(one) == _fault(result)]
    passed = [one for one in earlier if _counts(one)]
    even = [one for one in passed if alike(_load(one), _load(result))]
    taken = even[:PAST]
    words = [*_otherwise(sum(map(_counts, before)) - len(passed), result), *_unlike(len(passed) - len(even), result)]
    rto = spread([one.outages[0].outage_ms for one in taken])
    noise = _noise(result, taken, rto)
    worse = False
    if not result.outages:
        words.insert(0, "no outage was measured: there is nothing to compare")
    elif rto is None or len(taken) < LEAST:
        words.insert(0, f"{_drills(len(taken))} before it can be compared with, and {LEAST} are needed")
    else:
        took = result.outages[0].outage_ms
        worse = took > rto.median * (1 + WORSE) and took - rto.median > noise
        words.insert(0, _verdict(took, rto, noise, worse=worse))
    return Trend(
        points=tuple(map(_point, [*reversed(earlier), result])),
        compared=tuple(one.run for one in taken),
        rto_ms=rto,
        lost=spread([float(one.writes.lost) for one in taken if one.writes is not None]),
        load=spread([load for one in taken if (load := _load(one)) is not None]),
        noise_ms=noise,
        worse=worse,
        words=tuple(words),
    )


def alike(load: float | None, other: float | None) -> bool:
    """Whether figures that were measured at these loads may stand side by side: the higher is at most twice the lower
    and one more. A load that was not read is like none.

    >>> alike(0.2, 1.3), alike(2.0, 5.0), alike(2.0, 5.1), alike(None, 0.0)
    (True, True, False, False)
    """
    if load is None or other is None:
        return False
    return max(load, other) <= 2 * min(load, other) + 1


def spread(figures: Sequence[float]) -> Range | None:
    """Lowest, median and highest; None of nothing."""
    if not figures:
        return None
    return Range(low=min(figures), median=median(figures), high=max(figures), count=len(figures))


def trend_json(found: Trend) -> JsonObject:
    """A trend for pipelines."""

    def told(one: Range | None) -> JsonObject | None:
        if one is None:
            return None
        return {"low": one.low, "median": one.median, "high": one.high, "count": one.count}

    return {
        "worse": found.worse,
        "words": list(found.words),
        "compared": list(found.compared),
        "rto_ms": told(found.rto_ms),
        "lost": told(found.lost),
        "load": told(found.load),
        "noise_ms": found.noise_ms,
    }


def _before(one: DrillResult, result: DrillResult) -> bool:
    same = (one.plan, one.mode) == (result.plan, result.mode)
    return same and one.run != result.run and one.began_at <= result.began_at


def _counts(one: DrillResult) -> bool:
    return one.verdict is Verdict.PASSED and bool(one.outages)


def _fault(one: DrillResult) -> tuple[str, str] | None:
    """What was broken, by name and kind: clients also wait for whoever must notice it."""
    return (one.fault.name, one.fault.kind) if one.fault is not None else None


def _load(one: DrillResult) -> float | None:
    return one.load_average[0] if one.load_average is not None else None


def _noise(result: DrillResult, taken: Sequence[DrillResult], rto: Range | None) -> float:
    if rto is None or not result.outages:
        return 0.0
    return rto.width + result.outages[0].resolution_ms + max(one.outages[0].resolution_ms for one in taken)


def _verdict(took: float, rto: Range, noise: float, *, worse: bool) -> str:
    beside = (
        f"the median of {rto.count} drills before it, {rto.median:.0f} ms (from {rto.low:.0f} to {rto.high:.0f} ms)"
    )
    figure = f"clients waited {took:.0f} ms, {_percent(took, rto.median)} {beside}"
    if worse:
        return f"worse: {figure}, and chance explains {noise:.0f} ms"
    if took > rto.median * (1 + WORSE):
        return f"no worse than chance explains: {figure}; noise is {noise:.0f} ms"
    return f"no worse: {figure}"


def _percent(took: float, middle: float) -> str:
    """How one figure stands to another, in words that go before it."""
    if not middle:
        return "beside"
    share = round(100 * (took - middle) / middle)
    return f"{abs(share)} % {'more' if share >= 0 else 'less'} than"


def _otherwise(count: int, result: DrillResult) -> Iterator[str]:
    if count:
        here = f"the fault was {result.fault.name} now" if result.fault is not None else "there was none now"
        yield f"{_left_out(count)}, the fault was another: {here}"


def _unlike(count: int, result: DrillResult) -> Iterator[str]:
    if count:
        load = _load(result)
        here = f"the load was {load:.1f} now" if load is not None else "the load was not read now"
        yield f"{_left_out(count)}, the load was too different or not read: {here}"


def _left_out(count: int) -> str:
    return f"{_drills(count)} before it {'are' if count != 1 else 'is'} not compared"


def _drills(count: int) -> str:
    return f"{count} drill{'s' if count != 1 else ''}"


def _point(one: DrillResult) -> Point:
    first = one.outages[0] if one.outages else None
    return Point(
        run=one.run,
        began_at=one.began_at,
        verdict=one.verdict,
        rto_ms=first.outage_ms if first is not None else None,
        resolution_ms=first.resolution_ms if first is not None else 0.0,
        lost=one.writes.lost if one.writes is not None else None,
        load=_load(one),
    )
