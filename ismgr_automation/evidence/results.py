"""Whether the results of drills that are kept are those that evidence knows. Records and results in, what is wrong or
cannot be proven out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.evidence.audit import Doubt, Fault, Problem, Remark
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.evidence.telling import text

_RECORDED = re.compile(r"; result (sha256:[0-9a-f]{64})$")
_SUBJECT = "recovery/"


def recorded(lines: Iterable[bytes]) -> Mapping[str, str]:
    """The digest of each drill's result that the chain holds, by run. Whether the chain is whole is for the audit."""
    found: dict[str, str] = {}
    for line in lines:
        try:
            record = parse(line)
        except ValueError:
            continue
        if record.kind is Kind.FINDING and text(record.body, "subject").startswith(_SUBJECT):
            told = _RECORDED.search(text(record.body, "summary"))
            if told is not None:
                found[record.run] = told[1]
    return found


def altered(on_record: Mapping[str, str], kept: Mapping[str, JsonObject]) -> tuple[Problem, ...]:
    """Kept results that are not the ones on record, by run."""
    return tuple(_altered(on_record, kept))


def doubtful(on_record: Mapping[str, str], kept: Mapping[str, JsonObject]) -> tuple[Remark, ...]:
    """Results on record that are not kept any more, and kept ones that are on no record."""
    gone = [
        Remark(
            doubt=Doubt.RESULT_GONE, run=run, summary=f"the result of drill {run} is on record and not kept any more"
        )
        for run in sorted(on_record.keys() - kept.keys())
    ]
    unproven = [
        Remark(doubt=Doubt.RESULT_UNPROVEN, run=run, summary=f"the kept result of drill {run} is on no record")
        for run in sorted(kept.keys() - on_record.keys())
    ]
    return (*gone, *unproven)


def _altered(on_record: Mapping[str, str], kept: Mapping[str, JsonObject]) -> Iterator[Problem]:
    for run in sorted(on_record.keys() & kept.keys()):
        now = digest(kept[run])
        if now != on_record[run]:
            words = f"the kept result of drill {run} was altered: it is {now}, and {on_record[run]} is on record"
            yield Problem(fault=Fault.RESULT, line=0, run=run, summary=words)
