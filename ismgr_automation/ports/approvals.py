"""Approvals: signed permissions for one plan's digest, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ismgr_automation.ports.signing import Signature

NAMESPACE = "ismgr-approval@v1"
"""The namespace of ``ssh-keygen -Y sign -n``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What a signature covers: canonical JSON of exactly these fields. ``reason`` is empty but for break-glass."""

    estate: str
    environment: str
    digest: str
    not_after: datetime
    nonce: str
    break_glass: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A permission and the signature under it. ``origin`` says where it was found, for people."""

    permission: Permission
    signature: Signature
    origin: str = ""


class ApprovalStore(Protocol):
    """Where approvals are found by the digest that they are for."""

    def add(self, approval: Approval) -> str:
        """Keep it; returns where, for people."""
        ...

    def find(self, digest: str) -> tuple[Approval, ...]:
        """All approvals for one digest, malformed ones left out with a warning by the reader."""
        ...
