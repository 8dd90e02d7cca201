"""What is kept of runs, for commands that look back: records of one environment, opened for one invocation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ismgr_automation.cli.face import Face
from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError

if TYPE_CHECKING:
    from ismgr_automation.evidence.audit import Audit
    from ismgr_automation.wiring_records import Records

MOST_RESULTS = 100_000
"""Results of drills that are held against the evidence."""


@contextmanager
def kept(face: Face, ref: str) -> Iterator[Records]:
    """The records of the chosen environment, as the documents at ``ref`` say where they are."""
    from ismgr_automation.cli.plan import looked_up
    from ismgr_automation.estate.resolve import environment
    from ismgr_automation.wiring_records import Records

    with looked_up(face, ref) as estate:
        chosen = environment(estate.documents.document, face.environment)
        yield Records(estate=estate.documents, chosen=chosen, directory=estate.directory, tree=estate.tree.root)


def audited(records: Records, lines: list[bytes]) -> Audit:
    """Check lines against the signatures, anchors and runners of an environment."""
    from ismgr_automation.engines.signing import SshVerifier
    from ismgr_automation.evidence.audit import Claims, verify
    from ismgr_automation.evidence.runners import runners

    name = records.chosen.name
    claims = Claims(
        environment=name,
        estate=records.estate.document.name,
        heads=records.anchor.heads(name) if records.anchor is not None else (),
        signatures=records.log.signatures(),
        runners=runners(records.estate.teams),
    )
    return verify(lines, claims, SshVerifier())


def with_results(records: Records, lines: list[bytes], audit: Audit) -> Audit:
    """An audit with what is to be said of the kept results of drills, and of notes about them. Evidence outlives the
    database: where that cannot be read, nothing is said of either."""
    from dataclasses import replace

    from ismgr_automation.core.errors import IsmgrError
    from ismgr_automation.evidence.results import altered, amended, doubtful, noted, recorded

    on_record = recorded(lines)
    try:
        results = {str(one["run"]): one for one in records.drills.results(limit=MOST_RESULTS)}
        notes = records.drills.notes()
    except IsmgrError:
        return audit
    problems, remarks = amended(noted(lines), notes, results)
    return replace(
        audit,
        problems=(*audit.problems, *altered(on_record, results), *problems),
        remarks=(*audit.remarks, *doubtful(on_record, results), *remarks),
    )


def refuse_unknown_run(records: Records, run: str) -> None:
    """Raise ``InputError`` naming a near one when there is no evidence of a run."""
    known = records.log.segments()
    if run not in known:
        near = did_you_mean(run, known)
        raise InputError(
            f"There is no evidence of run {run} in environment {records.chosen.name}."
            + (f" Did you mean {near}?" if near else ""),
            next_step="`ismgr audit show` lists the runs that there are.",
        )
