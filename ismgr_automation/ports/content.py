"""The files that documents name: programs, playbooks, suites - in the estate's tree, or shipped with ismgr."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Content(Protocol):
    """Finds what a document names; a path that begins with ``ismgr:`` is shipped content."""

    def path(self, name: str) -> Path:
        """Where the file or folder lies on this machine."""
        ...

    def digest(self, name: str) -> str:
        """A digest of everything below it (of the folder around it, for a file): equal digests mean equal bytes."""
        ...
