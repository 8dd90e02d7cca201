"""Asks pgBackRest on a host, over connections of its own. What it answers is read in ``reading``."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import timedelta

from ismgr_automation.core.errors import EngineFailed, InputError, Unreachable
from ismgr_automation.engines.pgbackrest import scripts
from ismgr_automation.engines.pgbackrest.reading import ENGINE, archived_at, catalogue_of, verified
from ismgr_automation.engines.pgbackrest.restoring import PgbackrestRestoring
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.backups import Asked, BackupKind, Catalogue, Place, RestoreRequest
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted
from ismgr_automation.ports.secrets import SecretStore

SHORT = timedelta(seconds=60)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class PgbackrestBackups:
    """Implements ``ports.backups.Backups``."""

    store: SecretStore

    def read(self, place: Place, context: Context) -> Catalogue:
        """``info``, and the time of the newest segment from the listing of its folder."""
        answer = self._on(place, scripts.INFO, context, deadline=min(SHORT, place.deadline))
        if answer.code:
            raise EngineFailed(
                f"pgBackRest on {place.host} does not say what it has of {place.stanza}: {answer.detail}.",
                engine=ENGINE,
                subject=place.host,
                next_step="The role backup keeps its configuration; run `pgbackrest info` there as postgres.",
            )
        catalogue, folder = catalogue_of(answer.output, place.stanza)
        if not folder:
            return catalogue
        listed = self._on(place, scripts.LIST, context, folder, deadline=min(SHORT, place.deadline))
        return replace(catalogue, newest_at=None if listed.code else archived_at(listed.output, catalogue.wal_last))

    def take(self, place: Place, kind: BackupKind, context: Context) -> Acted:
        """``backup``."""
        began = time.monotonic_ns()
        answer = self._on(place, scripts.TAKE, context, str(kind))
        ended = time.monotonic_ns()
        return Acted(ok=answer.code == 0, began_ns=began, ended_ns=ended, words=answer.detail)

    def verify(self, place: Place, context: Context) -> Asked:
        """``verify``."""
        answer = self._on(place, scripts.VERIFY, context)
        trouble = verified(answer.output) if answer.output else answer.detail or "verify said nothing"
        return Asked(ok=not trouble and answer.code == 0, text=trouble or answer.detail)

    def restoring(self, request: RestoreRequest, context: Context) -> PgbackrestRestoring:
        """Begins nothing. Raises ``InputError`` for names that could be taken for more."""
        for what, word in (("run", request.run), ("backup", request.label), ("version", request.version)):
            if word and not _NAME.fullmatch(word):
                raise InputError(f"{word!r} cannot be the name of a {what}.")
        return PgbackrestRestoring(request, self.store, context)

    def _on(
        self, place: Place, script: str, context: Context, *words: str, deadline: timedelta | None = None
    ) -> Answer:
        if not _NAME.fullmatch(place.stanza):
            raise InputError(f"{place.stanza!r} cannot be the name of a stanza.")
        job = Job(
            script=script,
            arguments=(place.stanza, *words),
            rights=Rights.ROOT,
            become_password=place.fleet.become_password,
            deadline=deadline or place.deadline,
        )
        targets = Targets(hosts=place.fleet.hosts, names=(place.host,), ssh=place.fleet.ssh)
        (answer,) = run_on(targets, job, self.store, context.cancelled)
        if answer.reach is not Reach.OK:
            raise Unreachable(
                f"{place.host} cannot be asked about its backups: {answer.detail or answer.reach}.",
                engine=ENGINE,
                subject=place.host,
                cause=str(answer.reach),
                next_step="Mend the way to it; `ismgr backup status` asks again.",
            )
        return answer
