"""One restore of a database on a host: scratch folder, server, questions, and away with it. Each step is a script over
one connection; who dies in between leaves an order on the host to take everything away."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import timedelta

from ismgr_automation.engines.pgbackrest import scripts
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Warm
from ismgr_automation.ports.backups import Asked, RestoreRequest
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted, Reading
from ismgr_automation.ports.secrets import SecretStore

SHORT = timedelta(seconds=60)
GRACE = timedelta(seconds=5)
PROGRAMS = "/usr/lib/postgresql/{version}/bin"
"""Where Debian has them."""


@dataclass(slots=True)
class PgbackrestRestoring:
    """Implements ``ports.backups.Restoring``."""

    request: RestoreRequest
    store: SecretStore
    context: Context
    _warm: Warm | None = field(default=None)

    def prepare(self) -> Acted:
        """Order its end, make the folder."""
        seconds = str(max(1, round(self.request.deadline.total_seconds())))
        return self._act(scripts.PREPARE, str(self.request.need_bytes), seconds, within=SHORT)

    def restore(self) -> Acted:
        """``pgbackrest restore`` of the one backup."""
        began = time.monotonic_ns()
        answer = self._on(scripts.RESTORE, self.request.place.stanza, self.request.label, within=self.request.deadline)
        size = answer.output.strip()
        readings: dict[str, Reading] = {"bytes": int(size)} if size.isdigit() else {}
        return _acted(answer, began, readings)

    def recover(self) -> Acted:
        """Start it, replay all."""
        programs = PROGRAMS.format(version=self.request.version)
        seconds = str(max(1, round(self.request.deadline.total_seconds())))
        settings = [word for name, value in self.request.settings.items() for word in ("-c", f"{name}={value}")]
        began = time.monotonic_ns()
        answer = self._on(scripts.RECOVER, programs, seconds, *settings, within=self.request.deadline + GRACE)
        readings: dict[str, Reading] = {}
        if answer.reach is Reach.OK and not answer.code:
            said, _, log = answer.output.partition("\n")
            readings = {**json.loads(said), "log": log.strip()}
        return _acted(answer, began, readings)

    def isolated(self) -> Asked:
        """Ask the kernel for the sockets of its processes."""
        answer = self._on(scripts.ISOLATED, within=SHORT)
        if answer.code or answer.reach is not Reach.OK:
            return Asked(ok=False, text=answer.detail or str(answer.reach))
        return Asked(ok=True, text=f"none of its {answer.output.strip()} processes has a network socket")

    def ask(self, database: str, query: str) -> Asked:
        """By psql, over its socket."""
        answer = self._on(scripts.ASK, database, query, within=self.request.deadline)
        ok = answer.reach is Reach.OK and not answer.code
        return Asked(ok=ok, text=answer.output.strip() if ok else answer.detail or str(answer.reach))

    def sound(self) -> Asked:
        """``pg_amcheck`` of all databases."""
        answer = self._on(scripts.SOUND, PROGRAMS.format(version=self.request.version), within=self.request.deadline)
        ok = answer.reach is Reach.OK and not answer.code
        return Asked(ok=ok, text="" if ok else answer.detail or str(answer.reach))

    def remove(self) -> Acted:
        """Stop and remove all, and look."""
        return self._act(scripts.REMOVE, within=SHORT)

    def close(self) -> None:
        """Hang up."""
        if self._warm is not None:
            self._warm.close()
            self._warm = None

    def _act(self, script: str, *words: str, within: timedelta) -> Acted:
        began = time.monotonic_ns()
        return _acted(self._on(script, *words, within=within), began, {})

    def _on(self, script: str, *words: str, within: timedelta) -> Answer:
        place = self.request.place
        if self._warm is None:
            self._warm = Warm(place.fleet, self.store, self.context.cancelled)
            self._warm.__enter__()
        return self._warm.run(place.host, script, (self.request.folder, self.request.run, *words), within)


def _acted(answer: Answer, began: int, readings: dict[str, Reading]) -> Acted:
    ok = answer.reach is Reach.OK and not answer.code
    words = (
        "" if ok else answer.detail or (str(answer.reach) if answer.reach is not Reach.OK else "it did not end well")
    )
    return Acted(ok=ok, began_ns=began, ended_ns=time.monotonic_ns(), words=words, readings=readings)
