"""Files in a drill of mode ``restore``: read from their repository, restored into a scratch folder, compared with those
in use, and taken away again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import Cancelled, IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.json import Json
from ismgr_automation.core.spans import from_nanoseconds
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.backups import FilesPlace, FilesRestoring, Snapshot
from ismgr_automation.recovery.restoring import kept_at_loss

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_restore import RestoreCrew

NOBODY = Snapshot(id="none", at=datetime.fromtimestamp(0, UTC), paths=())
"""For who only takes away."""


def prove_files(crew: RestoreCrew) -> None:
    """Restore of each the newest snapshot from before the declared loss, and write down what it came to. Raises
    ``Cancelled``."""
    for document, place in crew.vault.files:
        said: dict[str, Json] = {"ok": False, "snapshot": "", "taken_at": None, "age_s": None}
        said |= {"files": 0, "size_bytes": 0, "same": 0, "words": ""}
        try:
            said |= _proven(crew, place)
        except Cancelled:
            raise
        except IsmgrError as problem:
            said["words"] = problem.summary
        crew.wrote("files", name=document.name, host=place.host, **said)
        detail = str(said["words"])
        crew.drill.scope.context.emit(StepReported(step=f"restore: files {document.name}", detail=detail))


def remove_files(crew: RestoreCrew) -> Iterator[str]:
    """Take away what was restored; a sentence for each host where something is still there."""
    for _, place in crew.vault.files:
        try:
            done = _restoring(crew, place, NOBODY, calm=True).remove()
        except IsmgrError as problem:
            yield f"files that were restored on {place.host} may still be there: {problem.summary}"
            continue
        if not done.ok:
            yield f"files that were restored on {place.host} are still there: {done.words}"


def _proven(crew: RestoreCrew, place: FilesPlace) -> dict[str, Json]:
    engines = crew.drill.scope.engines.recovery
    found = engines.file_backups.read(place, crew.drill.scope.context)
    kept = kept_at_loss(found, from_nanoseconds(engines.clock() - crew.declared_ns))
    if kept is None:
        later = " from before the loss was declared" if found.snapshots else ""
        return {"words": f"there is no snapshot of {place.host}{later}"}
    newest, age = kept
    said: dict[str, Json] = {
        "snapshot": newest.id,
        "taken_at": newest.at.isoformat(),
        "age_s": age.total_seconds(),
    }
    restoring = _restoring(crew, place, newest)
    read = restoring.read_all()
    if not read.ok:
        return {**said, "words": f"the repository is damaged: {read.text}"}
    done = restoring.restore()
    if not done.ok:
        return {**said, "words": done.words}
    compared = restoring.compare()
    said |= {"ok": compared.ok, "files": compared.files, "size_bytes": compared.size_bytes, "same": compared.same}
    return {**said, "words": compared.words}


def _restoring(crew: RestoreCrew, place: FilesPlace, snapshot: Snapshot, *, calm: bool = False) -> FilesRestoring:
    context = crew.drill.scope.context
    context = replace(context, cancelled=threading.Event()) if calm else context
    deadline = duration(crew.vault.document.deadline)
    return crew.drill.scope.engines.recovery.file_backups.restoring(place, snapshot, context.run, deadline, context)
