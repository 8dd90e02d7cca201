"""Signatures with SSH keys, as ``ssh-keygen -Y`` makes and checks them: with a key file, an agent or a hardware key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """An armored SSH signature over some bytes. ``key`` is the public key line (``ssh-ed25519 AAAA...``)."""

    armored: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedSigner:
    """One line of an allowed-signers file: who, with which public key, in which namespaces."""

    principal: str
    key: str
    namespaces: tuple[str, ...]


class Signer(Protocol):
    """Signs with one key. Raises ``EngineError``, ``InputError`` when the key is not there."""

    def sign(self, data: bytes, namespace: str) -> Signature:
        """Sign in a namespace of ours, so that a signature means one thing only."""
        ...


class SignatureVerifier(Protocol):
    """Checks signatures."""

    def verify(
        self, data: bytes, signature: Signature, namespace: str, signers: tuple[AllowedSigner, ...]
    ) -> str | None:
        """The principal whose signature it is, or None when it is nobody's of ``signers``, or not over this data."""
        ...
