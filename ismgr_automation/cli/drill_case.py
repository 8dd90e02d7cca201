"""A drill with all that is kept of it: what its evidence says, what people wrote down, its report on a page and on
paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ismgr_automation.cli.kept import audited, with_results
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from datetime import datetime

    from ismgr_automation.ports.recovery import Attempt
    from ismgr_automation.recovery.clauses import Case, Seal
    from ismgr_automation.recovery.sign_offs import Weighed
    from ismgr_automation.reports.drill_page import Told
    from ismgr_automation.wiring_records import Records


def seal_of(records: Records, lines: list[bytes], run: str, result: JsonObject) -> Seal:
    """What the evidence of an environment says of the result of one drill, as it is kept."""
    from ismgr_automation.core.json import digest
    from ismgr_automation.evidence.results import recorded
    from ismgr_automation.recovery.clauses import Seal

    audit = with_results(records, lines, audited(records, lines))
    mine = next((one for one in audit.runs if one.run == run), None)
    same = recorded(lines).get(run) == digest(result)
    return Seal(
        recorded=same and not [one for one in audit.problems if one.run in {"", run}],
        signed_by=mine.signed_by if mine is not None else "",
    )


def drill_files(records: Records, lines: list[bytes], run: str, sign_offs: Sequence[Weighed]) -> Mapping[str, bytes]:
    """The files of a drill for an auditor: its result as it is kept, what people wrote down, its report. None for a run
    that was no drill, or whose result is not kept any more."""
    from dataclasses import replace

    from ismgr_automation.converge.drill_review import MOST, next_due
    from ismgr_automation.core.errors import IsmgrError
    from ismgr_automation.core.json import canonical
    from ismgr_automation.recovery.clauses import Case
    from ismgr_automation.recovery.particulars import read_note
    from ismgr_automation.recovery.result import read_result
    from ismgr_automation.recovery.trend import trend
    from ismgr_automation.reports import drill_html, drill_pdf
    from ismgr_automation.reports.drill_page import compose

    try:
        body, notes = records.drills.result(run), records.drills.notes(run)
        others = records.drills.results(str(body["plan"]), MOST) if body is not None else ()
    except IsmgrError:
        return {}  # evidence outlives the database, and is worth a copy without it
    if body is None:
        return {}
    result = read_result(body)
    case = Case(
        result=result,
        trend=trend(result, tuple(map(read_result, others))),
        notes=tuple(map(read_note, notes)),
        seal=replace(
            seal_of(records, lines, run, body), next_due=next_due(records.estate, result.plan, result.ended_at)
        ),
        sign_offs=tuple(sign_offs),
    )
    page = compose(told(case, records.drill_attempts(run), body))
    return {
        "drill.json": canonical(body),
        "drill-notes.json": canonical(list(notes)),
        "drill.html": drill_html.render(page).encode(),
        "drill.pdf": drill_pdf.render(page, result.ended_at),
    }


def case_json(case: Case) -> JsonObject:
    """What is said of a drill besides its result, for pipelines."""
    from ismgr_automation.recovery.coverage import coverage, coverage_json
    from ismgr_automation.recovery.particulars import note_json
    from ismgr_automation.recovery.sign_offs import sign_off_json
    from ismgr_automation.recovery.trend import trend_json

    return {
        "trend": trend_json(case.trend),
        "standards": coverage_json(coverage(case)),
        "notes": [note_json(one) for one in case.notes],
        "sign_offs": sign_off_json(case.sign_offs),
        "recorded": case.seal.recorded,
        "signed_by": case.seal.signed_by,
    }


def told(case: Case, attempts: Sequence[Attempt], body: JsonObject, made: datetime | None = None) -> Told:
    """What a report is made of; ``body`` is the result as it is kept."""
    from ismgr_automation.core.json import digest
    from ismgr_automation.reports.drill_page import Told

    return Told(case=case, attempts=attempts, digest=digest(body), made=made)
