"""What commits say about who made them: the signatures of a range of commits. What we ask of a repository of code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ismgr_automation.ports.signing import AllowedSigner

COMMIT_NAMESPACE = "git"
"""The namespace in which Git signs with SSH keys."""


class Flaw(StrEnum):
    """Why a commit's signature does not count, in words."""

    UNSIGNED = "it is not signed"
    UNKNOWN_KEY = "it is signed by an unknown key"
    BAD = "its signature is not over this commit"
    EXPIRED = "its key has expired"
    REVOKED = "its key was revoked"
    UNSUPPORTED = "its signature is of a kind that is not read here"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSignature:
    """One commit and what its signature is worth. ``key`` is the fingerprint of the key that made it (``SHA256:...`` or
    ``openpgp:...``), empty when that cannot be told; ``emails`` are those that an OpenPGP key carries."""

    commit: str
    title: str
    flaw: Flaw | None = None
    key: str = ""
    emails: tuple[str, ...] = ()
    merge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Whose signatures count: SSH keys, a folder of OpenPGP public keys, and a file of revoked SSH keys (or a KRL)."""

    keys: tuple[AllowedSigner, ...]
    keyring: Path | None = None
    revoked: Path | None = None


class History(Protocol):
    """A repository's commits. Raises ``InputError`` for a commit that is not there, ``EngineError`` when it cannot be
    read."""

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether a commit is another or comes after it; false when either is not in this repository."""
        ...

    def signatures(self, base: str, proposed: str, signers: Signers) -> tuple[CommitSignature, ...]:
        """Every commit that ``proposed`` has and ``base`` has not, merges and what they brought in included."""
        ...
