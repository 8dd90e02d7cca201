"""Where desired state comes from: a tree of files at one revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One commit, or the dirty tree if asked for (then ``commit`` is the base and ``worktree`` is true)."""

    commit: str
    ref: str
    worktree: bool = False

    def __str__(self) -> str:
        return f"{self.commit[:12]}{'+worktree' if self.worktree else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of an estate at one revision, laid out on disk below ``root`` for engines that need real files.

    ``objects`` maps each path relative to ``root`` (forward slashes) to its Git blob id.
    """

    root: Path
    revision: Revision
    objects: Mapping[str, str]


class Source(Protocol):
    """A place that keeps revisions."""

    def checkout(self, ref: str | None, into: Path) -> Tree:
        """Lay out the tree at ``ref`` below ``into`` (None: the working tree as it is). Raises ``InputError``."""
        ...
