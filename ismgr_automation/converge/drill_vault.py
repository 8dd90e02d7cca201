"""Where the backups of a recovery plan lie and are restored: hosts behind its groups and sites. Touches nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ismgr_automation.converge.drill_field import Field
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.recovery import BackupDocument, FilesBackup, RecoveryPlan
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.backups import FilesPlace, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Backups of one recovery plan, by place. ``files`` are the documents with theirs."""

    document: BackupDocument
    repository: Place
    restore: Place
    files: tuple[tuple[FilesBackup, FilesPlace], ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that is worked on, each once."""
        return tuple(dict.fromkeys([self.restore.host, self.repository.host, *(one.host for _, one in self.files)]))


def vault_of(scope: Scope, ground: Ground, field: Field) -> Vault:
    """Where a recovery plan's backups lie. Raises ``InputError`` for a plan without, or whose groups do not have one
    host at the site."""
    name, backup = field.document.name, field.document.backup
    if backup is None:
        raise InputError(
            f"recovery/{name} says nothing about backups.",
            next_step="Add `backup: {stanza: NAME}` to it, and the role backup to its databases.",
        )
    find = _finder(ground, name)
    repository, restore, *keepers = (find(*one) for one in seats_of(field.document, backup))
    deadline = duration(backup.deadline)

    def place(host: str) -> Place:
        return Place(fleet=at_hand(scope, ground.fleet, [host]), host=host, stanza=backup.stanza, deadline=deadline)

    files = []
    for one, host in zip(backup.files, keepers, strict=True):
        fleet = at_hand(scope, ground.fleet, [host])
        files.append((one, FilesPlace(fleet=fleet, host=host, settings=one.settings, deadline=deadline)))
    return Vault(document=backup, repository=place(repository), restore=place(restore), files=tuple(files))


def seats_of(document: RecoveryPlan, backup: BackupDocument) -> Iterator[tuple[str, str]]:
    """Group and site of each host that a restore works on: of the repository, of who restores, and of each of the
    files, in this order."""
    site, holder = backup.site or document.sites.away, backup.group or document.cluster
    yield holder, site
    yield backup.restore_on or holder, site
    for one in backup.files:
        yield one.group, one.site or document.sites.home


def _finder(ground: Ground, name: str) -> Callable[[str, str], str]:
    sites = {one.name: one.site for one in ground.fleet.hosts}

    def find(group: str, site: str) -> str:
        here = [one for one in ground.fleet.membership.get(group, ()) if sites[one] == site]
        if len(here) != 1:
            raise InputError(
                f"group/{group} has {len(here) or 'no'} hosts at site {site}, and the backup of recovery/{name} wants "
                "one there.",
                next_step="Name another group or site in its `backup`.",
            )
        return here[0]

    return find
