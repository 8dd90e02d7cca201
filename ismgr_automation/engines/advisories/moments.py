"""Times as sources write them, in UTC. Knows no clock."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def moment(text: str) -> datetime:
    """A time in ISO 8601; one without a zone is in UTC. Raises ``ValueError``.

    >>> moment("2026-11-26T13:00:00+01:00").isoformat()
    '2026-11-26T12:00:00+00:00'
    """
    return _in_utc(datetime.fromisoformat(text))


def http_date(text: str) -> datetime | None:
    """The time of an HTTP header; None where it says none."""
    with suppress(TypeError, ValueError):
        return _in_utc(parsedate_to_datetime(text))
    return None


def file_time(seconds: float) -> datetime | None:
    """The time of a file; None where its clock was far off."""
    with suppress(OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(seconds, UTC)
    return None


def _in_utc(when: datetime) -> datetime:
    try:
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:
        raise ValueError("this is no time of our calendar") from None
