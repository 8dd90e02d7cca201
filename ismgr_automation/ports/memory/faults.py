"""Faults over ``MemoryRecoveryWorld``: what a drill breaks there, with its undo and its dead-man's timer in ticks of
that world. Nothing is broken anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import Direction, FaultRequest, Harm
from ismgr_automation.ports.memory.recovery import CLIENT, TICK_NS, Broken, MemoryRecoveryWorld
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Confirmation, Reading, Seen, Sight

_NETWORK = frozenset({Harm.PARTITION, Harm.ROLLING})
_POWER = frozenset({Harm.POWER_OFF, Harm.STALE_PRIMARY})


@dataclass(frozen=True, slots=True)
class MemoryFaults:
    """``ports.faults.Faults``. What lies behind a gateway is said by ``Damage.behind``; a fault that does
    not bite, or cannot be lifted, by ``toothless`` and ``stuck``."""

    world: MemoryRecoveryWorld

    def fault(self, request: FaultRequest, context: Context) -> MemoryInjection:
        """One fault. Raises ``InputError`` for a gateway of which nobody knows what lies behind it, or no member."""
        ends = self.world.damage.behind if request.harm in _NETWORK else self.world.members
        if request.harm is not Harm.SLOW_LINK and (missing := [one for one in request.hosts if one not in ends]):
            raise InputError(f"{', '.join(missing)}: nobody knows what {request.harm} would break there.")
        if request.harm is Harm.ROLLING and request.lead >= request.lifetime:
            raise InputError("A rolling disaster that is lifted before its second stage is none.")
        return MemoryInjection(self.world, request, context)

    def lift(self, undo: JsonObject, fleet: Fleet, context: Context) -> Acted:
        """By the words of the journal alone."""
        world, name = self.world, str(undo["fault"])
        del fleet  # a world knows its hosts
        began = world.tick * TICK_NS
        world.called(f"lift {name}", context)
        lifted = _lift(world, undo)
        world.done(f"lift {name}")
        world.advance(world.slow.get("lift", 1))
        words = "lifted" if lifted else f"{name} stays"
        return Acted(ok=lifted, began_ns=began, ended_ns=world.tick * TICK_NS, words=words)

    def left(self, fleet: Fleet, context: Context) -> Sequence[str]:
        """Faults that stand on these hosts, and hosts without power."""
        self.world.called("left", context)
        asked = [one for one in self.world.damage.broken.values() if one.host in fleet.names]
        dark = [name for name in fleet.names if not self.world.managed(name)]
        standing = [
            f"{one.host}: {one.undo['do']} of {one.undo['run']} stands" for one in asked if one.host not in dark
        ]
        return (*standing, *(f"{name}: cannot be reached" for name in dark))

    def found(self, fleet: Fleet, context: Context) -> Sequence[JsonObject]:
        """The undo of what stands there."""
        self.world.called("found", context)
        return tuple(
            one.undo
            for one in self.world.damage.broken.values()
            if one.host in fleet.names and self.world.managed(one.host) and one.until is not None
        )


@dataclass(frozen=True, slots=True)
class MemoryInjection:
    """``ports.faults.Injection``. Calls are told to the world as ``stage fault NAME``, ``arm NAME``, ``break NAME``,
    ``renew NAME``, ``come back NAME`` and ``lift NAME``."""

    world: MemoryRecoveryWorld
    request: FaultRequest
    context: Context

    def stage(self) -> Seen:
        """Whether its hosts can be worked on."""
        self.world.called(f"stage fault {self.request.name}", self.context)
        if refused := self._refused():
            return Seen(sight=Sight.UNKNOWN, words=refused)
        sight = Sight.DONE if self._stands() else Sight.NOT_DONE
        return Seen(sight=sight, words=f"{self.request.harm} can be done", readings={"way": "memory"})

    def undo(self) -> JsonObject:
        """Its name, what it does, on which hosts, and what was so before."""
        links: Sequence[Json] = [sorted(link) for link in sorted(self._links(), key=sorted)]
        return {
            "do": self.request.harm.value,
            "fault": self.request.name,
            "run": self.request.run,
            "unit": self._unit,
            "hosts": list(self.request.hosts),
            "links": links,
            "ticks": self._slower,
        }

    def act(self) -> Acted:
        """Arm, then break. It asks nobody."""
        world, name = self.world, self.request.name
        began = world.tick * TICK_NS
        if refused := self._refused():
            return Acted(ok=False, began_ns=began, ended_ns=began, words=refused)
        world.called(f"arm {name}", self.context)
        if not self._stands():
            self._arm()
            world.done(f"arm {name}")
            world.called(f"break {name}", self.context)
            readings = self._break() if not self._is(world.damage.toothless) else {}
            world.done(f"break {name}")
        else:
            readings = {}
        world.advance(world.slow.get("break", 1))
        now = world.tick * TICK_NS
        return Acted(ok=True, began_ns=began, ended_ns=now, words=f"{self.request.harm} is done", readings=readings)

    def bitten(self) -> Confirmation:
        """What a look at the world finds."""
        self.world.advance(self.world.slow.get("bitten", 1))
        ok = self._stands() and self._bites()
        words = "it bites" if ok else "everything goes on as before"
        return Confirmation(ok=ok, by="the world", words=words, ended_ns=self.world.tick * TICK_NS)

    def biting(self) -> Callable[[], Confirmation]:
        """Looked at once, so that the order of calls is always the same."""
        found = self.bitten()
        return lambda: found

    def renew(self) -> bool:
        """Set its end anew, unless it has lifted itself."""
        self.world.called(f"renew {self.request.name}", self.context)
        if self._power and not self._stands():
            return True
        if not self._stands() or self._refused():
            return False
        if not self._power:
            self.world.damage.broken[self._unit] = replace(self._broken(), until=self._end())
        return True

    def come_back(self) -> Acted:
        """Power, and a primary. It asks nobody."""
        world, request = self.world, self.request
        began = world.tick * TICK_NS
        words = "nothing comes back from this"
        if request.harm is Harm.STALE_PRIMARY:
            world.called(f"come back {request.name}", self.context)
            for host in request.hosts:
                world.power_on(host)
                world.start(host)
                world.damage.broken[self._unit] = replace(self._broken(), until=self._end())
            world.done(f"come back {request.name}")
            world.advance(world.slow.get("come back", 1))
            words = "it is a primary"
        return Acted(ok=True, began_ns=began, ended_ns=world.tick * TICK_NS, words=words)

    def lift(self) -> Acted:
        """As who takes it from the journal."""
        return MemoryFaults(self.world).lift(self.undo(), self.request.fleet, self.context)

    def lifted(self) -> Confirmation:
        """Whether neither it nor its timer is left."""
        ok = not self._stands()
        words = "nothing is left" if ok else f"{self.request.name} stands"
        return Confirmation(ok=ok, by="the world", words=words, ended_ns=self.world.tick * TICK_NS)

    def close(self) -> None:
        """Nothing is open."""

    @property
    def _unit(self) -> str:
        return f"ismgr-fault-{self.request.run}-{self.request.name}"

    @property
    def _power(self) -> bool:
        return self.request.harm in _POWER

    @property
    def _slower(self) -> int:
        return _ticks(self.request.latency) if self.request.harm is Harm.SLOW_LINK else 0

    def _is(self, names: set[str]) -> bool:
        return bool({self.request.name, self.request.harm.value} & names)

    def _stands(self) -> bool:
        return self._unit in self.world.damage.broken

    def _refused(self) -> str:
        for host in self.request.hosts:
            if self._power and host in self.world.dead_bmcs:
                return f"the BMC of {host} does not answer"
            if not self._power and not self.world.managed(host):
                return f"{host} cannot be reached"
        return ""

    def _end(self) -> int:
        return self.world.tick + _ticks(self.request.lifetime)

    def _broken(self) -> Broken:
        world, undo = self.world, self.undo()
        return Broken(host=self.request.hosts[0], undo=undo, mend=lambda: _mend(world, undo))

    def _arm(self) -> None:
        until = None if self._power else self._end()
        self.world.damage.broken[self._unit] = replace(self._broken(), until=until)

    def _break(self) -> dict[str, Reading]:
        world, request = self.world, self.request
        match request.harm:
            case Harm.POWER_OFF | Harm.STALE_PRIMARY:
                self._each(world.power_off)
            case Harm.FREEZE:
                self._each(world.freeze)
            case Harm.DISK_FULL | Harm.READ_ONLY:
                for host in request.hosts:
                    world.members[host].readonly = True
            case Harm.PARTITION:
                which = world.damage.unanswered if request.direction is Direction.OUT else world.cut
                which |= self._links()
            case Harm.ROLLING:
                return self._roll()
            case Harm.SLOW_LINK:
                world.lag += self._slower
            case _:
                assert_never(request.harm)
        return {}

    def _each(self, work: Callable[[str], None]) -> None:
        for host in self.request.hosts:
            work(host)

    def _roll(self) -> dict[str, Reading]:
        first = self.world.tick
        self.world.cut |= {link for link in self._links() if link <= set(self.world.members)}
        self.world.advance(_ticks(self.request.lead))
        if self._stands():
            self.world.cut |= self._links()
        return {"replication_ns": first * TICK_NS, "site_ns": self.world.tick * TICK_NS}

    def _links(self) -> set[frozenset[str]]:
        """Between what lies behind the gateways and all else."""
        if self.request.harm not in _NETWORK:
            return set()
        inside = {end for host in self.request.hosts for end in self.world.damage.behind[host]}
        outside = {CLIENT, *self.world.members, *self.world.balancers} - inside
        return {frozenset((one, other)) for one in inside for other in outside}

    def _bites(self) -> bool:
        world, hosts = self.world, self.request.hosts
        match self.request.harm:
            case Harm.POWER_OFF | Harm.STALE_PRIMARY:
                return not any(world.members[host].powered for host in hosts)
            case Harm.FREEZE:
                return all(world.members[host].frozen for host in hosts)
            case Harm.DISK_FULL | Harm.READ_ONLY:
                return all(world.members[host].readonly for host in hosts)
            case Harm.PARTITION | Harm.ROLLING:
                return self._links() <= world.cut | world.damage.unanswered
            case Harm.SLOW_LINK:
                return world.lag > self._slower
            case _:
                assert_never(self.request.harm)


def _ticks(time: timedelta) -> int:
    return max(1, round(time / timedelta(microseconds=TICK_NS / 1000)))


def _lift(world: MemoryRecoveryWorld, undo: JsonObject) -> bool:
    """Mend what stands, once; what does not stand any more is lifted."""
    unit = str(undo["unit"])
    if unit not in world.damage.broken:
        return True
    if not _mend(world, undo):
        return False
    world.damage.broken.pop(unit, None)
    return True


def _mend(world: MemoryRecoveryWorld, undo: JsonObject) -> bool:
    """Undo its effect. False: nobody can."""
    if {str(undo["fault"]), str(undo["do"])} & world.damage.stuck:
        return False
    harm = Harm(str(undo["do"]))
    for host in _names(undo["hosts"]):
        match harm:
            case Harm.POWER_OFF:
                world.power_on(host)
            case Harm.STALE_PRIMARY:
                _stop(world, host, came_back=world.damage.broken[str(undo["unit"])].until is not None)
            case Harm.FREEZE:
                world.thaw(host)
            case Harm.DISK_FULL | Harm.READ_ONLY:
                world.members[host].readonly = False
            case Harm.PARTITION | Harm.ROLLING | Harm.SLOW_LINK:
                pass
            case _:
                assert_never(harm)
    links = {frozenset(_names(link)) for link in _listed(undo["links"])}
    world.cut -= links
    world.damage.unanswered.difference_update(links)
    world.lag -= int(str(undo["ticks"])) if world.lag > int(str(undo["ticks"])) else 0
    return True


def _stop(world: MemoryRecoveryWorld, host: str, *, came_back: bool) -> None:
    """What came back as a primary does not stay one; what did not come back gets its power."""
    if not came_back:
        world.power_on(host)
        return
    member = world.members[host]
    if member.runs and not member.standby:
        member.runs, member.clean = False, True


def _names(value: Json) -> tuple[str, ...]:
    return tuple(str(one) for one in _listed(value))


def _listed(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()
