"""Chains for tests: one entry of each kind, runs that are written down, and a signer whose signatures are digests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.address import group, host, stack
from ismgr_automation.evidence.audit import Audit, Claims, Fault, verify
from ismgr_automation.evidence.entries import (
    ApprovalUsed,
    BreakGlass,
    DrillNoted,
    Entry,
    FailedCheck,
    Intent,
    LeaseChanged,
    LeaseFate,
    Noticed,
    Outcome,
    Recovered,
    Resumed,
    RoundOpened,
    RunCancelled,
    RunClosed,
    RunRefused,
    RunStarted,
    UsedApproval,
    Verified,
)
from ismgr_automation.evidence.recorder import ChainRecorder
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.approvals import Permission
from ismgr_automation.ports.evidence import Head
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory.evidence import MemoryAnchor, MemoryEvidenceLog
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.signing import AllowedSigner, Signature

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANNA = Holder(user="anna", host="desk1", pid=4711, started=1772366400.5, boot="b00t", purpose="apply")
RUNNER = "ssh-ed25519 RUNNER"
RUNNERS = (AllowedSigner(principal="runner", key=RUNNER, namespaces=("ismgr-evidence@v1",)),)
PERMISSION = Permission(
    estate="two-sites",
    environment="lab",
    digest=f"sha256:{1:064x}",
    not_after=NOON + timedelta(hours=4),
    nonce=f"{1:032x}",
)

EVERY_ENTRY: tuple[Entry, ...] = (
    RunStarted(
        estate="two-sites",
        digest="sha256:11",
        purpose="apply",
        commit="c0ffee",
        holder=ANNA,
        token=7,
        changes=2,
        approvals=(UsedApproval(principal="ben", permission=PERMISSION, signature="armored", key="ssh-ed25519 BEN"),),
        break_glass=BreakGlass(by="ben", reason="the edge is down"),
        version="0.1.0",
    ),
    ApprovalUsed(principal="ben", nonce=f"{1:032x}", not_after=NOON + timedelta(hours=4), rule="1 of role approver"),
    LeaseChanged(fate=LeaseFate.TAKEN, name="two-sites/lab", token=7, holder=ANNA),
    RoundOpened(round=1, waves=(("stack/names",), ("group/databases#1",)), changes="sha256:22"),
    Intent(round=1, wave=1, key="stack/names", address=stack("names"), action="create", precondition="sha256:33"),
    Outcome(round=1, key="stack/names", address=stack("names"), fate="landed", changed=3, seconds=1.25, executor="e1"),
    Intent(
        round=1,
        wave=2,
        key="group/databases#1",
        address=group("databases"),
        action="configure",
        targets=(host("db1.dc1"),),
        attempt=2,
    ),
    Outcome(
        round=1,
        key="group/databases#1",
        address=group("databases"),
        fate="failed",
        changed=1,
        seconds=2.5,
        summary='db1.dc1: "install" <failed> \N{SNOWMAN}',
        attempt=2,
        executor="e1",
        steps=({"target": "db1.dc1", "what": "install", "before": "16", "after": "17"},),
    ),
    Verified(
        subject=group("databases"),
        passed=3,
        failed=(FailedCheck(host="db1.dc1", check="is_healthy", verdict="failed", message="no"),),
        round=1,
        wave=2,
    ),
    Noticed(level=Level.WARN, subject=host("db1.dc1"), summary="slow", next_step="look"),
    Resumed(holder=ANNA, token=8, observed={"stack/names": "done"}),
    RunCancelled(by="anna", why="Ctrl-C", left_running=("db1.dc1 991 apt-get",)),
    RunRefused(estate="two-sites", digest="sha256:11", reason="stale-plan", summary="The plan is stale.", holder=ANNA),
    Recovered(cut_bytes=99),
    DrillNoted(
        estate="two-sites",
        drill="20261127T120000-3f9a",
        note={"type": "finding", "text": "the runbook is old", "owner": "Ada"},
    ),
)
"""One of each kind, but the last."""


@dataclass(frozen=True, slots=True)
class DigestSigner:
    """Signs with a digest over key and data: enough to see which line and whose key."""

    key: str = RUNNER

    def sign(self, data: bytes, namespace: str) -> Signature:
        return Signature(armored=_mark(self.key, namespace, data), key=self.key)


@dataclass(frozen=True, slots=True)
class DigestVerifier:
    """The other half."""

    def verify(
        self, data: bytes, signature: Signature, namespace: str, signers: tuple[AllowedSigner, ...]
    ) -> str | None:
        for one in signers:
            fits = one.key == signature.key and namespace in one.namespaces
            if fits and signature.armored == _mark(one.key, namespace, data):
                return one.principal
        return None


def _mark(key: str, namespace: str, data: bytes) -> str:
    return hashlib.sha256(b"\0".join([key.encode(), namespace.encode(), data])).hexdigest()


@dataclass(slots=True)
class Chain:
    """A chain of runs with everything that it can be held against."""

    log: MemoryEvidenceLog = field(default_factory=MemoryEvidenceLog)
    anchor: MemoryAnchor = field(default_factory=MemoryAnchor)

    def run(
        self, name: str, entries: Sequence[Entry], *, close: bool = True, signer: DigestSigner | None = None
    ) -> None:
        recorder = ChainRecorder(
            log=self.log,
            environment="lab",
            run=name,
            clock=lambda: NOON,
            signer=DigestSigner() if signer is None else signer,
            anchor=self.anchor,
        )
        recorder.write(*entries)
        if close:
            recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=1))

    @property
    def lines(self) -> list[bytes]:
        return list(self.log.read())

    @property
    def heads(self) -> tuple[tuple[Head, str], ...]:
        return self.anchor.heads("lab")

    def claims(self) -> Claims:
        return Claims(
            environment="lab",
            estate="two-sites",
            heads=self.heads,
            signatures=self.log.signatures(),
            runners=RUNNERS,
        )

    def audit(self, lines: Sequence[bytes] | None = None, **other: object) -> Audit:
        claims = replace(self.claims(), **other)  # type: ignore[arg-type]
        return verify(self.lines if lines is None else lines, claims, DigestVerifier())


def started(name: str = "names") -> tuple[Entry, ...]:
    """The beginning of a small run."""
    return (EVERY_ENTRY[0], Intent(round=1, key=f"stack/{name}", address=stack(name), action="create"))


def chain(runs: int = 3) -> Chain:
    """Closed, signed and anchored runs."""
    made = Chain()
    for number in range(1, runs + 1):
        made.run(f"run-{number}", started())
    return made


def faults(audit: Audit) -> set[Fault]:
    """The kinds of problems that were found."""
    return {one.fault for one in audit.problems}
