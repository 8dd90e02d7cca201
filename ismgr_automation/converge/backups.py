"""Backups as they are now: looked at, and made. What is too old, or not there at all, is told as trouble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ismgr_automation.converge.drill_field import field_of
from ismgr_automation.converge.drill_vault import Vault, vault_of
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import Cancelled, EngineFailed, IsmgrError
from ismgr_automation.core.events import StepReported
from ismgr_automation.estate.recovery import FilesBackup
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.backups import BackupKind, Catalogue, FilesPlace
from ismgr_automation.ports.recovery import Acted

DATABASE = "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStatus:
    """One backup that there should be: of a database, or of files (``what`` is their name). ``age``: of the newest
    write that should be restorable, ``allowed`` what the recovery plan allows."""

    plan: str
    what: str
    host: str
    allowed: timedelta
    full_at: datetime | None = None
    last_at: datetime | None = None
    label: str = ""
    age: timedelta | None = None
    stored_bytes: int = 0
    cipher: str = ""
    wal_last: str = ""
    trouble: str = ""


def backup_status(scope: Scope, name: str = "") -> tuple[BackupStatus, ...]:
    """The backups of one recovery plan, or of all that have some. Raises ``InputError``, ``Cancelled``; a repository
    that cannot be asked is trouble."""
    ground = whole_ground(scope)
    names = [name] if name else [key for key, one in scope.estate.recoveries.items() if one.backup is not None]
    found: list[BackupStatus] = []
    for each in sorted(names):
        vault = vault_of(scope, ground, field_of(scope, ground, each))
        found.append(_database(scope, each, vault))
        found += [_files(scope, each, document, place) for document, place in vault.files]
    return tuple(found)


def take_backup(scope: Scope, name: str, kind: BackupKind) -> tuple[Acted, ...]:
    """Make a backup of everything that a recovery plan has some of: the database first. Raises ``EngineFailed`` for
    one that was not made, with what was."""
    ground = whole_ground(scope)
    vault = vault_of(scope, ground, field_of(scope, ground, name))
    done: list[Acted] = []
    for what, host, acted in _taken(scope, vault, kind):
        if not acted.ok:
            raise EngineFailed(
                f"No backup of {what} on {host} was made: {acted.words}.",
                engine="backup",
                subject=host,
                untouched=f"{len(done)} others were made." if done else "No backup was made.",
                next_step=f"`ismgr backup status {name}` says what there is.",
            )
        seconds = (acted.ended_ns - acted.began_ns) / 1e9
        scope.context.emit(StepReported(step=f"backup of {what}", detail=f"on {host}", seconds=seconds))
        done.append(acted)
    return tuple(done)


def _taken(scope: Scope, vault: Vault, kind: BackupKind) -> Iterator[tuple[str, str, Acted]]:
    engines, context = scope.engines.recovery, scope.context
    yield vault.document.stanza, vault.repository.host, engines.backups.take(vault.repository, kind, context)
    for document, place in vault.files:
        yield f"files {document.name}", place.host, engines.file_backups.take(place, context)


def _database(scope: Scope, name: str, vault: Vault) -> BackupStatus:
    place, allowed = vault.repository, duration(vault.document.fresh)
    try:
        found = scope.engines.recovery.backups.read(place, scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        return BackupStatus(plan=name, what=DATABASE, host=place.host, allowed=allowed, trouble=problem.summary)
    latest, full = found.latest, found.last(BackupKind.FULL)
    return BackupStatus(
        plan=name,
        what=DATABASE,
        host=place.host,
        allowed=allowed,
        full_at=full.ended_at if full is not None else None,
        last_at=latest.ended_at if latest is not None else None,
        label=latest.label if latest is not None else "",
        age=found.age,
        stored_bytes=latest.stored_bytes if latest is not None else 0,
        cipher=found.cipher,
        wal_last=found.wal_last,
        trouble="; ".join(_troubles(found, allowed)),
    )


def _troubles(found: Catalogue, allowed: timedelta) -> Iterator[str]:
    if found.trouble:
        yield found.trouble
    if found.latest is None:
        yield "there is no backup"
    elif found.latest.broken:
        yield f"pages had wrong checksums when {found.latest.label} was made"
    if found.age is not None and found.age > allowed:
        yield f"the newest write is {_seconds(found.age)} old"


def _files(scope: Scope, name: str, document: FilesBackup, place: FilesPlace) -> BackupStatus:
    allowed = duration(document.fresh)
    try:
        found = scope.engines.recovery.file_backups.read(place, scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        return BackupStatus(plan=name, what=document.name, host=place.host, allowed=allowed, trouble=problem.summary)
    trouble = "" if found.snapshots else "there is no snapshot"
    if found.age is not None and found.age > allowed:
        trouble = f"the newest snapshot is {_seconds(found.age)} old"
    newest = found.snapshots[-1] if found.snapshots else None
    return BackupStatus(
        plan=name,
        what=document.name,
        host=place.host,
        allowed=allowed,
        last_at=newest.at if newest is not None else None,
        label=newest.id if newest is not None else "",
        age=found.age,
        trouble=trouble,
    )


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


def troubled(found: Sequence[BackupStatus]) -> bool:
    """Whether any of them is not as it should be."""
    return any(one.trouble for one in found)
