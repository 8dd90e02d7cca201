"""A log of evidence and an anchor in memory. What is appended counts as durable at once; nothing is signed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.ports.evidence import EMPTY, Head, line_digest
from ismgr_automation.ports.signing import Signature


class MemoryEvidenceLog:
    """``ports.evidence.EvidenceLog``. Set ``full`` to let the next appends fail, as on a full disk.

    ``lines`` has each line with its run; ``appends`` and ``closes`` count calls.
    """

    def __init__(self, *, full: bool = False) -> None:
        self.lines: list[tuple[str, bytes]] = []
        self.signed: dict[str, Signature] = {}
        self.appends = 0
        self.closes = 0
        self.full = full

    def head(self) -> Head:
        """Of the last line."""
        if not self.lines:
            return EMPTY
        return Head(sequence=len(self.lines), digest=line_digest(self.lines[-1][1]))

    def append(self, run: str, lines: Sequence[bytes], signature: Signature | None = None) -> None:
        """Keep signature and lines."""
        if self.full:
            raise EngineFailed(
                "The evidence cannot be written: there is no room.",
                engine="evidence",
                subject=run,
                untouched="Nothing was begun.",
                next_step="Make room.",
            )
        if signature is not None:
            self.signed[run] = signature
        self.appends += 1
        self.lines += [(run, line) for line in lines]

    def close(self) -> None:
        """Note it."""
        self.closes += 1

    def segments(self) -> tuple[str, ...]:
        """Runs, by their first line."""
        return tuple(dict.fromkeys(run for run, _line in self.lines))

    def read(self, run: str | None = None) -> Iterator[bytes]:
        """The lines."""
        return iter([line for owner, line in self.lines if run in {None, owner}])

    def signatures(self) -> Mapping[str, Signature]:
        """The signatures that were given."""
        return dict(self.signed)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAnchor:
    """``ports.evidence.Anchor``; ``remembered`` has environment, head and run."""

    remembered: list[tuple[str, Head, str]] = field(default_factory=list)

    def put(self, environment: str, head: Head, run: str) -> str:
        """Remember."""
        self.remembered.append((environment, head, run))
        return f"memory #{len(self.remembered)}"

    def heads(self, environment: str) -> tuple[tuple[Head, str], ...]:
        """Those of one environment."""
        return tuple((head, run) for name, head, run in self.remembered if name == environment)
