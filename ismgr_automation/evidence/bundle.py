"""What an auditor takes away: the records of a run with everything that they are checked against, and how to check it
by hand. Values in, files out; nothing is written here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.core.json import JsonObject, canonical
from ismgr_automation.evidence.chain import Kind, Record, parse
from ismgr_automation.evidence.guide import guide
from ismgr_automation.evidence.results import noted
from ismgr_automation.evidence.runners import allowed_signers
from ismgr_automation.evidence.telling import part, parts, text
from ismgr_automation.ports.approvals import NAMESPACE as APPROVAL
from ismgr_automation.ports.evidence import Head
from ismgr_automation.ports.signing import AllowedSigner, Signature, fingerprint
from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE, SignOff, read_note


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a bundle is made from. ``lines`` are those of the whole chain; ``plan`` is the text of the plan file and
    ``intent`` what its digest is over, both empty where they are not kept any more."""

    estate: str
    environment: str
    run: str
    lines: Sequence[bytes]
    signature: Signature | None = None
    signed_by: str = ""
    runners: tuple[AllowedSigner, ...] = ()
    heads: Sequence[tuple[Head, str]] = ()
    plan: str = ""
    intent: JsonObject = field(default_factory=dict)
    report: JsonObject | None = None
    drill: Mapping[str, bytes] = field(default_factory=dict)
    """Of a drill, by name: its result as it is kept, what people wrote down, the report for people."""
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    """Closing signatures by run, for the records of what people wrote down."""


def bundle(contents: Contents) -> Mapping[str, bytes]:
    """The files by their path. The same contents give the same bytes."""
    lines = _stretch(contents)
    files: dict[str, bytes] = {"records.jsonl": b"".join(line + b"\n" for line in lines)}
    files["allowed_signers"] = allowed_signers(contents.runners).encode()
    if contents.signature is not None:
        files["closing.sig"] = contents.signature.armored.encode()
    approvals = _approvals(lines, contents.run)
    for name, permission, signature, _who, _key in approvals:
        files[f"approvals/{name}.json"] = permission
        files[f"approvals/{name}.sig"] = signature
    if approvals:
        signers = [AllowedSigner(principal=who, key=key, namespaces=(APPROVAL,)) for _n, _p, _s, who, key in approvals]
        files["approvers"] = "".join(dict.fromkeys(allowed_signers(signers).splitlines(keepends=True))).encode()
    if contents.plan:
        files["plan.json"] = contents.plan.encode()
        files["intent.json"] = canonical(contents.intent)
    if contents.report is not None:
        files["report.json"] = canonical(contents.report)
    files.update(contents.drill)
    files.update(_notes(contents))
    mine = [head for head, run in contents.heads if run == contents.run]
    if mine:
        files["anchors.json"] = canonical([{"sequence": one.sequence, "digest": one.digest} for one in mine])
    files["README.md"] = guide(contents.estate, contents.environment, contents.run, contents.signed_by, files).encode()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return {**dict(sorted(files.items())), "SHA256SUMS": sums.encode()}


def _notes(contents: Contents) -> Mapping[str, bytes]:
    """What people wrote down about a drill, each as it is on record: the note, its records, the signature that ends
    them; of a sign-off also what was signed, the signature, and whose key it is."""
    files: dict[str, bytes] = {}
    signers: list[AllowedSigner] = []
    for one in noted(contents.lines):
        if one.drill != contents.run:
            continue
        mine = [line for line in contents.lines if _owner(line) == one.run]
        files[f"notes/{one.run}.json"] = canonical(one.note)
        files[f"notes/{one.run}.jsonl"] = b"".join(line + b"\n" for line in mine)
        if (closing := contents.signatures.get(one.run)) is not None:
            files[f"notes/{one.run}.sig"] = closing.armored.encode()
        try:
            sign_off = read_note(one.note)
        except ValueError:
            continue
        if isinstance(sign_off, SignOff):
            files[f"sign-offs/{one.run}.json"] = sign_off.to_bytes()
            files[f"sign-offs/{one.run}.sig"] = sign_off.signature.encode()
            signers.append(AllowedSigner(principal=sign_off.person, key=sign_off.key, namespaces=(SIGN_OFF_NAMESPACE,)))
    if signers:
        files["signatories"] = "".join(dict.fromkeys(allowed_signers(signers).splitlines(keepends=True))).encode()
    return files


def _stretch(contents: Contents) -> tuple[bytes, ...]:
    """From the first record of the run to its last, with what other runs wrote between: a chain without a gap."""
    owners = [_owner(line) for line in contents.lines]
    mine = [number for number, owner in enumerate(owners) if owner == contents.run]
    return tuple(contents.lines[mine[0] : mine[-1] + 1]) if mine else ()


def _owner(line: bytes) -> str:
    found = _record(line)
    return found.run if found is not None else ""


def _record(line: bytes) -> Record | None:
    try:
        return parse(line)
    except ValueError:
        return None


def _approvals(lines: Iterable[bytes], run: str) -> list[tuple[str, bytes, bytes, str, str]]:
    """Name, permission, signature, principal and key of each approval that the run's first record holds."""
    records = [one for one in map(_record, lines) if one is not None and one.run == run]
    found = []
    for record in records:
        if record.kind is Kind.RUN_STARTED:
            for one in parts(record.body, "approvals"):
                permission = part(one, "permission")
                # the nonce is what somebody signed; a digest of it is a file name for certain
                name = hashlib.sha256(text(permission, "nonce").encode()).hexdigest()[:16]
                key = text(one, "key")
                who = text(one, "principal") or fingerprint(key)
                found.append((name, canonical(permission), text(one, "signature").encode(), who, key))
    return found
