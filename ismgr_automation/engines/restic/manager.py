"""Asks restic on the host whose files it keeps, with that host's own settings: no password comes by here."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.errors import EngineFailed, InputError, Unreachable
from ismgr_automation.engines.restic import scripts
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.backups import Asked, Compared, FilesCatalogue, FilesPlace, Snapshot
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted
from ismgr_automation.ports.secrets import SecretStore

ENGINE = "restic"
FOLDER = "/var/lib/ismgr/restore"
SHORT = timedelta(seconds=60)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


@dataclass(frozen=True, slots=True)
class ResticBackups:
    """Implements ``ports.backups.FileBackups``."""

    store: SecretStore

    def read(self, place: FilesPlace, context: Context) -> FilesCatalogue:
        """``snapshots`` of this host that the role made."""
        answer = ask(place, self.store, context, scripts.READ, place.settings, place.host, within=SHORT)
        if answer.reach is not Reach.OK:
            raise Unreachable(
                f"{place.host} cannot be asked about its files' backups: {answer.detail or answer.reach}.",
                engine=ENGINE,
                subject=place.host,
                cause=str(answer.reach),
                next_step="Mend the way to it; `ismgr backup status` asks again.",
            )
        if answer.code:
            raise EngineFailed(
                f"restic on {place.host} does not say what it has: {answer.detail}.",
                engine=ENGINE,
                subject=place.host,
                next_step=f"The role backup keeps {place.settings} there.",
            )
        return files_catalogue(answer.output)

    def take(self, place: FilesPlace, context: Context) -> Acted:
        """Start the role's own service."""
        began = time.monotonic_ns()
        answer = ask(place, self.store, context, scripts.TAKE, within=place.deadline)
        return acted(answer, began)

    def restoring(
        self, place: FilesPlace, snapshot: Snapshot, run: str, deadline: timedelta, context: Context
    ) -> ResticRestoring:
        """Begins nothing. Raises ``InputError`` for names that could be taken for more."""
        for what, word in (("run", run), ("snapshot", snapshot.id)):
            if not _WORD.fullmatch(word):
                raise InputError(f"{word!r} cannot be the name of a {what}.")
        return ResticRestoring(place, snapshot, run, deadline, self.store, context)


@dataclass(frozen=True, slots=True)
class ResticRestoring:
    """Implements ``ports.backups.FilesRestoring``."""

    place: FilesPlace
    snapshot: Snapshot
    run: str
    deadline: timedelta
    store: SecretStore
    context: Context

    def read_all(self) -> Asked:
        """``check --read-data``."""
        answer = self._on(scripts.CHECK)
        ok = answer.reach is Reach.OK and not answer.code
        return Asked(ok=ok, text="" if ok else answer.detail or str(answer.reach))

    def restore(self) -> Acted:
        """``restore --verify``."""
        began = time.monotonic_ns()
        seconds = str(max(1, round(self.deadline.total_seconds())))
        return acted(self._on(scripts.RESTORE, self.snapshot.id, seconds), began)

    def compare(self) -> Compared:
        """By SHA-256."""
        answer = self._on(scripts.COMPARE, self.snapshot.at.isoformat())
        lines = answer.output.splitlines()
        if answer.reach is not Reach.OK or answer.code or len(lines) < 3:  # noqa: PLR2004  files, bytes, same
            return Compared(ok=False, words=answer.detail or "the restored files could not be read")
        differ = tuple(line.removeprefix("differs ") for line in lines[2:] if line.startswith("differs "))
        return Compared(
            ok=not differ,
            words=f"{differ[0]} is not what is in use, and nobody has written to it since" if differ else "",
            files=int(lines[0]),
            size_bytes=int(lines[1]),
            same=int(lines[-1].removeprefix("same ")),
            differ=differ,
        )

    def remove(self) -> Acted:
        """Stop and remove all, and look."""
        began = time.monotonic_ns()
        return acted(self._on(scripts.REMOVE), began)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _on(self, script: str, *words: str) -> Answer:
        given = (self.place.settings, FOLDER, self.run, *words)
        return ask(self.place, self.store, self.context, script, *given, within=self.deadline)


def files_catalogue(text: str) -> FilesCatalogue:
    """From a line with the host's time and the JSON of ``snapshots``. Raises ``EngineFailed``."""
    clock, _, body = text.partition("\n")
    try:
        found = [
            # restic writes nanoseconds
            Snapshot(
                id=one["short_id"],
                at=datetime.fromisoformat(_FRACTION.sub(r".\1", one["time"])).astimezone(UTC),
                paths=tuple(one["paths"]),
            )
            for one in json.loads(body) or []
        ]
        read_at = datetime.fromtimestamp(float(clock), UTC)
    except (ValueError, KeyError, TypeError) as problem:
        raise EngineFailed(
            f"What restic says of its snapshots cannot be read: {problem!r}.",
            engine=ENGINE,
            subject="restic",
            next_step="Look at `restic snapshots --json` there; version 0.14 is known.",
            detail=text[:500],
        ) from None
    return FilesCatalogue(read_at=read_at, snapshots=tuple(sorted(found, key=lambda one: one.at)))


def ask(place: FilesPlace, store: SecretStore, context: Context, script: str, *words: str, within: timedelta) -> Answer:
    """One script on the host, as root."""
    job = Job(
        script=script,
        arguments=words,
        rights=Rights.ROOT,
        become_password=place.fleet.become_password,
        deadline=within,
    )
    targets = Targets(hosts=place.fleet.hosts, names=(place.host,), ssh=place.fleet.ssh)
    (answer,) = run_on(targets, job, store, context.cancelled)
    return answer


def acted(answer: Answer, began: int) -> Acted:
    """What a script did."""
    ok = answer.reach is Reach.OK and not answer.code
    words = (
        "" if ok else answer.detail or (str(answer.reach) if answer.reach is not Reach.OK else "it did not end well")
    )
    return Acted(ok=ok, began_ns=began, ended_ns=time.monotonic_ns(), words=words)
