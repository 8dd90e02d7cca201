"""Doubles of the ports of a recovery over ``MemoryRecoveryWorld``: the database's verbs, fences and their witnesses,
balancers and names. They refuse what real ones refuse; nothing is stopped or cut anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.recovery import CLIENT, TICK_NS, MemoryMember, MemoryRecoveryWorld
from ismgr_automation.ports.recovery import (
    Acted,
    BackendRequest,
    Confirmation,
    FenceRequest,
    NameRequest,
    Seen,
    Sight,
    Standing,
    Verb,
    Witness,
)
from ismgr_automation.ports.upkeep import Cluster, Part


class Refused(Exception):
    """A verb does not act; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVerb:
    """``ports.recovery.Verb``. ``ready`` raises ``Refused`` before anything is done, ``effect`` in the middle."""

    world: MemoryRecoveryWorld
    verb: str
    subject: str
    context: Context
    ready: Callable[[], None]
    see: Callable[[], Seen]
    effect: Callable[[], str]

    def stage(self) -> Seen:
        """What ``observe`` says, or why it cannot act."""
        self.world.called(f"stage {self.verb} {self.subject}", self.context)
        seen = self.see()
        if seen.sight is Sight.DONE:
            return seen
        try:
            self.ready()
        except Refused as refused:
            return Seen(sight=Sight.UNKNOWN, words=str(refused))
        return seen

    def observe(self) -> Seen:
        """Ask the world."""
        return self.see()

    def act(self) -> Acted:
        """Let the time of the verb pass, then change the world, unless it is so already."""
        began = self.world.tick * TICK_NS
        text = f"{self.verb} {self.subject}"
        self.world.called(text, self.context)
        try:
            if self.see().sight is Sight.DONE:
                words = "it was done already"
            else:
                self.ready()
                words = self.effect()
                self.world.note()
            ok = True
        except Refused as refused:
            ok, words = False, str(refused)
        self.world.done(text)
        self.world.advance(self.world.slow.get(self.verb, 1))
        return Acted(ok=ok, began_ns=began, ended_ns=self.world.tick * TICK_NS, words=words)

    def close(self) -> None:
        """Nothing is open."""


def _sight(holds: bool, words: str = "") -> Seen:
    return Seen(sight=Sight.DONE if holds else Sight.NOT_DONE, words=words)


def _nothing() -> None:
    """Always ready."""


@dataclass(frozen=True, slots=True)
class MemoryStandby:
    """``ports.recovery.Standby``."""

    world: MemoryRecoveryWorld
    WAYS: ClassVar[tuple[str, ...]] = ("auto", "rewind", "rebuild")

    def look(self, cluster: Cluster, context: Context) -> tuple[Standing, ...]:
        """Every member; one that is frozen or cannot be worked on is UNKNOWN."""
        self.world.called(f"look {cluster.name}", context)
        return tuple(self._standing(name) for name in cluster.fleet.names)

    def demote(self, cluster: Cluster, host: str, to: str, context: Context) -> Verb:
        """Stop the primary cleanly; ``to`` gets all of it, or the primary runs again."""
        old, new = self._members(cluster, host, to)
        return MemoryVerb(
            world=self.world,
            verb="demote",
            subject=host,
            context=context,
            ready=lambda: self._may_demote(old, new),
            see=lambda: self._seen(old, new, demoted(old)),
            effect=lambda: self._demote(old, new),
        )

    def promote(self, cluster: Cluster, to: str, context: Context) -> Verb:
        """Make it the primary. It asks nobody."""
        (member,) = self._members(cluster, to)
        return MemoryVerb(
            world=self.world,
            verb="promote",
            subject=to,
            context=context,
            ready=lambda: self._answers(member),
            see=lambda: self._seen(member, member, member.primary),
            effect=lambda: self._promote(member),
        )

    def rejoin(self, cluster: Cluster, host: str, to: str, way: str, context: Context) -> Verb:
        """Make the old primary a standby of the new one."""
        if way not in self.WAYS:
            raise InputError(f"{way!r} is no way to rejoin: {', '.join(self.WAYS)}.")
        old, new = self._members(cluster, host, to)
        return MemoryVerb(
            world=self.world,
            verb="rejoin",
            subject=host,
            context=context,
            ready=lambda: self._may_rejoin(old, new, way),
            see=lambda: self._seen(old, new, self.world.streams(host) == to and new.primary),
            effect=lambda: self._rejoin(old, new, way),
        )

    def close(self) -> None:
        """Nothing is open."""

    def _members(self, cluster: Cluster, *names: str) -> tuple[MemoryMember, ...]:
        for name in names:
            if name not in cluster.fleet.names:
                raise InputError(f"{name!r} is no member.")
        return tuple(self.world.members[name] for name in names)

    def _standing(self, name: str) -> Standing:
        one = self.world.members[name]
        if not self.world.managed(name) or one.frozen:
            return Standing(host=name, part=Part.UNKNOWN, detail="cannot be reached (timeout)")
        if not one.runs:
            return Standing(host=name, part=Part.DOWN, timeline=one.timeline, position=len(one.log))
        source = self.world.members.get(one.upstream)
        feeds = any(self.world.streams(other) == name for other in self.world.members)
        return Standing(
            host=name,
            part=Part.STANDBY if one.standby else Part.PRIMARY,
            writable=one.primary,
            streaming=bool(self.world.streams(name)) if one.standby else feeds,
            position=len(one.log),
            lag_bytes=max(0, len(source.log) - len(one.log)) if source else 0,
            timeline=one.timeline,
        )

    def _answers(self, *members: MemoryMember) -> None:
        for one in members:
            if not self.world.managed(one.host) or one.frozen:
                raise Refused(f"{one.host} cannot be reached")
            if not one.runs and one.standby:
                raise Refused(f"{one.host} is down")

    def _seen(self, one: MemoryMember, other: MemoryMember, holds: bool) -> Seen:
        if any(not self.world.managed(each.host) or each.frozen for each in (one, other)):
            return Seen(sight=Sight.UNKNOWN, words="cannot be reached")
        return _sight(holds)

    def _may_demote(self, old: MemoryMember, new: MemoryMember) -> None:
        self._answers(old, new)
        if old.primary and self.world.streams(new.host) != old.host:
            raise Refused(f"{new.host} does not stream from {old.host}")

    def _demote(self, old: MemoryMember, new: MemoryMember) -> str:
        arrives = self.world.streams(new.host) == old.host or new.log == old.log
        if not arrives:
            raise Refused(f"{new.host} does not have all of {old.host}; it was started again")
        new.log = list(old.log)
        old.runs, old.clean, old.standby, old.upstream = False, True, True, new.host
        return "stopped cleanly"

    def _promote(self, member: MemoryMember) -> str:
        if not member.runs:
            raise Refused(f"{member.host} is down")
        if member.standby:
            self.world.promote(member.host)
        if not member.primary:
            raise Refused(f"{member.host} takes no writes")
        return "takes writes"

    def _may_rejoin(self, old: MemoryMember, new: MemoryMember, way: str) -> None:
        if not self.world.managed(old.host) or old.frozen:
            raise Refused(f"{old.host} cannot be reached")
        if old.runs and not old.standby:
            raise Refused(f"{old.host} is a primary itself")
        primaries = [one.host for one in self.world.members.values() if one.runs and one.powered and not one.standby]
        if primaries != [new.host] or not new.primary:
            raise Refused(f"{new.host} is not the one primary that takes writes")
        if way == "rewind" and not old.rewinds and not _begins(old, new):
            raise Refused(f"{old.host} cannot be rewound")

    def _rejoin(self, old: MemoryMember, new: MemoryMember, way: str) -> str:
        if not self.world.linked(old.host, new.host):
            raise Refused(f"{old.host} cannot connect to {new.host}")
        how = "it followed"
        if way == "rebuild" or not _begins(old, new):
            how = "it was rewound" if way != "rebuild" and old.rewinds else "it was copied anew"
            old.log = list(new.log)
        old.standby, old.upstream, old.timeline, old.clean = True, new.host, new.timeline, False
        old.runs = True
        return how


def demoted(member: MemoryMember) -> bool:
    """Whether it is a standby, or can only start as one."""
    return member.standby and (member.runs or member.clean)


def _begins(old: MemoryMember, new: MemoryMember) -> bool:
    return new.log[: len(old.log)] == old.log and (old.clean or old.standby)


@dataclass(frozen=True, slots=True)
class MemoryFences:
    """``ports.recovery.Fences``: by power where the request has a BMC, else by network."""

    world: MemoryRecoveryWorld

    def fence(self, request: FenceRequest, context: Context) -> Verb:
        """Power off, or clients are reset."""
        return self._verb("fence", request, context, self._fence, lambda: self._fenced(request))

    def unfence(self, request: FenceRequest, context: Context) -> Verb:
        """The other way round; a member that would be a second primary is not let out."""

        def lifted() -> Seen:
            seen = self._fenced(request)
            return seen if seen.sight is Sight.UNKNOWN else _sight(seen.sight is Sight.NOT_DONE)

        return self._verb("unfence", request, context, self._unfence, lifted)

    def witness(self, request: FenceRequest, context: Context) -> Witness:
        """Hosts that try to connect."""
        return MemoryWitness(self.world, request, context)

    def _verb(
        self,
        verb: str,
        request: FenceRequest,
        context: Context,
        effect: Callable[[FenceRequest], str],
        see: Callable[[], Seen],
    ) -> Verb:
        return MemoryVerb(
            world=self.world,
            verb=verb,
            subject=request.host,
            context=context,
            ready=lambda: self._ready(request),
            see=see,
            effect=lambda: effect(request),
        )

    def _ready(self, request: FenceRequest) -> None:
        if request.bmc is not None and request.host in self.world.dead_bmcs:
            raise Refused(f"the BMC of {request.host} does not answer")
        if request.bmc is None and not self.world.managed(request.host):
            raise Refused(f"{request.host} cannot be reached")

    def _fenced(self, request: FenceRequest) -> Seen:
        try:
            self._ready(request)
        except Refused as refused:
            return Seen(sight=Sight.UNKNOWN, words=str(refused))
        if request.host in self.world.liars:
            return _sight(True, "it says so")
        if request.bmc is not None:
            return _sight(not self.world.members[request.host].powered)
        return _sight(request.host in self.world.fenced)

    def _fence(self, request: FenceRequest) -> str:
        if request.bmc is not None:
            self.world.power_off(request.host)
        else:
            self.world.fenced.add(request.host)
        return "fenced"

    def _unfence(self, request: FenceRequest) -> str:
        member = self.world.members[request.host]
        if request.bmc is None and member.runs and not member.standby:
            raise Refused(f"{request.host} runs as a primary")
        if request.bmc is not None:
            self.world.power_on(request.host)
        else:
            self.world.fenced.discard(request.host)
        return "lifted"


@dataclass(frozen=True, slots=True)
class MemoryWitness:
    """``ports.recovery.Witness``: every witness, or without any a client, must find that no write would be taken, and
    by network it must have been answered."""

    world: MemoryRecoveryWorld
    request: FenceRequest
    context: Context

    def stage(self) -> Seen:
        """Ready as soon as there is somebody who looks."""
        self.world.called(f"stage witness {self.request.host}", self.context)
        gone = [one for one in self._who() if one != CLIENT and not self.world.managed(one)]
        if gone:
            return Seen(sight=Sight.UNKNOWN, words=f"{', '.join(gone)} cannot be reached")
        return _sight(False)

    def confirm(self) -> Confirmation:
        """Look from elsewhere."""
        self.world.called(f"confirm {self.request.host}", self.context)
        self.world.advance(self.world.slow.get("confirm", 1))
        who, now = self._who(), self.world.tick * TICK_NS
        by = f"{', '.join(who)}, by connecting"
        for one in who:
            if one != CLIENT and not self.world.managed(one):
                return Confirmation(ok=False, by=by, words=f"{one} cannot look", ended_ns=now)
            if not self.world.linked(one, self.request.host):
                if self.request.bmc is None:
                    return Confirmation(ok=False, by=by, words=f"{one} gets no answer", ended_ns=now)
            elif self._open():
                return Confirmation(ok=False, by=by, words=f"{one} can connect", ended_ns=now)
        return Confirmation(ok=True, by=by, words="nobody can connect", ended_ns=now)

    def close(self) -> None:
        """Nothing is open."""

    def _who(self) -> tuple[str, ...]:
        return self.request.witnesses or (CLIENT,)

    def _open(self) -> bool:
        """Whether its port is open: also where the server is frozen, or is a standby."""
        member = self.world.members[self.request.host]
        return member.powered and member.runs and self.request.host not in self.world.fenced


@dataclass(frozen=True, slots=True)
class MemorySwitches:
    """``ports.recovery.Switches``."""

    world: MemoryRecoveryWorld

    def backend(self, request: BackendRequest, context: Context) -> Verb:
        """Make one server ready on every balancer that can be worked on."""
        names = request.fleet.names

        def reached() -> list[str]:
            return [name for name in names if self.world.managed(name)]

        def enough() -> None:
            if len(reached()) < request.enough:
                raise Refused(f"{len(reached())} of {request.enough} balancers can be reached")

        def see() -> Seen:
            if len(reached()) < request.enough:
                return Seen(sight=Sight.UNKNOWN, words="too few balancers can be reached")
            ready = [self.world.balancers[name].get(request.backend) == request.server for name in reached()]
            return _sight(all(ready))

        def effect() -> str:
            for name in reached():
                self.world.balancers[name][request.backend] = request.server
            missed = sorted(set(names) - set(reached()))
            return f"not reached: {', '.join(missed)}" if missed else "switched"

        return self._verb("backend", request.server, context, enough, see, effect)

    def name(self, request: NameRequest, context: Context) -> Verb:
        """Make a record set what it is to be."""
        key = (request.zone, request.record)

        def effect() -> str:
            self.world.names[key] = request.values
            return "updated"

        return self._verb(
            "name",
            request.record,
            context,
            _nothing,
            lambda: _sight(self.world.names.get(key) == request.values),
            effect,
        )

    def _verb(
        self,
        verb: str,
        subject: str,
        context: Context,
        ready: Callable[[], None],
        see: Callable[[], Seen],
        effect: Callable[[], str],
    ) -> Verb:
        return MemoryVerb(
            world=self.world, verb=verb, subject=subject, context=context, ready=ready, see=see, effect=effect
        )
