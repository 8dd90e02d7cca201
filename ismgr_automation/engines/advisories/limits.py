"""How much is read, and how long is waited: what stands between us and a source that is broken or means us harm."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Debian's whole tracker is about 60 MB, the OSV archive of Debian some 70,000 small records."""

    file_bytes: int = 256 * _MEBIBYTE
    """One file, one download, one file that was compressed, after it is unpacked."""
    member_bytes: int = 16 * _MEBIBYTE
    """One record of an archive or a folder."""
    unpacked_bytes: int = 2048 * _MEBIBYTE
    """All records of an archive or a folder together."""
    members: int = 500_000
    redirects: int = 5
    connect: timedelta = timedelta(seconds=10)
    read: timedelta = timedelta(seconds=30)
    """The longest silence in the middle of an answer."""
    deadline: timedelta = timedelta(minutes=5)
    """One download as a whole."""
