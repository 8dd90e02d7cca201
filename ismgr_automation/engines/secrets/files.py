"""Private files as secrets: read on an open file that nobody can swap in between. Nothing is written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.secrets.kinds import LARGEST_BYTES, PrivateFiles


def open_file(ref: SecretRef, backend: PrivateFiles) -> Secret:
    """The content of a file of ours that nobody else may read; raises ``InputError``."""
    place = backend.root / ref.path
    try:
        real = place.resolve(strict=True)
        if not real.is_relative_to(backend.root.resolve()):
            raise InputError(f"Secret {ref}: {place} leads out of {backend.root}.")
        handle = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(
            f"Secret {ref}: cannot read {place}: {error.strerror or error}.",
            next_step="Put the secret there, in a file with mode 600.",
        ) from error
    except RuntimeError as error:
        raise InputError(f"Secret {ref}: {place} is a loop of links.") from error
    try:
        _require_private(ref, place, os.fstat(handle))
        content = _read(handle)
    finally:
        os.close(handle)
    if len(content) > LARGEST_BYTES:
        raise InputError(f"Secret {ref}: {place} is larger than {LARGEST_BYTES} bytes; that is no secret.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # the error's own text would quote the bytes
        raise InputError(f"Secret {ref}: {place} is not UTF-8 text.") from None
    return box(ref, text.removesuffix("\n"), str(place))


def box(ref: SecretRef, value: str, place: str) -> Secret:
    """The value in its box; raises ``InputError`` for one that is empty."""
    if not value.strip():
        raise InputError(f"Secret {ref}: {place} is empty.")
    return Secret(value)


def _read(handle: int) -> bytes:
    """At most one byte more than is allowed."""
    content = b""
    while len(content) <= LARGEST_BYTES and (part := os.read(handle, LARGEST_BYTES + 1 - len(content))):
        content += part
    return content


def _require_private(ref: SecretRef, place: Path, status: os.stat_result) -> None:
    """Checked on the open file, so that nobody can swap it in between."""
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"Secret {ref}: {place} is not a regular file.")
    if status.st_mode & 0o077:
        raise InputError(
            f"Secret {ref}: {place} has mode {stat.S_IMODE(status.st_mode):03o}, so others may read it.",
            next_step=f"Run: chmod 600 {place} (and think about whether it has leaked).",
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise InputError(f"Secret {ref}: {place} belongs to user id {status.st_uid}, neither to us nor to root.")
