"""The root of trust of an estate, kept outside of its repository: what nobody can change by a commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ismgr_automation.ports.signing import AllowedSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What somebody looked at and decided to trust. ``folder`` is the estate's folder inside its repository (empty at
    the top), so that an estate under another name is noticed. ``place`` is where the pin is kept."""

    estate: str
    folder: str
    commit: str
    signers: tuple[AllowedSigner, ...]
    place: str = ""
    keyring: Path | None = None
    revoked: Path | None = None


class Pins(Protocol):
    """Pins of this user on this machine. Raises ``InputError`` for one that cannot be read or that others may write."""

    def all(self) -> tuple[Pin, ...]:
        """Every pin, by the names of estates."""
        ...

    def write(self, pin: Pin, keys: tuple[bytes, ...] = ()) -> Pin:
        """Keep a pin instead of the one that this estate had; ``keys`` are OpenPGP public keys for its keyring."""
        ...
