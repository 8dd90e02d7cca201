"""What the rules of this room are fed with, behind ports: commits, pins, signatures, approvals, documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.estate.model import Estate
from ismgr_automation.ports.approvals import ApprovalStore
from ismgr_automation.ports.history import History
from ismgr_automation.ports.signing import SignatureVerifier
from ismgr_automation.ports.trust import Pins


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguards:
    """``verifier`` makes one for a file of revoked keys; ``documents`` reads those of a commit or raises
    ``InputError``; ``folder`` is the estate's folder inside its repository, empty at the top."""

    history: History
    pins: Pins
    verifier: Callable[[Path | None], SignatureVerifier]
    stores: tuple[ApprovalStore, ...]
    documents: Callable[[str], Estate]
    folder: str = ""
