"""Approvals, pins, signatures and the history of commits, in memory. A signature is a text that only looks like one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ismgr_automation.ports.approvals import Approval
from ismgr_automation.ports.history import CommitSignature, Flaw, Signers
from ismgr_automation.ports.signing import AllowedSigner, Signature, bare_key, fingerprint
from ismgr_automation.ports.trust import Pin


@dataclass(frozen=True, slots=True)
class MemorySigner:
    """``ports.signing.Signer`` with a public key line; there is no private half to keep."""

    key: str

    def sign(self, data: bytes, namespace: str) -> Signature:
        """A text over the data, the namespace and the key."""
        return Signature(armored=_seal(data, namespace, self.key), key=bare_key(self.key))


@dataclass(frozen=True, slots=True)
class MemorySignatures:
    """``ports.signing.SignatureVerifier`` for what ``MemorySigner`` gives."""

    def verify(
        self, data: bytes, signature: Signature, namespace: str, signers: tuple[AllowedSigner, ...]
    ) -> str | None:
        """The first signer whose seal it is."""
        fits = (one for one in signers if namespace in one.namespaces)
        return next((one.principal for one in fits if signature.armored == _seal(data, namespace, one.key)), None)


@dataclass(frozen=True, slots=True)
class MemoryApprovals:
    """``ports.approvals.ApprovalStore``: a list."""

    kept: list[Approval] = field(default_factory=list)

    def add(self, approval: Approval) -> str:
        """Append it."""
        self.kept.append(replace(approval, origin=f"memory {len(self.kept)}"))
        return self.kept[-1].origin

    def find(self, digest: str) -> tuple[Approval, ...]:
        """Those for a digest."""
        return tuple(one for one in self.kept if one.permission.digest == digest)


@dataclass(frozen=True, slots=True)
class MemoryPins:
    """``ports.trust.Pins``: one for each estate."""

    kept: dict[str, Pin] = field(default_factory=dict)

    def all(self) -> tuple[Pin, ...]:
        """Every pin, by name."""
        return tuple(self.kept[name] for name in sorted(self.kept))

    def write(self, pin: Pin, keys: tuple[bytes, ...] = ()) -> Pin:  # noqa: ARG002  no OpenPGP here
        """Keep it."""
        self.kept[pin.estate] = pin
        return pin


@dataclass(frozen=True, slots=True)
class MemoryHistory:
    """``ports.history.History``: commits with their parents and the public key line that signed each, empty for none.
    A signature counts when its key is among the signers."""

    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def commit(self, name: str, *parents: str, key: str = "") -> str:
        """Add a commit; returns its name."""
        self.parents[name] = parents
        self.keys[name] = key
        return name

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether one is behind the other."""
        return ancestor in self._behind([commit]) and ancestor in self.parents

    def signatures(self, base: str, proposed: str, signers: Signers) -> tuple[CommitSignature, ...]:
        """Commits of the range, sorted by name."""
        known = {fingerprint(one.key) for one in signers.keys}
        inside = sorted((self._behind([proposed]) - self._behind([base])) & self.parents.keys())
        return tuple(self._signature(one, known) for one in inside)

    def _signature(self, name: str, known: set[str]) -> CommitSignature:
        key = fingerprint(self.keys[name])
        flaw = None if key in known else Flaw.UNKNOWN_KEY if key else Flaw.UNSIGNED
        return CommitSignature(commit=name, title=name, flaw=flaw, key=key, merge=len(self.parents[name]) > 1)

    def _behind(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.parents.get(one, ())
        return found


def _seal(data: bytes, namespace: str, key: str) -> str:
    return hashlib.sha256(f"{namespace} {fingerprint(key)} ".encode() + data).hexdigest()
