"""Whether the results of drills that are kept, and what people wrote down about them, are those that evidence knows.
Records and results in, what is wrong or cannot be proven out. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.evidence.audit import Doubt, Fault, Problem, Remark
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.evidence.telling import part, text

_RECORDED = re.compile(r"; result (sha256:[0-9a-f]{64})$")
_SUBJECT = "recovery/"
_NOTED = f'"kind":"{Kind.DRILL_NOTED}"'.encode()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A note that the chain holds: the run of its record, the drill that it is about, and what it says."""

    run: str
    drill: str
    note: JsonObject


def noted(lines: Iterable[bytes]) -> tuple[Noted, ...]:
    """What people wrote down about drills, as the chain holds it, in its order."""
    found = []
    for line in lines:
        if _NOTED not in line:
            continue
        try:
            record = parse(line)
        except ValueError:
            continue
        if record.kind is Kind.DRILL_NOTED:
            found.append(Noted(run=record.run, drill=text(record.body, "drill"), note=part(record.body, "note")))
    return tuple(found)


def amended(
    on_record: Iterable[Noted], kept: Iterable[JsonObject], results: Collection[str]
) -> tuple[tuple[Problem, ...], tuple[Remark, ...]]:
    """What is wrong with kept notes, and what of them is not proven. ``results`` are the runs of drills that are kept:
    a note that is gone with its drill is no fault, as evidence outlives the database."""
    bodies = list(kept)
    there = Counter(map(digest, bodies))
    problems: list[Problem] = []
    remarks: list[Remark] = []
    for one in on_record:
        mark = digest(one.note)
        if there[mark]:
            there[mark] -= 1
            continue
        what = f"the {text(one.note, 'type')} about drill {one.drill} of record {one.run}"
        if one.drill in results:
            words = f"{what} was altered or taken out: {mark} is on record, and is not kept"
            problems.append(Problem(fault=Fault.NOTE, line=0, run=one.drill, summary=words))
        else:
            words = f"{what} is on record and not kept any more"
            remarks.append(Remark(doubt=Doubt.NOTE_GONE, run=one.drill, summary=words))
    for body in bodies:
        mark = digest(body)
        if there[mark]:
            there[mark] -= 1
            run = text(body, "run")
            words = f"a kept {text(body, 'type')} about drill {run} is on no record"
            remarks.append(Remark(doubt=Doubt.NOTE_UNPROVEN, run=run, summary=words))
    return tuple(problems), tuple(remarks)


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
