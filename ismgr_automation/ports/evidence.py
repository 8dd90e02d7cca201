"""Evidence: where signed records of what was done are kept. What we ask of a log that only grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain: how many records it has (0: empty), and the digest of the last one."""

    sequence: int
    digest: str


class EvidenceLog(Protocol):
    """The chain of one environment. Lines are complete: canonical JSON without a newline, each holding the digest of the
    one before. Raises ``EngineError``: then the effect that it was written for must not begin."""

    def head(self) -> Head:
        """Where the chain ends now."""
        ...

    def append(self, run: str, lines: Sequence[bytes]) -> None:
        """Add lines to the segment of a run. When this returns they are on disk (fsync); calls that come at the same
        time share one (group commit)."""
        ...

    def segments(self) -> tuple[str, ...]:
        """Runs that have lines, in the order of the chain."""
        ...

    def read(self, run: str | None = None) -> Iterator[bytes]:
        """Lines of one run, or the whole chain."""
        ...


class Anchor(Protocol):
    """A place outside the log that remembers heads."""

    def put(self, environment: str, head: Head, run: str) -> str:
        """Remember a head; returns where, for people."""
        ...

    def heads(self, environment: str) -> tuple[tuple[Head, str], ...]:
        """Heads that were remembered, with their runs, oldest first."""
        ...
