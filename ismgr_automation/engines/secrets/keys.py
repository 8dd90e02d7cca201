"""Keys from a passphrase, one for each purpose: what is made with one tells nothing of another. Keeps nothing."""

from __future__ import annotations

import hashlib

from ismgr_automation.core.secret import Secret

# 32 MiB and some 80 ms once for a run: a plan file holds digests of secrets that somebody may know, and with those a
# passphrase could be guessed at leisure. HKDF alone would cost a guesser nothing.
_COST = 2**15
_BLOCK = 8
_MEMORY_BYTES = 64 * 1024 * 1024


def derive(passphrase: Secret, purpose: str, salt: bytes = b"") -> bytes:
    """A key of 32 bytes for one purpose, always the same for the same passphrase, purpose and salt."""
    return hashlib.scrypt(
        passphrase.reveal().encode(),
        salt=purpose.encode() + b"\0" + salt,
        n=_COST,
        r=_BLOCK,
        p=1,
        maxmem=_MEMORY_BYTES,
        dklen=32,
    )
