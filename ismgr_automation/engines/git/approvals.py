"""Approvals on ``refs/ismgr/approvals``: two files for each, ``DIGEST/NONCE.json`` with the exact bytes that were
signed and ``DIGEST/NONCE.sig`` with the signature. Nothing is judged here."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ismgr_automation.engines.git.refs import RefFolder
from ismgr_automation.engines.git.repository import DEADLINE, Repository
from ismgr_automation.engines.signing.files import approvals
from ismgr_automation.ports.approvals import DIGEST, Approval

REF = "refs/ismgr/approvals"


class GitApprovals:
    """``ports.approvals.ApprovalStore`` in the repository around the estate's folder."""

    def __init__(self, directory: Path, deadline: timedelta = DEADLINE) -> None:
        self._directory = directory
        self._deadline = deadline

    def add(self, approval: Approval) -> str:
        """Commit both files; raises ``InputError`` outside of a repository, ``EngineError`` when git fails."""
        permission = approval.permission
        path = f"{_folder(permission.digest)}/{permission.nonce}"
        files = {f"{path}.json": permission.to_bytes(), f"{path}.sig": approval.signature.armored.encode()}
        self._ref().add(files, f"Approve {permission.digest} for {permission.estate}/{permission.environment}")
        return f"{REF}:{path}.json"

    def find(self, digest: str) -> tuple[Approval, ...]:
        """Every approval for a digest."""
        if not DIGEST.fullmatch(digest):
            return ()
        folder = _folder(digest)
        found = approvals(self._ref().files(folder), f"{REF}:{folder}")
        return tuple(one for one in found if one.permission.digest == digest)

    def _ref(self) -> RefFolder:
        return RefFolder(Repository.around(self._directory, self._deadline), REF)


def _folder(digest: str) -> str:
    """A folder's name without a colon, which git takes for the end of a commit."""
    return digest.replace(":", "-")
