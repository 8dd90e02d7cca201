"""Evidence: where signed records of what was done are kept. What we ask of a log that only grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ismgr_automation.ports.signing import Signature

NAMESPACE = "ismgr-evidence@v1"
"""The namespace of ``ssh-keygen -Y sign -n`` for the signature that closes a run. What is signed is the run's last
line, which holds the digest of the line before it, and so on to the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain: how many records it has (0: empty), and the digest of the last one (then empty).

    ``cut_bytes`` is how much of a half-written last line had to be cut off to get there, after a crash or a full disk.
    """

    sequence: int
    digest: str
    cut_bytes: int = field(default=0, compare=False)


EMPTY = Head(sequence=0, digest="")
"""The end of a chain that has no record yet."""


def line_digest(line: bytes) -> str:
    """``sha256:`` and the digits that ``sha256sum`` gives for a line without its newline."""
    return "sha256:" + hashlib.sha256(line).hexdigest()


class EvidenceLog(Protocol):
    """The chain of one environment. Lines are complete: canonical JSON without a newline, each holding the digest of
    the one before. Raises ``EngineError``: then the effect that it was written for must not begin."""

    def head(self) -> Head:
        """Where the chain ends now. Whoever asks writes next: the log is his until ``close``, and nobody else's; a last
        line that was only half written is cut off."""
        ...

    def append(self, run: str, lines: Sequence[bytes], signature: Signature | None = None) -> None:
        """Add lines to the segment of a run. When this returns they are on disk (fsync), all with one. On an error
        none of them counts. The recorder brings what comes at the same time in one call (group commit). ``signature``
        is the one under the last line when it closes the run; it is kept before the line is."""
        ...

    def close(self) -> None:
        """Let others write. Nothing happens when the log is not ours."""
        ...

    def segments(self) -> tuple[str, ...]:
        """Runs that have lines, in the order of the chain."""
        ...

    def read(self, run: str | None = None) -> Iterator[bytes]:
        """Lines of one run, or the whole chain. Takes nothing and cuts nothing: the last may be half a line."""
        ...

    def signatures(self) -> Mapping[str, Signature]:
        """The closing signatures by run."""
        ...


class Anchor(Protocol):
    """A place outside the log that remembers heads."""

    def put(self, environment: str, head: Head, run: str) -> str:
        """Remember a head; returns where, for people."""
        ...

    def heads(self, environment: str) -> tuple[tuple[Head, str], ...]:
        """Heads that were remembered, with their runs, oldest first."""
        ...
