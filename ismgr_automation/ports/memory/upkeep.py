"""A load balancer, a replicated database and management controllers in memory, over a small world of states and of what
goes wrong. Nothing is drained, switched or restarted anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from ismgr_automation.core.errors import Cancelled, EngineFailed, Unreachable
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.upkeep import (
    BmcAccess,
    Cluster,
    ClusterMember,
    Drained,
    FirmwareItem,
    FirmwareResult,
    FirmwareUpdate,
    Part,
    Pool,
    Switched,
)

READY, DRAIN = "ready", "drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUpkeepWorld:
    """All that there is. ``answers`` says whether a balancer, member or BMC can be reached; ``MemoryWorld.answer``
    fits."""

    answers: Callable[[str], Reach] = lambda _: Reach.OK
    servers: dict[tuple[str, str], str] = field(default_factory=dict)
    """The administrative state of a server (``web/web1``) on a balancer, ``ready`` where it is not named."""
    ours: set[tuple[str, str]] = field(default_factory=set)
    """Balancers and servers that were drained through the double, and not by somebody else."""
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)
    """Sessions that do not end before the deadline, by balancer and server."""
    unhealthy: set[str] = field(default_factory=set)
    """Servers that no balancer finds healthy."""
    parts: dict[str, Part] = field(default_factory=dict)
    """What each member of a cluster is."""
    lagging: set[str] = field(default_factory=set)
    """Standbys that do not stream."""
    stuck: set[str] = field(default_factory=set)
    """Old primaries that do not come up again as standbys."""
    firmware: dict[str, dict[str, str]] = field(default_factory=dict)
    """Versions by machine and component."""
    at_next_boot: set[str] = field(default_factory=lambda: {"BIOS"})
    """Components that need the machine restarted."""
    keeps: set[tuple[str, str]] = field(default_factory=set)
    """Machines and components whose update says that it is complete, and is not."""
    cycled: list[str] = field(default_factory=list)
    """Machines that were power-cycled, in order."""
    restarted: list[str] = field(default_factory=list)
    """Machines whose operating system was asked to restart, in order."""
    faults: dict[str, BaseException] = field(default_factory=dict)
    """Raised when the call of this name is made: ``drain web/web1``, ``switchover db2``, ``update db1``."""
    calls: list[str] = field(default_factory=list)
    """Everything that was asked, in order."""
    watch: list[Callable[[str], None]] = field(default_factory=list)
    """Called with each call before it is made: the place to cancel or to move the world in the middle of a run."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def called(self, verb: str, name: str, context: Context) -> None:
        """Note a call and raise its fault, if it has one, or ``Cancelled``."""
        text = f"{verb} {name}"
        self.calls.append(text)
        for one in self.watch:
            one(text)
        if context.cancelled.is_set():
            raise Cancelled(f"{text} was stopped.", next_step="Run it again.")
        if text in self.faults:
            raise self.faults[text]

    def primaries(self) -> list[str]:
        """Who takes writes; never more than one, unless the test made it so."""
        return [name for name, part in self.parts.items() if part is Part.PRIMARY]


@dataclass(frozen=True, slots=True)
class MemoryBalancer:
    """``ports.upkeep.Balancer``."""

    world: MemoryUpkeepWorld

    def drain(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """Send the server nothing new; ``MemoryUpkeepWorld.sessions`` are cut off."""
        return self._each("drain", pool, context, self._drain)

    def restore(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """Put back what was drained through this double."""
        return self._each("restore", pool, context, self._restore)

    def states(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """The administrative states."""
        return self._each("states", pool, context, lambda _key, found: found)

    def _each(
        self, verb: str, pool: Pool, context: Context, act: Callable[[tuple[str, str], Drained], Drained]
    ) -> tuple[Drained, ...]:
        server = f"{pool.backend}/{pool.server}"
        with self.world.lock:
            self.world.called(verb, server, context)
            return tuple(self._one(name, server, act) for name in pool.fleet.names)

    def _one(self, name: str, server: str, act: Callable[[tuple[str, str], Drained], Drained]) -> Drained:
        reach = self.world.answers(name)
        if reach is not Reach.OK:
            return Drained(balancer=name, ok=False, detail=f"cannot be reached ({reach})")
        before = self.world.servers.get((name, server), READY)
        return act((name, server), Drained(balancer=name, ok=True, before=before))

    def _drain(self, key: tuple[str, str], found: Drained) -> Drained:
        if key in self.world.ours and found.before == DRAIN:
            return replace(found, before=READY)
        if found.before == READY:
            self.world.servers[key] = DRAIN
            self.world.ours.add(key)
            return replace(found, sessions=self.world.sessions.pop(key, 0))
        return replace(found, detail=_foreign(found.before))

    def _restore(self, key: tuple[str, str], found: Drained) -> Drained:
        if found.before != READY and not (key in self.world.ours and found.before == DRAIN):
            return replace(found, detail=_foreign(found.before))
        self.world.servers[key] = READY
        self.world.ours.discard(key)
        if key[1].partition("/")[2] in self.world.unhealthy:
            return replace(found, ok=False, detail="it is ready, and its check says DOWN")
        return found


@dataclass(frozen=True, slots=True)
class MemoryCluster:
    """``ports.upkeep.ClusterManager``."""

    world: MemoryUpkeepWorld

    def members(self, cluster: Cluster, context: Context) -> tuple[ClusterMember, ...]:
        """What ``MemoryUpkeepWorld.parts`` says, UNKNOWN for who does not answer."""
        with self.world.lock:
            self.world.called("members", cluster.name, context)
            return tuple(self._member(name) for name in cluster.fleet.names)

    def switchover(self, cluster: Cluster, to: str, context: Context) -> Switched:
        """Make ``to`` the primary and the old primary its standby; refuses as a real one does."""
        with self.world.lock:
            self.world.called("switchover", to, context)
            seen = {name: self._member(name) for name in cluster.fleet.names}
            primaries = [name for name, one in seen.items() if one.part is Part.PRIMARY]
            why = self._obstacle(to, seen.values(), primaries)
            if why:
                return Switched(ok=False, primary=primaries[0] if len(primaries) == 1 else "", detail=why)
            if primaries == [to]:
                return Switched(ok=True, primary=to, steps=(f"{to} is the primary already",))
            old = primaries[0]
            self.world.parts[old] = Part.DOWN if old in self.world.stuck else Part.STANDBY
            self.world.parts[to] = Part.PRIMARY
            steps = (f"stopped {old} cleanly", f"{to} was promoted and takes writes")
            if old in self.world.stuck:
                return Switched(ok=False, primary=to, steps=steps, detail=f"{old} does not follow {to}")
            followed = (*steps, f"{old} streams from {to}")
            return Switched(ok=True, primary=to, steps=followed, without_primary=timedelta(seconds=1))

    def _member(self, name: str) -> ClusterMember:
        reach = self.world.answers(name)
        if reach is not Reach.OK:
            return ClusterMember(host=name, part=Part.UNKNOWN, detail=f"cannot be reached ({reach})")
        part = self.world.parts.get(name, Part.DOWN)
        return ClusterMember(
            host=name, part=part, timeline=1, position=100, streaming=part is not Part.DOWN and self._streams(name)
        )

    def _streams(self, name: str) -> bool:
        if self.world.parts[name] is Part.STANDBY:
            return name not in self.world.lagging
        standbys = (one for one, part in self.world.parts.items() if part is Part.STANDBY)
        return any(one not in self.world.lagging for one in standbys)

    @staticmethod
    def _obstacle(to: str, seen: Iterable[ClusterMember], primaries: Sequence[str]) -> str:
        members = {one.host: one for one in seen}
        unknown = [name for name, one in members.items() if one.part is Part.UNKNOWN]
        if unknown:
            return f"nobody can tell what {unknown[0]} is: it could be a primary"
        if len(primaries) != 1:
            return f"there are {len(primaries)} primaries"
        if to not in members:
            return f"{to!r} is no member"
        if primaries == [to] or (members[to].part is Part.STANDBY and members[to].streaming):
            return ""
        return f"{to} does not stream"


@dataclass(frozen=True, slots=True)
class MemoryMachineUpkeep:
    """``ports.upkeep.MachineUpkeep``."""

    world: MemoryUpkeepWorld

    def inventory(self, bmc: BmcAccess, context: Context) -> Sequence[FirmwareItem]:
        """What ``MemoryUpkeepWorld.firmware`` says."""
        with self.world.lock:
            self._asked("inventory", bmc, context)
            found = self.world.firmware.get(bmc.machine, {})
            return tuple(FirmwareItem(id=name, name=name, version=version) for name, version in found.items())

    def update(self, update: FirmwareUpdate, context: Context) -> FirmwareResult:
        """Set the version, unless the machine ``keeps`` it."""
        machine, component = update.bmc.machine, update.component
        with self.world.lock:
            self._asked("update", update.bmc, context)
            found = self.world.firmware.get(machine, {})
            if component not in found:
                raise EngineFailed(
                    f"{machine} knows no firmware {component!r}.",
                    engine="redfish",
                    subject=machine,
                    untouched="Nothing was changed on the machine.",
                    next_step="Correct the component.",
                )
            before = found[component]
            if before == update.version:
                detail = "it has this version already"
                return FirmwareResult(machine=machine, ok=True, before=before, after=before, detail=detail)
            if (machine, component) in self.world.keeps:
                detail = f"the BMC still shows {before!r}"
                return FirmwareResult(machine=machine, ok=False, before=before, after=before, detail=detail)
            found[component] = update.version
            reset = component in self.world.at_next_boot
            return FirmwareResult(machine=machine, ok=True, before=before, after=update.version, reset=reset)

    def restart(self, bmc: BmcAccess, within: timedelta, context: Context) -> str:  # noqa: ARG002  the port's
        """Note it in ``MemoryUpkeepWorld.restarted``."""
        with self.world.lock:
            self._asked("restart", bmc, context)
            self.world.restarted.append(bmc.machine)
            return f"GracefulRestart through the BMC of {bmc.machine}"

    def power_cycle(self, bmc: BmcAccess, within: timedelta, context: Context) -> str:  # noqa: ARG002  the port's
        """Note it in ``MemoryUpkeepWorld.cycled``."""
        with self.world.lock:
            self._asked("power_cycle", bmc, context)
            self.world.cycled.append(bmc.machine)
            return f"{bmc.machine} was On, off after 1.0 s, on again after 2.0 s"

    def _asked(self, verb: str, bmc: BmcAccess, context: Context) -> None:
        self.world.called(verb, bmc.machine, context)
        reach = self.world.answers(f"bmc {bmc.machine}")
        if reach is not Reach.OK:
            raise Unreachable(
                f"The BMC of {bmc.machine} does not answer.",
                engine="redfish",
                subject=bmc.machine,
                cause=reach.value,
                next_step="Check the route to the management network.",
            )


def _foreign(state: str) -> str:
    return f"somebody else has put it to {state}: it stays so"
