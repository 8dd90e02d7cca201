"""Spans of time as the whole numbers that clocks and databases count in."""

from __future__ import annotations

from datetime import timedelta

_MICROSECOND = timedelta(microseconds=1)


def microseconds(span: timedelta) -> int:
    """A span as whole microseconds.

    >>> microseconds(timedelta(milliseconds=1.5))
    1500
    """
    return span // _MICROSECOND


def nanoseconds(span: timedelta) -> int:
    """A span as whole nanoseconds, exact: a float of seconds would lose the last digits of a long one.

    >>> nanoseconds(timedelta(days=300, microseconds=1))
    25920000000001000
    """
    return microseconds(span) * 1000


def from_nanoseconds(count: float) -> timedelta:
    """So many nanoseconds as a span, to the nearest microsecond.

    >>> from_nanoseconds(1_500_600)
    datetime.timedelta(microseconds=1501)
    """
    return timedelta(microseconds=count / 1000)
