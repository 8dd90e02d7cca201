"""What we remember between runs: which inputs were applied last. It explains a change; it never decides one."""

from __future__ import annotations

from typing import Protocol

from ismgr_automation.core.address import Address


class Ledger(Protocol):
    """A small table by address."""

    def applied(self, address: Address) -> str | None:
        """The digest of the inputs that were applied last and landed, or None when nothing ever was."""
        ...

    def record(self, address: Address, inputs: str, commit: str) -> None:
        """Remember that these inputs, from this commit, have landed."""
        ...

    def forget(self, address: Address) -> None:
        """The thing was destroyed."""
        ...
