"""When things happened, as places on a line from the beginning of a run to its end. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import groupby

from ismgr_automation.converge.report import Fate
from ismgr_automation.ports.runs import RunState
from ismgr_automation.reports.story import Story, Told
from ismgr_automation.reports.views import FATES, Bar, Tick, Wave

MOST_BARS = 60
"""Bars of one wave that are drawn; those that did not land always are."""
THINNEST = 0.4
"""Per cent of the width that a bar has at least, so that it can be seen."""
MINUTE = 60
MOST_TICKS = 5
LAST_TICK = 92.0
"""Per cent of the width where a label still fits."""
STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def clock(at: datetime) -> str:
    """The time of day in UTC."""
    return f"{at.astimezone(UTC):%H:%M:%S}"


def span(took: timedelta) -> str:
    """A length of time for people.

    >>> span(timedelta(seconds=3.21)), span(timedelta(seconds=192)), span(timedelta(hours=2, minutes=5))
    ('3.2 s', '3 min 12 s', '2 h 5 min')
    """
    seconds = took.total_seconds()
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), MINUTE)
    if minutes < MINUTE:
        return f"{minutes} min {left} s"
    return f"{minutes // MINUTE} h {minutes % MINUTE} min"


def _place(story: Story, at: datetime) -> float:
    whole = max((story.until - story.run.started_at).total_seconds(), 0.001)
    share = (at - story.run.started_at).total_seconds() / whole
    return round(min(max(share, 0.0), 1.0) * 100, 3)


def ticks(story: Story) -> tuple[Tick, ...]:
    """Marks on the axis, a few at round numbers."""
    whole = (story.until - story.run.started_at).total_seconds()
    if whole <= 0:
        return ()
    step = next((one for one in STEPS if whole / one <= MOST_TICKS), whole / MOST_TICKS)
    places = [index * step for index in range(int(whole // step) + 1)]
    found = [Tick(at=round(one / whole * 100, 3), label=_moment(one)) for one in places]
    return tuple(one for one in found if one.at <= LAST_TICK)


def _moment(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:g} s"
    minutes, left = divmod(int(seconds), MINUTE)
    return f"{minutes // MINUTE}:{minutes % MINUTE:02}:{left:02}" if minutes >= MINUTE else f"{minutes}:{left:02}"


def wave_groups(story: Story) -> list[tuple[tuple[int, int], list[Told]]]:
    """The changes by round and wave, in order."""
    return [(key, list(group)) for key, group in groupby(story.changes, key=lambda one: (one.round, one.wave))]


def waves(story: Story) -> tuple[Wave, ...]:
    """Each wave with its numbers and bars."""
    rounds = {one.round for one in story.changes}
    return tuple(_wave(story, place, changes, many=len(rounds) > 1) for place, changes in wave_groups(story))


def _wave(story: Story, place: tuple[int, int], changes: list[Told], *, many: bool) -> Wave:
    round_, wave = place
    fates = Counter(one.outcome.fate for one in changes)
    began = min((one.began for one in changes if one.began), default=None)
    ended = max((one.ended or story.until for one in changes if one.began), default=None)
    bad = [one for one in changes if one.outcome.fate is not Fate.LANDED]
    good = [one for one in changes if one.outcome.fate is Fate.LANDED]
    shown = {id(one) for one in [*bad, *good][:MOST_BARS]}
    return Wave(
        name=f"Round {round_}, wave {wave}" if many else f"Wave {wave}",
        began=clock(began) if began else "-",
        took=span(ended - began) if began and ended else "-",
        changes=len(changes),
        hosts=len({host for one in changes for host in one.targets}),
        counts=tuple((FATES[fate][0], f"{fates[fate]} {FATES[fate][1]}") for fate in Fate if fates[fate]),
        bars=tuple(_bar(story, one) for one in changes if id(one) in shown),
        more=len(changes) - len(shown),
    )


def _bar(story: Story, one: Told) -> Bar:
    tone, word = FATES[one.outcome.fate]
    left = _place(story, one.began) if one.began else 0.0
    right = _place(story, one.ended or story.until) if one.began else 0.0
    left = min(left, 100 - THINNEST)
    return Bar(
        label=one.key,
        word="running" if one.running and story.run.state is RunState.RUNNING else word,
        tone=tone,
        left=left,
        width=max(right - left, THINNEST) if one.began else 0.0,
        took=span((one.ended or story.until) - one.began) if one.began else "",
        anchor=anchor(one),
    )


def anchor(one: Told) -> str:
    """The id of a change on the page."""
    return f"r{one.round}-" + "".join(letter if letter.isalnum() else f"_{ord(letter):x}" for letter in one.key)
