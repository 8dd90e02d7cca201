"""All documents of a tree as they were read, sound or not: what the consistency checks look at. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ismgr_automation.core.diagnostic import Diagnostic, Position, did_you_mean
from ismgr_automation.estate.documents import (
    AnyDocument,
    EstateDocument,
    HostGroup,
    Service,
    Site,
    Stack,
    Team,
)
from ismgr_automation.estate.maintenance import Exemption, Freeze, MaintenanceWindow, PatchBaseline
from ismgr_automation.estate.marks import Marked
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.schedule import DrillSchedule

Model = TypeVar(
    "Model",
    EstateDocument,
    Team,
    Site,
    Stack,
    HostGroup,
    Service,
    PatchBaseline,
    MaintenanceWindow,
    Freeze,
    Exemption,
    RecoveryPlan,
    DrillSchedule,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One document with its place; ``model`` is None when its shape is wrong (which has been said already)."""

    kind: str
    name: str
    model: AnyDocument | None
    marked: Marked

    @property
    def label(self) -> str:
        """How sentences call it: ``Stack 'names'``."""
        return f"{self.kind} {self.name!r}" if self.name else self.kind


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Every document of a tree. ``claimed`` has the (kind, name) pairs that unreadable files seem to hold: they count
    as known names. ``files`` are all paths of the tree, ``folders`` every folder that holds one of them;
    ``shipped`` are those of the content that ships."""

    entries: tuple[Entry, ...]
    claimed: frozenset[tuple[str, str]] = frozenset()
    files: frozenset[str] = frozenset()
    folders: frozenset[str] = field(default_factory=frozenset)
    shipped: frozenset[str] = frozenset()

    def each(self, model: type[Model]) -> Iterator[tuple[Entry, Model]]:
        """Sound documents of one kind, in the order of reading."""
        for entry in self.entries:
            if isinstance(entry.model, model):
                yield entry, entry.model

    @cached_property
    def _names(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            found.setdefault(entry.kind, set()).add(entry.name)
        for kind, name in self.claimed:
            found.setdefault(kind, set()).add(name)
        return {kind: frozenset(names) for kind, names in found.items()}

    def names(self, kind: str) -> frozenset[str]:
        """Names of all documents of a kind, those with mistakes inside included."""
        return self._names.get(kind, frozenset())

    def sound(self, model: type[Model], name: str) -> Model | None:
        """The document of that name, if its shape is right."""
        return self._sound.get((model.__name__, name))  # type: ignore[return-value]

    @cached_property
    def _sound(self) -> Mapping[tuple[str, str], AnyDocument]:
        found: dict[tuple[str, str], AnyDocument] = {}
        for entry in self.entries:
            if entry.model is not None:
                found.setdefault((type(entry.model).__name__, entry.name), entry.model)
        return found


def unknown(kind: str, name: str, known: frozenset[str], position: Position, said_by: str) -> Diagnostic:
    """The diagnostic for a name that nothing has."""
    suggestion = did_you_mean(name, sorted(known))
    listed = ", ".join(sorted(known)[:8]) + (", ..." if len(known) > 8 else "")  # noqa: PLR2004  a line's worth
    return Diagnostic(
        summary=f"{said_by} names {kind} {name!r}, which does not exist",
        position=position,
        expected="" if suggestion else (f"one of {listed}" if known else f"a document of kind {kind}"),
        suggestion=suggestion,
    )


def wrong(position: Position, summary: str, expected: str = "", suggestion: str = "") -> Diagnostic:
    """An error at a place; shorter to write in a check."""
    return Diagnostic(summary=summary, position=position, expected=expected, suggestion=suggestion)
