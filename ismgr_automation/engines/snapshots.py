"""Snapshots of machines by a command that the estate names: one argument list, no shell, one verb at a time. Which host
has a snapshot, and when it is put back, is not decided here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.errors import EngineError, EngineMissing, InputError
from ismgr_automation.core.secret import Redactor
from ismgr_automation.engines import process
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import SnapshotRequest, SnapshotResult

ENGINE = "snapshots"
THERE = 3
"""How ``create`` ends when there is a snapshot of this name already, which it left as it is."""

_TAIL_CHARACTERS = 1000


class Verb(StrEnum):
    """What the command is asked for: its first word after its own."""

    CREATE = "create"
    RESTORE = "restore"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class CommandSnapshotter:
    """Implements ``ports.upkeep.Snapshotter``: ``COMMAND VERB HOST NAME``, with our environment and the secrets."""

    store: SecretStore

    def create(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Exit code 3 says that there was one already."""
        return self._call(Verb.CREATE, request, context)

    def restore(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Put it back."""
        return self._call(Verb.RESTORE, request, context)

    def remove(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Remove it."""
        return self._call(Verb.REMOVE, request, context)

    def _call(self, verb: Verb, request: SnapshotRequest, context: Context) -> SnapshotResult:
        if request.host.startswith("-"):
            return SnapshotResult(host=request.host, ok=False, detail="its name would be taken for an option")
        redactor = Redactor()
        try:
            opened = {name: redactor.learn(self.store.open(ref)).reveal() for name, ref in request.secrets.items()}
            done = process.run(
                (*request.command, verb.value, request.host, request.name),
                engine=ENGINE,
                subject=request.host,
                deadline=request.deadline,
                cwd=request.root,
                env={**os.environ, **opened},
                cancelled=context.cancelled,
                clean=redactor.clean,
                leash=context.leash,
            )
        except EngineMissing as problem:
            return SnapshotResult(host=request.host, ok=False, detail="; ".join(problem.found))
        except (EngineError, InputError) as problem:
            return _failed(request.host, problem.summary, problem.detail if isinstance(problem, EngineError) else "")
        there = verb is Verb.CREATE and done.code == THERE
        if done.code == 0 or there:
            return SnapshotResult(host=request.host, ok=True, there=there, seconds=done.seconds)
        said = redactor.clean(done.stderr.strip() or done.stdout.strip())
        return _failed(request.host, f"{verb} ended with {done.code}", said, done.seconds)


def _failed(host: str, why: str, said: str, seconds: float = 0.0) -> SnapshotResult:
    words = said.strip()[-_TAIL_CHARACTERS:]
    return SnapshotResult(host=host, ok=False, detail=f"{why}: {words}" if words else why, seconds=seconds)
