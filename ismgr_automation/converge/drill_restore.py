"""A drill of mode ``restore``, carried out: the loss of everything is declared, the newest backup is restored where
nobody reaches it, asked what it holds, and taken away again. Who resumes one takes away first what is left, and begins
anew: the time counts from the declared loss all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ismgr_automation.converge.drill_files import prove_files, remove_files
from ismgr_automation.converge.drill_restore_told import told_restore
from ismgr_automation.converge.drill_vault import Vault, vault_of
from ismgr_automation.converge.outcome import Done, briefly
from ismgr_automation.core.errors import Cancelled, IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.json import Json
from ismgr_automation.estate.recovery import BackupCheck
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.backups import Asked, Catalogue, RestoreRequest, Restoring
from ismgr_automation.ports.recovery import Acted, Attempt
from ismgr_automation.recovery.restoring import (
    ARCHIVE,
    ISOLATED,
    LOOK,
    PAGES,
    PREPARE,
    RECOVER,
    RESTORE,
    SOUND,
    VERIFY,
    RestoreRecord,
    short_of,
)

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill

SPARE = 1.2
"""How much more room than the database itself must be there: the log is replayed beside it."""
LOG_ROOM = 256 << 20


@dataclass(slots=True, kw_only=True)
class RestoreCrew:
    """A restore on its way."""

    drill: Drill
    vault: Vault
    held: frozenset[int] | None = None
    begun: bool = False
    """Whether there may be anything to take away."""
    removed: str = ""
    """Why not all of it was taken away."""

    @property
    def declared_ns(self) -> int:
        """When the loss was declared for the first time, on the drill's clock; 0 where it was not yet."""
        declared = self.drill.notes.first("declared")
        return int(str(declared["declared_ns"])) if declared is not None else 0

    def wrote(self, what: str, **more: Json) -> None:
        """Write an entry of the journal."""
        self.drill.notes.wrote({"what": what, **more})

    def step(self, name: str, act: Callable[[], Acted]) -> Acted:
        """Do one step, and write down how it went."""
        done = act()
        self.wrote(
            "step",
            step=name,
            ok=done.ok,
            began_ns=done.began_ns,
            ended_ns=done.ended_ns,
            words=done.words,
            readings=dict(done.readings),
        )
        seconds = (done.ended_ns - done.began_ns) / 1e9
        self.drill.scope.context.emit(StepReported(step=f"restore: {name}", detail=done.words, seconds=seconds))
        return done

    def check(self, name: str, asked: Asked) -> None:
        """Write down what an invariant came to."""
        self.wrote("check", check=name, ok=asked.ok, words=asked.text)
        detail = asked.text if not asked.ok else ""
        self.drill.scope.context.emit(StepReported(step=f"restore: check {name}", detail=detail))


def restore_drill(drill: Drill) -> Done:
    """Restore, ask, take away, and keep the result. What went wrong is in the result. Raises ``InputError`` for a plan
    without a backup."""
    crew = RestoreCrew(drill=drill, vault=vault_of(drill.scope, drill.work.ground, drill.field))
    if drill.notes.first("declared") is not None:
        crew.begun = True
        _remove(crew)  # what the process that died left
    if not (drill.unsteady or drill.trouble):
        try:
            _declare(crew)
            crew.begun = True
            _database(crew)
            prove_files(crew)
        except Cancelled:
            drill.trouble = "stopped on request"
        except Exception as problem:  # noqa: BLE001  whatever happens, what was restored must be taken away
            drill.trouble = briefly(problem, drill.scope)
    if crew.begun:
        _remove(crew)
    record = RestoreRecord(entries=drill.notes.journal.entries(), attempts=_attempts(crew), held=crew.held)
    result = told_restore(crew, record)
    drill.notes.tried({"what": "ended", "verdict": str(result.verdict)})
    return result.done


def _declare(crew: RestoreCrew) -> None:
    """From now on nothing but the repository is there; whoever resumes counts from the first time this was said."""
    if crew.drill.notes.first("declared") is None:
        now = crew.drill.scope.engines.recovery.clock()
        crew.wrote("declared", declared_ns=now, at=datetime.now(UTC).isoformat())


def _attempts(crew: RestoreCrew) -> tuple[Attempt, ...]:
    """The drill's own writes before the loss was declared."""
    until = crew.declared_ns
    return tuple(one for one in crew.drill.attempts if one.ended_ns <= until)


def _database(crew: RestoreCrew) -> None:
    catalogue = _look(crew)
    if catalogue is None:
        return
    restoring = _restoring(crew, catalogue)
    try:
        for name, act in ((PREPARE, restoring.prepare), (RESTORE, restoring.restore)):
            if not crew.step(name, act).ok:
                return
        recovered = crew.step(RECOVER, restoring.recover)
        if recovered.ok:
            _ask(crew, restoring, catalogue, recovered)
    finally:
        restoring.close()


def _look(crew: RestoreCrew) -> Catalogue | None:
    """What the repository holds; None where that is nothing to restore from."""
    clock = crew.drill.scope.engines.recovery.clock
    place, began = crew.vault.repository, clock()
    found: Catalogue | None = None
    try:
        found = crew.drill.scope.engines.recovery.backups.read(place, crew.drill.scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        trouble = problem.summary
    else:
        trouble = found.trouble or ("" if found.latest else f"there is no backup of {place.stanza} on {place.host}")
    latest = found.latest if found is not None else None
    if found is not None and latest is not None:
        crew.wrote(
            "catalogue",
            label=latest.label,
            kind=str(latest.kind),
            taken_at=latest.began_at.isoformat(),
            ended_at=latest.ended_at.isoformat(),
            cipher=found.cipher,
            size_bytes=latest.size_bytes,
            wal_first=found.wal_first,
            wal_last=found.wal_last,
            newest_at=found.newest_at.isoformat() if found.newest_at is not None else None,
        )
    crew.step(LOOK, lambda: Acted(ok=not trouble, began_ns=began, ended_ns=clock(), words=trouble))
    return found if not trouble else None


def _restoring(crew: RestoreCrew, catalogue: Catalogue | None, *, calm: bool = False) -> Restoring:
    drill, vault = crew.drill, crew.vault
    latest = catalogue.latest if catalogue is not None else None
    context = drill.scope.context
    request = RestoreRequest(
        place=vault.restore,
        run=context.run,
        label=latest.label if latest is not None else "",
        need_bytes=round((latest.size_bytes if latest is not None else 0) * SPARE) + LOG_ROOM,
        deadline=duration(vault.document.deadline),
        version=drill.field.cluster.version,
        settings=vault.document.settings,
    )
    context = replace(context, cancelled=threading.Event()) if calm else context
    return drill.scope.engines.recovery.backups.restoring(request, context)


def _ask(crew: RestoreCrew, restoring: Restoring, catalogue: Catalogue, recovered: Acted) -> None:
    """What must hold of it."""
    document, probe = crew.vault.document, crew.drill.field.document.probe
    crew.check(ISOLATED, restoring.isolated())
    position, size = int(recovered.readings["position"]), int(recovered.readings["segment_bytes"])
    short = short_of(catalogue.wal_last, position, size)
    complaint = str(recovered.readings.get("log", ""))
    crew.check(ARCHIVE, Asked(ok=not short, text="; ".join(filter(None, [short, complaint if short else ""]))))
    latest = catalogue.latest
    broken = latest is not None and latest.broken
    crew.check(PAGES, Asked(ok=not broken, text="pages had wrong checksums when it was made" if broken else ""))
    crew.held = _held(crew, restoring)
    for one in document.checks:
        crew.check(one.name, _checked(one, restoring.ask(one.database or probe.database, one.query)))
    if document.sound:
        crew.check(SOUND, restoring.sound())
    if document.verify:
        engines, context = crew.drill.scope.engines.recovery, crew.drill.scope.context
        crew.check(VERIFY, engines.backups.verify(crew.vault.repository, context))


def _held(crew: RestoreCrew, restoring: Restoring) -> frozenset[int] | None:
    """The numbers of the drill's writes that are in it; None where it does not say."""
    database, table = crew.drill.request.database, crew.drill.request.table
    there = restoring.ask(database, f"SELECT to_regclass('\"{table}\"') IS NOT NULL")
    if there.ok and there.text != "t":
        return frozenset()
    run = crew.drill.request.run
    rows = restoring.ask(database, f"SELECT number FROM \"{table}\" WHERE run = '{run}'")  # noqa: S608  our own names
    if not (there.ok and rows.ok):
        crew.drill.uncounted = crew.drill.uncounted or f"the writes could not be counted: {(rows.text or there.text)}"
        return None
    return frozenset(int(line) for line in rows.text.splitlines())


def _checked(check: BackupCheck, found: Asked) -> Asked:
    """Whether a query gave what the document expects."""
    if not found.ok:
        return found
    if check.expect is not None:
        ok = found.text == check.expect
        return Asked(ok=ok, text=found.text if ok else f"it gives {found.text!r}, and {check.expect!r} is expected")
    try:
        ok = float(found.text) >= (check.at_least or 0)
    except ValueError:
        ok = False
    return Asked(ok=ok, text=found.text if ok else f"it gives {found.text!r}, and {check.at_least} is the least")


def _remove(crew: RestoreCrew) -> None:
    """Take everything away, whatever became of it, and say what is still there."""
    crew.removed = "; ".join(filter(None, [*_removed(crew), *remove_files(crew)]))
    crew.drill.notes.tried({"what": "removed", "ok": not crew.removed, "words": crew.removed})


def _removed(crew: RestoreCrew) -> Iterator[str]:
    host = crew.vault.restore.host
    try:
        restoring = _restoring(crew, None, calm=True)
        try:
            done = restoring.remove()
        finally:
            restoring.close()
    except IsmgrError as problem:
        yield f"what was restored on {host} may still be there: {problem.summary}"
        return
    if not done.ok:
        yield f"what was restored on {host} is still there: {done.words}"
