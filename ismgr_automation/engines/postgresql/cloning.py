"""A clone of a PostgreSQL standby on another host: copied through this process, promoted there, and removed. The copied
cluster notices a base backup and nothing else; the clone is set up so that it could reach nobody if it had a way."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic_ns

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.postgresql import cloned
from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.engines.ssh.piping import Pipe, carry
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Load, Loaded, Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.isolation import Answered, CloneRequest, CloneState
from ismgr_automation.ports.recovery import Acted, Reading
from ismgr_automation.ports.secrets import SecretStore

ROOM = 1.5
"""How many times the size of the databases must be free on the spare host: log and indexes being built come along."""
QUICK = timedelta(seconds=10)
"""In which a host must say how far a clone is."""
QUERY = timedelta(seconds=60)
"""In which a query of a check must end."""
_KIB = 1024


class PostgresqlClones:
    """Implements ``ports.isolation.Clones`` over SSH."""

    def __init__(self, store: SecretStore, layout: Layout | None = None) -> None:
        """Connects to nobody yet."""
        self._store = store
        self._layout = layout or Layout()

    def clone(self, request: CloneRequest, context: Context) -> PostgresqlClone:
        """Raises ``InputError`` for hosts that cannot be connected to by their description, or one that would be cloned
        onto itself or onto another member."""
        return PostgresqlClone(request, self._layout, self._store, context)


class PostgresqlClone:
    """Implements ``ports.isolation.Clone``."""

    def __init__(self, request: CloneRequest, layout: Layout, store: SecretStore, context: Context) -> None:
        """See ``PostgresqlClones.clone``."""
        if request.spare in request.cluster.fleet.names:
            raise InputError(f"{request.spare} is a member of the cluster: a clone belongs on a host of its own.")
        self._request = request
        self._context = context
        words = layout.arguments(request.cluster, request.source)
        self._source = words
        self._spare = (words[2], words[4], str(request.port))
        # a removal must not be stopped by what stopped the drill
        self._warm = Warm(request.fleet, store, threading.Event())
        self._warm.__enter__()
        self._loaded: dict[str, Loaded] = {}

    def stage(self) -> Mapping[str, Reading]:
        """Connect to both hosts, and see whether the copy could be made and would fit."""
        found = self._at_source(cloned.LOOK_AT_SOURCE)
        here = self._at_spare(cloned.LOOK)
        trouble = _trouble(found) or _trouble(here)
        if trouble:
            return {"trouble": trouble}
        said = json.loads(found.output)
        size, free = int(said["bytes"]), int(here.output.split()[1]) * _KIB
        readings: dict[str, Reading] = {
            "bytes": size,
            "position": int(said["position"]),
            "system": str(said["system"]),
            "standby": bool(said["standby"]),
        }
        if said["elsewhere"]:
            return {**readings, "trouble": f"{said['elsewhere']} tablespaces lie elsewhere, and would not be copied"}
        if free < ROOM * size:
            return {**readings, "trouble": f"{self._request.spare} has {free:,} bytes free for {size:,}"}
        for name, script in (("start", cloned.START), ("promote", cloned.PROMOTE), ("state", cloned.STATE)):
            self._ready(name, script)
        return readings

    def state(self) -> CloneState:
        """What the spare host says; UNKNOWN where it does not say anything."""
        answer = self._ready("state", cloned.STATE).go(QUICK)
        if _trouble(answer):
            return CloneState.UNKNOWN
        return CloneState(answer.output.strip())

    def take(self) -> Acted:
        """Copy and start."""
        if self._context.cancelled.is_set():
            raise Cancelled("The clone was not begun, on request.", untouched="Nothing was copied.")
        request, began = self._request, monotonic_ns()
        seconds = str(round(request.lifetime.total_seconds()))
        pipe = Pipe(
            source=request.source,
            writes=Load(script=cloned.COPY, arguments=self._source),
            target=request.spare,
            reads=Load(script=cloned.UNPACK, arguments=(*self._spare, seconds), input=("copy",)),
        )
        carried = carry(self._warm, pipe, request.deadline, self._context.cancelled)
        copied = monotonic_ns()
        if carried.trouble:
            return Acted(ok=False, began_ns=began, ended_ns=copied, words=f"it was not copied: {carried.trouble}")
        turns = round(request.deadline.total_seconds() * 20)
        started = self._ready("start", cloned.START).go(request.deadline, str(turns))
        ended = monotonic_ns()
        if trouble := _trouble(started):
            return Acted(ok=False, began_ns=began, ended_ns=ended, words=f"it was copied, and not started: {trouble}")
        readings: dict[str, Reading] = {
            "bytes": int(started.output) * _KIB,
            "carried": carried.size_bytes,
            "copy ms": round((copied - began) / 1e6, 1),
            "start ms": round((ended - copied) / 1e6, 1),
        }
        return Acted(ok=True, began_ns=began, ended_ns=ended, readings=readings)

    def promote(self) -> Acted:
        """Promote, polling every millisecond."""
        began = monotonic_ns()
        seconds = 0.9 * self._request.deadline.total_seconds()
        trouble = _trouble(self._ready("promote", cloned.PROMOTE).go(self._request.deadline, f"{seconds:.3f}"))
        return Acted(ok=not trouble, began_ns=began, ended_ns=monotonic_ns(), words=trouble)

    def ask(self, database: str, query: str) -> Answered:
        """Run a query as the clone's administrator, over its own socket."""
        answer = self._at_spare(cloned.ASK, database, query, str(round(QUERY.total_seconds())), within=QUERY + QUICK)
        trouble = _trouble(answer)
        return Answered(ok=not trouble, rows=answer.output.strip(), words=trouble)

    def remove(self) -> Acted:
        """End and remove it."""
        began = monotonic_ns()
        answer = self._at_spare(cloned.REMOVE, within=self._request.deadline)
        if answer.reach is not Reach.OK:
            answer = self._at_spare(cloned.REMOVE, within=self._request.deadline)
        trouble = _trouble(answer)
        return Acted(ok=not trouble, began_ns=began, ended_ns=monotonic_ns(), words=trouble)

    def close(self) -> None:
        """Let go of the connections."""
        self._warm.close()

    def _ready(self, name: str, script: str) -> Loaded:
        known = self._loaded.get(name)
        if known is None:
            known = self._warm.load(self._request.spare, Load(script=script, arguments=self._spare))
        elif known.lost is not None:
            known = known.anew()
        self._loaded[name] = known
        return known

    def _at_spare(self, script: str, *more: str, within: timedelta = QUICK) -> Answer:
        return self._warm.run(self._request.spare, script, (*self._spare, *more), within)

    def _at_source(self, script: str) -> Answer:
        return self._warm.run(self._request.source, script, self._source, QUICK)


def _trouble(answer: Answer) -> str:
    if answer.reach is not Reach.OK:
        return f"{answer.host} cannot be reached ({answer.reach}): {answer.detail}"
    return f"{answer.host}: {answer.detail or f'exit {answer.code}'}" if answer.code else ""
