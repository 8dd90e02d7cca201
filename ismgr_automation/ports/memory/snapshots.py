"""Snapshots of the hosts of a world in memory: what a machine has installed, copied aside and put back."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.package_world import MemoryMachine, MemoryPackageWorld
from ismgr_automation.ports.memory.packages import MemoryRestarter
from ismgr_automation.ports.upkeep import SnapshotRequest, SnapshotResult


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshots:
    """``ports.upkeep.Snapshotter``; calls are noted in the world as ``snapshot create web1``."""

    world: MemoryPackageWorld
    kept: dict[tuple[str, str], MemoryMachine] = field(default_factory=dict)
    """By host and name."""
    fails: set[str] = field(default_factory=set)
    """Calls that end badly: ``create web1``."""
    requests: list[SnapshotRequest] = field(default_factory=list)
    """Everything that was asked, in order."""

    def create(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Copy the machine, unless there is a copy of this name."""
        return self._call("create", request, context)

    def restore(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Put the copy back, in a new life; also of a machine that did not come back from a restart."""
        return self._call("restore", request, context)

    def remove(self, request: SnapshotRequest, context: Context) -> SnapshotResult:
        """Forget the copy."""
        return self._call("remove", request, context)

    def _call(self, verb: str, request: SnapshotRequest, context: Context) -> SnapshotResult:
        name, key = request.host, (request.host, request.name)
        with self.world.lock:
            self.world.called(f"snapshot {verb}", name, context)
            self.requests.append(request)
            if f"{verb} {name}" in self.fails:
                return SnapshotResult(host=name, ok=False, detail=f"{verb} ended with 1: no room")
            if verb == "create" and key in self.kept:
                return SnapshotResult(host=name, ok=True, there=True)
            if verb == "create":
                self.kept[key] = deepcopy(self.world.machines[name])
            elif verb == "remove":
                self.kept.pop(key, None)
            elif key not in self.kept:
                return SnapshotResult(host=name, ok=False, detail="restore ended with 1: there is none")
            else:
                self._put_back(name, self.kept[key])
            return SnapshotResult(host=name, ok=True)

    def _put_back(self, name: str, copy: MemoryMachine) -> None:
        machine = self.world.machines[name]
        before = deepcopy(copy)
        machine.installed.clear()
        machine.installed.update(before.installed)
        machine.lists[:], machine.reads[:] = before.lists, before.reads
        for mine, its in ((machine.pins, before.pins), (machine.fences, before.fences), (machine.made, before.made)):
            mine.clear()
            mine.update(its)  # type: ignore[arg-type]
        machine.kept.clear()
        machine.kept.update(before.kept)
        self.world.stays_down.discard(name)
        MemoryRestarter(self.world).begin_life(name)
