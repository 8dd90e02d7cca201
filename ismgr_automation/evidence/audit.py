"""Is the evidence whole? Lines, signatures and anchors in, everything that is wrong or cannot be proven out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ismgr_automation.evidence.chain import Kind, Record, parse
from ismgr_automation.ports.evidence import EMPTY, NAMESPACE, Head, line_digest
from ismgr_automation.ports.signing import AllowedSigner, Signature, SignatureVerifier

_OPENING = frozenset({Kind.RUN_STARTED, Kind.RESUMED, Kind.REFUSED, Kind.FINDING, Kind.DRILL_NOTED})
"""What the first record of a run may be. A process may die between the ledger and the log: then the run begins here
when somebody takes it up. A paper run, and a drill that was left out, are a finding and an end."""


class Fault(StrEnum):
    """What can be wrong with evidence, or missing from it."""

    UNREADABLE = "unreadable"
    """A line is no record, byte for byte."""
    MISSING = "missing"
    """Records are not there."""
    OUT_OF_ORDER = "out-of-order"
    """A record stands where another belongs: repeated, inserted or moved."""
    BROKEN_CHAIN = "broken-chain"
    """A record does not hold the digest of the line before: that line or this one was altered."""
    FOREIGN = "foreign"
    """A record belongs to another environment or estate."""
    STRUCTURE = "structure"
    """A run never begins, begins twice, ends twice, or goes on after its end or its refusal."""
    NOT_SIGNED = "not-signed"
    """A signature is missing and nothing later stands in for it."""
    WRONG_SIGNATURE = "wrong-signature"
    """A signature is not over this record, or by the key of nobody with role runner."""
    ANCHOR = "anchor"
    """A remembered head is not that of the record with its number."""
    RESULT = "result"
    """The result of a drill as it is kept is not the one on record."""
    NOTE = "note"
    """What a person wrote down about a drill, or signed, is not kept as it is on record."""


class Doubt(StrEnum):
    """What is not wrong, and not proven either."""

    TAIL_UNPROVEN = "tail-unproven"
    """No remembered head covers the end: later runs could have been cut off whole."""
    UNFINISHED = "unfinished"
    """A run began and has no end: it is going on, or its holder died and nobody resumed it."""
    UNSIGNED = "unsigned"
    """A run was closed without a signature; a later signature or anchor covers it, or nobody signs here."""
    TORN = "torn"
    """The log ends in half a line: it is being written, or a crash interrupted it."""
    RESULT_GONE = "result-gone"
    """The result of a drill is on record, and not kept any more."""
    RESULT_UNPROVEN = "result-unproven"
    """The result of a drill is kept, and on no record: its run has not ended, or somebody else put it there."""
    NOTE_GONE = "note-gone"
    """What a person wrote down about a drill is on record, and not kept any more, as its result."""
    NOTE_UNPROVEN = "note-unproven"
    """What a person wrote down about a drill is kept, and on no record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong. ``line`` counts from 1 over the whole chain, 0 where it is about none."""

    fault: Fault
    line: int
    run: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is not proven."""

    doubt: Doubt
    run: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRun:
    """One run as the chain tells of it. ``signed_by`` is empty without a good signature."""

    run: str
    first: int
    last: int
    started_at: datetime
    closed: bool
    signed_by: str
    """The principal of the runner key, as the Team document names it."""
    state: str = ""
    """How it ended; empty for one without an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a check of a whole chain found. ``proven`` is the number of records that an anchor covers."""

    head: Head
    runs: tuple[AuditedRun, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[Remark, ...]
    proven: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; something may still be unproven."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the lines are held against: whose they are to be, remembered heads with their runs, closing signatures by
    run, and the keys of runners."""

    environment: str
    estate: str = ""
    """Empty: any."""
    heads: Sequence[tuple[Head, str]] = ()
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    runners: tuple[AllowedSigner, ...] = ()


@dataclass(slots=True)
class _Seen:
    """A run while it is read."""

    first: Record
    first_line: int
    last_line: int = 0
    closing: Record | None = None
    closing_bytes: bytes = b""
    opening: Kind | None = None
    """What its first record is; that half a line was cut off before does not count."""
    started: bool = False
    signed_by: str = ""


@dataclass(slots=True)
class _Reading:
    """What reading the lines has found so far."""

    claims: Claims
    runs: dict[str, _Seen] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)
    """Of the line with each sequence, the first where there are two."""
    sequence: int = 0
    digest: str = ""
    lines: int = 0

    def wrong(self, fault: Fault, run: str, summary: str, *, line: int | None = None) -> None:
        """Note something that is wrong, at the line that is read now unless another is named."""
        place = self.lines if line is None else line
        self.problems.append(Problem(fault=fault, line=place, run=run, summary=summary))


def verify(lines: Iterable[bytes], claims: Claims, verifier: SignatureVerifier) -> Audit:
    """Check a whole chain of one environment, from its first line to its last.

    Found are flipped bytes, dropped, repeated, moved and inserted records, missing segments, and signatures that are
    missing, wrong or of the wrong key. What was cut off or added at the end is found when an anchor or a signature
    covers it; otherwise the tail is said to be unproven. What one covers is as it was then, whoever wrote it: a run
    without a signature of its own is said to be unfinished or unsigned for ever.
    """
    reading = _Reading(claims)
    texts = list(lines)
    for number, text in enumerate(texts, start=1):
        reading.lines = number
        _line(reading, text, is_last=number == len(texts))
    proven = _anchors(reading)
    _signatures(reading, verifier, proven)
    if reading.sequence > proven:
        reading.remarks.append(
            Remark(
                doubt=Doubt.TAIL_UNPROVEN,
                run="",
                summary=f"tail unproven: no anchor covers what comes after #{proven} (the last is #{reading.sequence})",
            )
        )
    head = Head(sequence=reading.sequence, digest=reading.digest) if texts else EMPTY
    return Audit(
        head=head,
        runs=tuple(_audited(name, seen) for name, seen in reading.runs.items()),
        problems=tuple(reading.problems),
        remarks=tuple(reading.remarks),
        proven=proven,
    )


def _line(reading: _Reading, text: bytes, *, is_last: bool) -> None:
    try:
        record = parse(text)
    except ValueError as problem:
        if is_last and _half(text):
            reading.remarks.append(
                Remark(doubt=Doubt.TORN, run="", summary=f"line {reading.lines} is half a line of {len(text)} bytes")
            )
            return
        reading.wrong(Fault.UNREADABLE, "", f"line {reading.lines} is no record: {problem}")
        reading.sequence += 1
        reading.digest = line_digest(text)
        return
    _place(reading, record)
    reading.sequence = max(reading.sequence, record.sequence)
    reading.digest = line_digest(text)
    reading.digests.setdefault(record.sequence, reading.digest)
    _owner(reading, record)
    _run(reading, record, text)


def _half(text: bytes) -> bool:
    """Whether it looks like the beginning of a record: canonical JSON begins with its first key."""
    begin = b'{"at":"'
    return not text.endswith(b"}") and (text.startswith(begin) or begin.startswith(text))


def _place(reading: _Reading, record: Record) -> None:
    expected = reading.sequence + 1
    if record.sequence > expected:
        last = record.sequence - 1
        gap = f"record #{expected} is" if expected == last else f"records #{expected} to #{last} are"
        reading.wrong(Fault.MISSING, record.run, f"{gap} missing before #{record.sequence}")
    elif record.sequence < expected:
        reading.wrong(Fault.OUT_OF_ORDER, record.run, f"record #{record.sequence} stands where #{expected} belongs")
    if record.previous != reading.digest:
        reading.wrong(
            Fault.BROKEN_CHAIN,
            record.run,
            f"record #{record.sequence} does not hold the digest of the line before it: one of them was altered, "
            "moved or taken out",
        )


def _owner(reading: _Reading, record: Record) -> None:
    claims = reading.claims
    if record.environment != claims.environment:
        reading.wrong(
            Fault.FOREIGN,
            record.run,
            f"record #{record.sequence} is of environment {record.environment!r}, not {claims.environment!r}",
        )
    estate = record.body.get("estate") if record.kind is Kind.RUN_STARTED else None
    if claims.estate and estate is not None and estate != claims.estate:
        reading.wrong(Fault.FOREIGN, record.run, f"run {record.run} is of estate {estate!r}, not {claims.estate!r}")


def _run(reading: _Reading, record: Record, text: bytes) -> None:
    seen = reading.runs.setdefault(record.run, _Seen(record, reading.lines))
    seen.last_line = reading.lines
    if seen.closing is not None:
        reading.wrong(Fault.STRUCTURE, record.run, f"record #{record.sequence} comes after the end of run {record.run}")
    if record.kind is not Kind.RECOVERED:
        _opening(reading, record, seen)
    if record.kind is Kind.RUN_STARTED:
        if seen.started:
            reading.wrong(Fault.STRUCTURE, record.run, f"run {record.run} begins twice, again with #{record.sequence}")
        seen.started = True
    if record.kind is Kind.RUN_CLOSED:
        seen.closing, seen.closing_bytes = record, text


def _opening(reading: _Reading, record: Record, seen: _Seen) -> None:
    """What belongs to no run, or to one that was refused, was put there by somebody else."""
    if seen.opening is None:
        seen.opening = record.kind
        if record.kind not in _OPENING:
            what = f"record #{record.sequence} ({record.kind}) is the first of run {record.run}, and begins none"
            reading.wrong(Fault.STRUCTURE, record.run, what)
    elif seen.opening is Kind.REFUSED:
        what = f"record #{record.sequence} comes after run {record.run} was refused"
        reading.wrong(Fault.STRUCTURE, record.run, what)


def _anchors(reading: _Reading) -> int:
    """Hold remembered heads against the lines; gives the number of the last record that one covers."""
    proven = 0
    for head, run in reading.claims.heads:
        found = reading.digests.get(head.sequence)
        if found == head.digest:
            proven = max(proven, head.sequence)
        elif head.sequence > reading.sequence:
            gap = f"the log ends at #{reading.sequence}, and #{head.sequence} was remembered for run {run}"
            reading.wrong(Fault.MISSING, run, f"records are missing at the end: {gap}", line=0)
        else:
            reading.wrong(
                Fault.ANCHOR, run, f"record #{head.sequence} is not the one that was remembered for run {run}", line=0
            )
    return proven


def _signatures(reading: _Reading, verifier: SignatureVerifier, proven: int) -> None:
    """Check the closing signature of every run, and say which runs have none or no end."""
    claims = reading.claims
    covered = proven
    for run, seen in reversed(reading.runs.items()):
        signature = claims.signatures.get(run)
        if seen.closing is None:
            _open_run(reading, run, seen, signature)
        elif signature is None:
            _unsigned(reading, run, seen.closing, covered)
        else:
            who = verifier.verify(seen.closing_bytes, signature, NAMESPACE, claims.runners)
            if who is None:
                reading.wrong(
                    Fault.WRONG_SIGNATURE,
                    run,
                    f"the closing signature of run {run} is not over its last record, or its key "
                    f"({signature.key or 'none'}) is of nobody with role runner",
                    line=seen.last_line,
                )
            else:
                seen.signed_by = who
                covered = max(covered, seen.closing.sequence)
    for run in sorted(claims.signatures.keys() - reading.runs.keys()):
        reading.wrong(Fault.MISSING, run, f"there is a closing signature of run {run}, and no record of it", line=0)


def _open_run(reading: _Reading, run: str, seen: _Seen, signature: Signature | None) -> None:
    if signature is not None:
        reading.wrong(
            Fault.MISSING,
            run,
            f"run {run} has a closing signature, and its last record is missing",
            line=seen.last_line,
        )
    elif seen.opening is not None and seen.opening is not Kind.REFUSED:
        began = f"{seen.first.at:%Y-%m-%d %H:%M:%S} UTC"
        reading.remarks.append(
            Remark(doubt=Doubt.UNFINISHED, run=run, summary=f"run {run} (begun {began}) never closed")
        )


def _unsigned(reading: _Reading, run: str, closing: Record, covered: int) -> None:
    if closing.body.get("signed") is True:
        reading.wrong(
            Fault.NOT_SIGNED,
            run,
            f"run {run} says that it was signed, and its signature is missing",
            line=reading.runs[run].last_line,
        )
    elif reading.claims.runners and closing.sequence > covered:
        reading.wrong(
            Fault.NOT_SIGNED,
            run,
            f"run {run} is not signed, though there are runners, and nothing later covers it",
            line=reading.runs[run].last_line,
        )
    else:
        reading.remarks.append(
            Remark(doubt=Doubt.UNSIGNED, run=run, summary=f"run {run} was closed without a signature")
        )


def _audited(name: str, seen: _Seen) -> AuditedRun:
    state = seen.closing.body.get("state") if seen.closing is not None else ""
    if seen.opening is Kind.REFUSED:
        state = str(Kind.REFUSED)
    return AuditedRun(
        run=name,
        first=seen.first_line,
        last=seen.last_line,
        started_at=seen.first.at,
        closed=seen.closing is not None,
        signed_by=seen.signed_by,
        state=str(state),
    )
