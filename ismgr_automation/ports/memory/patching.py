"""What is remembered between patch runs, in memory: since when versions are known, readings of hosts, the queue, what
was done. Nothing is written anywhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.events import Emit, StepReported
from ismgr_automation.ports.packages import HostFacts
from ismgr_automation.ports.patching import Exchanged, Patched, VersionKey, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFirstSeen:
    """``ports.patching.FirstSeen``; put a time into ``entries`` to say that a version was seen then."""

    entries: dict[VersionKey, datetime] = field(default_factory=dict)
    remotes: dict[str, dict[VersionKey, datetime]] = field(default_factory=dict)
    """What others saw, by the name of a remote."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, keys: Sequence[VersionKey]) -> Mapping[VersionKey, datetime]:
        """Those that are there."""
        with self.lock:
            return {key: self.entries[key] for key in keys if key in self.entries}

    def ever(self, sources: Sequence[str]) -> Mapping[VersionKey, datetime]:
        """All that is there of them."""
        wanted = frozenset(sources)
        with self.lock:
            return {key: at for key, at in self.entries.items() if key.source in wanted}

    def see(self, keys: Sequence[VersionKey], now: datetime) -> int:
        """Add those that are not there."""
        with self.lock:
            new = [key for key in dict.fromkeys(keys) if key not in self.entries]
            self.entries.update(dict.fromkeys(new, now))
            return len(new)

    def everything(self) -> Mapping[VersionKey, datetime]:
        """All that is there."""
        with self.lock:
            return dict(self.entries)

    def exchange(self, remote: str, emit: Emit) -> Exchanged:
        """Both have the union with the earlier times."""
        if remote not in self.remotes:
            raise SettingsError(f"There is no remote {remote!r}.", next_step="Put one into ``remotes``.")
        there = self.remotes[remote]
        emit(StepReported(step="exchange", detail=remote))
        with self.lock:
            both = {**self.entries, **{key: min(at, self.entries.get(key, at)) for key, at in there.items()}}
            found = Exchanged(taken=len(both.items() - self.entries.items()), given=len(both.items() - there.items()))
            self.entries.update(both)
            there.update(both)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPatchStore:
    """``ports.patching.PatchStore``; ``readings`` and ``queue`` are by host, ``done`` by run and host."""

    readings: dict[str, HostFacts] = field(default_factory=dict)
    queue: dict[str, Waiting] = field(default_factory=dict)
    done: dict[tuple[str, str], Patched] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def facts(self, hosts: Sequence[str] | None = None) -> Mapping[str, HostFacts]:
        """The last reading of each."""
        with self.lock:
            wanted = self.readings if hosts is None else hosts
            return {host: self.readings[host] for host in sorted(set(wanted)) if host in self.readings}

    def keep_facts(self, facts: Sequence[HostFacts]) -> None:
        """Keep readings, unless there is a later one."""
        with self.lock:
            for one in facts:
                before = self.readings.get(one.host, one)
                self.readings[one.host] = one if one.read_at >= before.read_at else before

    def waiting(self) -> tuple[Waiting, ...]:
        """The longest waiting first."""
        with self.lock:
            return tuple(sorted(self.queue.values(), key=lambda one: (one.since, one.host)))

    def enqueue(self, waiting: Sequence[Waiting]) -> None:
        """Who is there already stays as it is."""
        with self.lock:
            for one in waiting:
                self.queue.setdefault(one.host, one)

    def dequeue(self, hosts: Sequence[str]) -> None:
        """Take them out."""
        with self.lock:
            for host in hosts:
                self.queue.pop(host, None)

    def patched(self, host: str | None = None, limit: int = 200, *, run: str | None = None) -> tuple[Patched, ...]:
        """The newest first."""
        with self.lock:
            mine = [one for one in self.done.values() if host in {None, one.host} and run in {None, one.run}]
            # the latest run first, its hosts by name
            mine.sort(key=lambda one: one.host)
            mine.sort(key=lambda one: (one.at, one.run), reverse=True)
            return tuple(mine[:limit])

    def keep_patched(self, patched: Sequence[Patched]) -> None:
        """Keep them, instead of what the same run said of the same host."""
        with self.lock:
            self.done.update({(one.run, one.host): one for one in patched})

    def durations(self, host: str, limit: int = 50) -> tuple[timedelta, ...]:
        """The newest first."""
        return tuple(one.took for one in self.patched(host, limit))
