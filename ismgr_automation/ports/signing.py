"""Signatures with SSH keys, as ``ssh-keygen -Y`` makes and checks them: with a key file, an agent or a hardware key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Protocol

_ARMOR = re.compile(r"-----BEGIN SSH SIGNATURE-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END SSH SIGNATURE-----\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """An armored SSH signature over some bytes. ``key`` is the public key line (``ssh-ed25519 AAAA...``)."""

    armored: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedSigner:
    """One line of an allowed-signers file: who, with which public key, in which namespaces.

    ``valid_after`` and ``valid_before`` are times as OpenSSH writes them (``20261231Z``); empty for always.
    """

    principal: str
    key: str
    namespaces: tuple[str, ...]
    valid_after: str = ""
    valid_before: str = ""


def bare_key(line: str) -> str:
    """A public key line without its comment: what two lines of one key have in common.

    >>> bare_key("ssh-ed25519 AAAA  ada@laptop")
    'ssh-ed25519 AAAA'
    """
    return " ".join(line.split()[:2])


def fingerprint(line: str) -> str:
    """``SHA256:`` and the digest of a public key, as ``ssh-keygen -l`` prints it; empty for what is no key.

    >>> fingerprint("ssh-ed25519 AAAA")
    'SHA256:cJ6AyISHokEeHuTfufIqhhSS0gxHZRUMDHlKvXD4FHw'
    """
    try:
        blob = base64.b64decode(line.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return ""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def embedded_key(armored: str) -> str:
    """The public key line inside an armored SSH signature; empty when it is no such thing."""
    match = _ARMOR.fullmatch(armored.strip() + "\n")
    if match is None:
        return ""
    try:
        blob = base64.b64decode("".join(match[1].split()), validate=True)
        if blob[:10] != b"SSHSIG\0\0\0\1":
            return ""
        public = _field(blob, 10)
        return f"{_field(public, 0).decode('ascii')} {base64.b64encode(public).decode()}"
    except (binascii.Error, struct.error, UnicodeDecodeError, IndexError):
        return ""


def _field(blob: bytes, start: int) -> bytes:
    """A string of the SSH wire format: its length in four bytes, then its bytes."""
    (size,) = struct.unpack_from(">I", blob, start)
    found = blob[start + 4 : start + 4 + size]
    if len(found) != size:
        raise IndexError
    return found


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
