"""Writing a run down: entries in, chained and durable records out. What is not on disk has not been said."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.evidence.chain import Note, Record, follow, parse
from ismgr_automation.evidence.entries import Entry, Recovered, RunClosed, read_closed
from ismgr_automation.ports.evidence import NAMESPACE, Anchor, EvidenceLog, Head
from ismgr_automation.ports.signing import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How a run's records ended. ``key`` is the runner's public key, empty where nobody signs; ``anchored`` says where
    the head is remembered, empty where it is not. ``trouble`` is why a signature or an anchor is missing: what was done
    is done, so it is told and not raised."""

    head: Head
    key: str = ""
    anchored: str = ""
    trouble: tuple[str, ...] = ()


class Recorder(Protocol):
    """The evidence of one run. Safe to use from several threads."""

    def write(self, *entries: Entry) -> None:
        """Write entries, together and in this order. They are durable when this returns. Raises ``EngineError`` when
        they are not: then the effect that they tell of must not begin."""
        ...

    def ended(self) -> RunClosed | None:
        """The last record of this run, when it was closed already: then nothing more may be written. Raises
        ``EngineError`` when the records cannot be read."""
        ...

    def records(self) -> tuple[Record, ...]:
        """What is written of this run so far. Raises ``EngineError`` when it cannot be read."""
        ...

    def close(self, closed: RunClosed) -> Closing:
        """Write the last record, sign it, remember the head elsewhere, and let others write. Raises ``EngineError``
        when the record itself cannot be written."""
        ...

    def abandon(self) -> None:
        """Let others write, without an end: somebody else goes on with this run, or nothing had begun."""
        ...


@dataclass(slots=True, eq=False)
class _Batch:
    """Entries that wait, and what became of them. ``woken`` is set when they are done, or when whoever waits for them
    is to write all that wait by now (``leads``)."""

    notes: tuple[Note, ...]
    leads: bool = False
    done: bool = False
    problem: BaseException | None = None
    woken: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, kw_only=True)
class ChainRecorder:
    """``Recorder`` over a log. Threads that write at the same time share one call of the log, and so one fsync: one
    of them writes all that wait, the others find theirs done."""

    log: EvidenceLog
    environment: str
    run: str
    clock: Callable[[], datetime]
    signer: Signer | None = None
    anchor: Anchor | None = None
    _head: Head | None = None
    _waiting: list[_Batch] = field(default_factory=list)
    _queue: threading.Lock = field(default_factory=threading.Lock)
    _writing: bool = False
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def write(self, *entries: Entry) -> None:
        """See ``Recorder``."""
        now = self.clock()
        mine = _Batch(tuple(entry.at(now) for entry in entries))
        with self._queue:
            self._waiting.append(mine)
            mine.leads, self._writing = not self._writing, True
        try:
            if not mine.leads:
                mine.woken.wait()
            if not mine.done:
                with self._turn:
                    self._commit()
        finally:
            self._pass_on(mine)
        if mine.problem is not None:
            raise mine.problem

    def ended(self) -> RunClosed | None:
        """See ``Recorder``."""
        for line in self.log.read(self.run):
            if b'"run-closed"' in line and (found := _closed(line)) is not None:
                return found
        return None

    def records(self) -> tuple[Record, ...]:
        """See ``Recorder``. A line that is no record is left to the audit."""
        found: list[Record] = []
        for line in self.log.read(self.run):
            with suppress(ValueError):
                found.append(parse(line))
        return tuple(found)

    def close(self, closed: RunClosed) -> Closing:
        """See ``Recorder``."""
        trouble: list[str] = []
        with self._turn:
            self._commit()
            try:
                head, key = self._finish(closed, trouble)
            finally:
                self.log.close()
        anchored = ""
        if self.anchor is not None:
            try:
                anchored = self.anchor.put(self.environment, head, self.run)
            except IsmgrError as problem:
                trouble.append(f"the end of the evidence is remembered nowhere else: {problem}")
        return Closing(head=head, key=key, anchored=anchored, trouble=tuple(trouble))

    def abandon(self) -> None:
        """See ``Recorder``."""
        with self._turn:
            self.log.close()

    def _finish(self, closed: RunClosed, trouble: list[str]) -> tuple[Head, str]:
        """Sign what will be the last line, then write it; gives the head and the public key."""
        now = self.clock()
        head = self._head if self._head is not None else self._begin()
        signature = None
        if self.signer is not None:
            signed = replace(closed, signed=True).at(now)
            lines, after = follow(head, self.environment, self.run, [signed])
            try:
                signature = self.signer.sign(lines[-1], NAMESPACE)
            except IsmgrError as problem:
                trouble.append(f"the records of this run are not signed: {problem}")
        if signature is None:
            lines, after = follow(head, self.environment, self.run, [replace(closed, signed=False).at(now)])
        self._head = None
        self.log.append(self.run, lines, signature)
        return after, signature.key if signature is not None else ""

    def _commit(self) -> None:
        with self._queue:
            batches, self._waiting = self._waiting, []
        if not batches:
            return
        try:
            head = self._head if self._head is not None else self._begin()
            notes = [note for batch in batches for note in batch.notes]
            lines, after = follow(head, self.environment, self.run, notes)
            self.log.append(self.run, lines)
            self._head = after
        except BaseException as problem:
            # whoever waits for this batch must hear that it was not written; where the chain ends is asked again
            self._head = None
            for batch in batches:
                batch.problem = problem
            if not isinstance(problem, Exception):
                raise
        finally:
            for batch in batches:
                batch.done = True
                batch.woken.set()

    def _pass_on(self, mine: _Batch) -> None:
        """Who waits longest leads next, if it was us until now."""
        with self._queue:
            if not mine.done and mine in self._waiting:
                self._waiting.remove(mine)  # we were interrupted while we waited
            if mine.leads:
                self._writing = bool(self._waiting)
                for longest in self._waiting[:1]:
                    longest.leads = True
                    longest.woken.set()

    def _begin(self) -> Head:
        """The end of the chain as the log has it; half a line that was cut off is told first."""
        head = self.log.head()
        if head.cut_bytes:
            told = Recovered(cut_bytes=head.cut_bytes).at(self.clock())
            lines, head = follow(head, self.environment, self.run, [told])
            self.log.append(self.run, lines)
        return head


def _closed(text: bytes) -> RunClosed | None:
    """The end of a run, when this is the line that tells of it. A line that is none is left to the audit."""
    try:
        record = parse(text)
    except ValueError:
        return None
    if record.kind is not RunClosed.KIND:
        return None
    return read_closed(record.body)
