"""Approvals as files beside a plan: ``plan.json.approvals/NONCE.json`` with the exact bytes that were signed, and
``NONCE.sig`` with the signature. Nothing is judged here."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.approvals import Approval, Permission
from ismgr_automation.ports.signing import Signature, embedded_key

_MOST_BYTES = 64 * 1024


class FileApprovals:
    """``ports.approvals.ApprovalStore`` beside a plan file."""

    def __init__(self, plan: Path) -> None:
        self._folder = plan.with_name(plan.name + ".approvals")

    def add(self, approval: Approval) -> str:
        """Write both files; raises ``InputError`` when the folder cannot be written."""
        nonce = approval.permission.nonce
        try:
            self._folder.mkdir(exist_ok=True)
            # the signature first: a permission that is seen always has one
            _write(self._folder / f"{nonce}.sig", approval.signature.armored.encode())
            _write(self._folder / f"{nonce}.json", approval.permission.to_bytes())
        except OSError as problem:
            raise InputError(
                f"{self._folder} cannot be written: {problem.strerror}.",
                next_step="Mend its permissions, or keep the approval in Git with --to git.",
            ) from None
        return str(self._folder / f"{nonce}.json")

    def find(self, digest: str) -> tuple[Approval, ...]:
        """Every approval in the folder that is for this digest."""
        if not self._folder.is_dir():
            return ()
        found = {one.name: _read(one) for one in sorted(self._folder.iterdir()) if one.suffix in {".json", ".sig"}}
        return tuple(one for one in approvals(found, str(self._folder)) if one.permission.digest == digest)


def approvals(files: Mapping[str, bytes], where: str) -> Iterator[Approval]:
    """Pairs of files as approvals; a malformed one is left out with a warning that names it."""
    for name in sorted(files):
        stem, dot, kind = name.rpartition(".")
        if (dot, kind) != (".", "json"):
            continue
        origin = f"{where}/{name}"
        try:
            permission = Permission.from_bytes(files[name])
        except (ValueError, RecursionError) as problem:
            warnings.warn(f"{origin} is no approval and does not count: {problem}", RuntimeWarning, stacklevel=2)
            continue
        armored = files.get(f"{stem}.sig", b"").decode("ascii", "replace")
        key = embedded_key(armored)
        if permission.nonce != stem or not key:
            what = "its name is not its nonce" if key else f"there is no signature in {stem}.sig"
            warnings.warn(f"{origin} does not count: {what}", RuntimeWarning, stacklevel=2)
            continue
        yield Approval(permission=permission, signature=Signature(armored=armored, key=key), origin=origin)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""  # told as malformed


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
