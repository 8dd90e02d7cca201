"""What a run writes down, as typed values: one class a kind of record, and the JSON body of each. Bodies hold what plan
files hold: references and digests of secrets, never one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from ismgr_automation.core.address import Address
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.evidence.chain import Kind, Note, moment
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.approvals import Permission
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The root of all entries. It has neither time nor place: the recorder gives it both."""

    KIND: ClassVar[Kind]

    @property
    def body(self) -> JsonObject:
        """The fields as JSON."""
        return _object(self)

    def at(self, now: datetime) -> Note:
        """The entry with its time."""
        return Note(kind=self.KIND, body=self.body, at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedApproval:
    """An approval as it was used: what was signed, the armored signature, its key, and whose it is."""

    principal: str
    permission: Permission
    signature: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """One person alone allowed it, past the rules of the environment."""

    by: str
    reason: str
    warning: str = "BREAK-GLASS: applied without the approvals that the environment asks for"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Entry):
    """A run begins: which plan, from which commit, by whom, under which lease and approvals."""

    KIND: ClassVar[Kind] = Kind.RUN_STARTED

    estate: str
    digest: str
    purpose: str
    commit: str
    holder: Holder
    token: int
    changes: int
    deferred: int = 0
    approvals: tuple[UsedApproval, ...] = ()
    break_glass: BreakGlass | None = None
    version: str = ""
    """Of ismgr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalUsed(Entry):
    """An approval counted for a rule, and cannot be used again."""

    KIND: ClassVar[Kind] = Kind.APPROVAL_USED

    principal: str
    nonce: str
    not_after: datetime
    rule: str
    """The rule in words, such as ``2 of role approver``."""


class LeaseFate(StrEnum):
    """What happened to a lease."""

    TAKEN = "taken"
    LOST = "lost"
    BROKEN = "broken"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseChanged(Entry):
    """The lease of the environment was taken, lost, broken or given back."""

    KIND: ClassVar[Kind] = Kind.LEASE

    fate: LeaseFate
    name: str
    token: int
    holder: Holder | None = None
    by: str = ""
    """Who broke it."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOpened(Entry):
    """A round is about to begin: its waves as keys of changes, and the digest of what they do."""

    KIND: ClassVar[Kind] = Kind.ROUND_OPENED

    round: int
    waves: tuple[tuple[str, ...], ...]
    changes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Entry):
    """A change is about to be done. On disk before its effect begins."""

    KIND: ClassVar[Kind] = Kind.INTENT

    round: int
    key: str
    address: Address
    action: str
    targets: tuple[Address, ...] = ()
    attempt: int = 1
    wave: int = 0
    precondition: str = ""
    """Digest of the state that it was planned on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Entry):
    """A change has ended: ``fate`` is landed, failed, unknown or not-started. ``steps`` are what really changed where a
    plan could not tell, with before and after; secrets are ``"<secret>"`` there as in plans."""

    KIND: ClassVar[Kind] = Kind.OUTCOME

    round: int
    key: str
    address: Address
    fate: str
    changed: int = 0
    seconds: float = 0.0
    summary: str = ""
    attempt: int = 1
    executor: str = ""
    post_state: str = ""
    steps: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCheck:
    """A check that did not pass."""

    host: str
    check: str
    verdict: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Entry):
    """Verification of one subject ended: how many checks passed, and every one that did not."""

    KIND: ClassVar[Kind] = Kind.VERIFICATION

    subject: Address
    passed: int
    skipped: int = 0
    failed: tuple[FailedCheck, ...] = ()
    round: int = 0
    wave: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed(Entry):
    """A finding of the run."""

    KIND: ClassVar[Kind] = Kind.FINDING

    level: Level
    subject: Address
    summary: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Entry):
    """Somebody goes on with a run whose holder is gone. ``observed`` has the key and what was found (done, not-done,
    unknown) of each change that had begun and not ended."""

    KIND: ClassVar[Kind] = Kind.RESUMED

    holder: Holder
    token: int
    observed: Mapping[str, str]
    approvals: tuple[UsedApproval, ...] = ()
    """Those that were given anew, because the first ones were over."""
    break_glass: BreakGlass | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(Entry):
    """Somebody asked the run to stop. ``left_running`` lists what could not be ended, as ``host pid command``."""

    KIND: ClassVar[Kind] = Kind.CANCELLED

    by: str
    why: str = ""
    left_running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRefused(Entry):
    """An apply was refused before any effect; ``reason`` is that of the error, such as ``stale-plan``."""

    KIND: ClassVar[Kind] = Kind.REFUSED

    estate: str
    digest: str
    reason: str
    summary: str
    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Entry):
    """Half a line was cut off: a crash or a full disk in the middle of a write. Its effect had not begun."""

    KIND: ClassVar[Kind] = Kind.RECOVERED

    cut_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillNoted(Entry):
    """A finding, a statement or a sign-off about the drill of an earlier run, as it is kept beside its result."""

    KIND: ClassVar[Kind] = Kind.DRILL_NOTED

    estate: str
    drill: str
    """The run of the drill."""
    note: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClosed(Entry):
    """A run ended. ``report`` is the digest of its report's JSON, ``rest`` that of the plan of what was left, if any.
    ``signed`` says that a signature by the runner key follows; the recorder sets it."""

    KIND: ClassVar[Kind] = Kind.RUN_CLOSED

    state: RunState
    exit_code: int
    landed: int
    failed: int = 0
    unknown: int = 0
    not_started: int = 0
    stopped: str = ""
    report: str = ""
    rest: str = ""
    signed: bool = False


def read_closed(body: JsonObject) -> RunClosed:
    """What the body of such a record says of state, exit code and why; its counts are in the report as well."""
    return RunClosed(
        state=RunState(str(body["state"])),
        exit_code=int(str(body["exit_code"])),
        landed=int(str(body["landed"])),
        stopped=str(body.get("stopped", "")),
    )


ENTRIES: Mapping[Kind, type[Entry]] = {
    one.KIND: one
    for one in (
        RunStarted,
        ApprovalUsed,
        LeaseChanged,
        RoundOpened,
        Intent,
        Outcome,
        Verified,
        Noticed,
        Resumed,
        RunCancelled,
        RunRefused,
        Recovered,
        DrillNoted,
        RunClosed,
    )
}
"""The class of each kind."""


def _object(value: object) -> JsonObject:
    if isinstance(value, Permission):
        # as it was signed, so that its canonical JSON is what the signature is over
        return dict(json.loads(value.to_bytes()))
    if not is_dataclass(value):
        raise TypeError(f"evidence cannot hold {type(value).__name__}")
    return {field.name: _json(getattr(value, field.name)) for field in fields(value)}


def _json(value: object) -> Json:
    match value:
        case None | bool() | int() | float():
            return value
        case str() | Address():
            return str(value)
        case datetime():
            return moment(value)
        case Mapping():
            return {str(key): _json(item) for key, item in value.items()}
        case Sequence():
            return [_json(item) for item in value]
        case _:
            return _object(value)
