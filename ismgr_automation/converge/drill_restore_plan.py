"""Planning a drill of mode ``restore``: which backup would be restored where, and what would be asked of it. The
repository is looked at, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_planned import Rehearsal, planned
from ismgr_automation.converge.drill_vault import Vault, vault_of
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import recovery
from ismgr_automation.core.errors import Cancelled, IsmgrError
from ismgr_automation.core.json import Json
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.change import Action, Finding, Level, Step
from ismgr_automation.planning.plan import URGENT, Plan
from ismgr_automation.recovery.restoring import LOOK, PREPARE, RECOVER, RESTORE


def plan_restore(scope: Scope, now: datetime, name: str, *, urgent: str = "") -> Plan:
    """What a restore would do. Raises ``InputError`` for a recovery plan that there is not, or without a backup."""
    ground = whole_ground(scope)
    field = field_of(scope, ground, name)
    vault = vault_of(scope, ground, field)
    rehearsal = Rehearsal(
        name=name,
        mode=DrillMode.RESTORE,
        steps=tuple(_steps(vault)),
        hosts=vault.hosts,
        findings=tuple(_findings(scope, field, vault)),
        said={URGENT: urgent},
    )
    return planned(rehearsal, scope, ground, now)


def _steps(vault: Vault) -> Iterator[Step]:
    backup, place = vault.document, vault.restore
    rows: list[tuple[str, str, dict[str, Json]]] = [
        (vault.repository.host, LOOK, {"stanza": backup.stanza}),
        (place.host, PREPARE, {"removed_after": backup.deadline}),
        (place.host, RESTORE, {"stanza": backup.stanza, "which": "the newest"}),
        (place.host, RECOVER, {"to": "the end of the archive"}),
    ]
    rows += [(place.host, f"check {one.name}", {"query": one.query}) for one in backup.checks]
    rows += [(of.host, f"files {one.name}", {"which": "the newest"}) for one, of in vault.files]
    rows.append((place.host, "remove", {}))
    for target, what, after in rows:
        yield Step(
            target=target,
            what=f"restore: {what}",
            action=Action.CONFIGURE,
            why="",
            before=None,
            after={"do": what, **after},
        )


def _findings(scope: Scope, field: Field, vault: Vault) -> Iterator[Finding]:
    """What stands against it. It is no refusal: a drill that finds no backup has found something."""
    subject, place = recovery(field.document.name), vault.repository
    step = "The drill will fail, and say so in its report."
    try:
        found = scope.engines.recovery.backups.read(place, scope.context)
    except Cancelled:
        raise
    except IsmgrError as problem:
        yield Finding(level=Level.WARN, subject=subject, summary=problem.summary, next_step=step)
        return
    latest = found.latest
    if found.trouble or latest is None:
        words = found.trouble or f"there is no backup of {place.stanza} on {place.host}"
        yield Finding(level=Level.WARN, subject=subject, summary=words, next_step=step)
        return
    words = f"{latest.label} of {latest.ended_at:%Y-%m-%d %H:%M} UTC would be restored on {vault.restore.host}"
    yield Finding(level=Level.ADVISE, subject=subject, summary=words)
