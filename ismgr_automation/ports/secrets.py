"""Opening secret references."""

from __future__ import annotations

from typing import Protocol

from ismgr_automation.core.secret import Secret, SecretRef


class SecretStore(Protocol):
    """All backends of an estate behind one door."""

    def open(self, ref: SecretRef) -> Secret:
        """The secret; raises ``InputError`` naming the reference, never the value, when it is not there."""
        ...

    def version(self, ref: SecretRef) -> str:
        """What changes when the secret does and tells nothing of it: the backend's own version number, or a keyed
        digest under the estate's key. Empty when neither is to be had. Raises as ``open`` does."""
        ...
