"""Approvals: signed permissions for one plan's digest, and where they are kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from ismgr_automation.core.json import canonical
from ismgr_automation.ports.signing import Signature

NAMESPACE = "ismgr-approval@v1"
"""The namespace of ``ssh-keygen -Y sign -n``."""
NONCE = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


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

    def to_bytes(self) -> bytes:
        """The bytes that are signed, and kept as they are: RFC 8785 JSON, the time in UTC and whole seconds."""
        return canonical(
            {
                "break_glass": self.break_glass,
                "digest": self.digest,
                "environment": self.environment,
                "estate": self.estate,
                "nonce": self.nonce,
                "not_after": self.not_after.astimezone(UTC).strftime(_TIME),
                "reason": self.reason,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Permission:
        """Read the bytes back; raises ``ValueError`` for any that ``to_bytes`` would not have written."""
        body = json.loads(data)
        if not isinstance(body, dict) or not all(
            isinstance(body.get(name), str)
            for name in ("digest", "environment", "estate", "nonce", "not_after", "reason")
        ):
            raise ValueError("this is not a permission")
        found = cls(
            estate=body["estate"],
            environment=body["environment"],
            digest=body["digest"],
            not_after=datetime.strptime(body["not_after"], _TIME).replace(tzinfo=UTC),
            nonce=body["nonce"],
            break_glass=body.get("break_glass") is True,
            reason=body["reason"],
        )
        if not NONCE.fullmatch(found.nonce) or not DIGEST.fullmatch(found.digest):
            raise ValueError("its nonce or digest is malformed")
        if found.to_bytes() != data:
            raise ValueError("these are not the bytes that a permission is signed over")
        return found


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
