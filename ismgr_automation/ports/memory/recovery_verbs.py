"""Doubles of the ports of a recovery over ``MemoryRecoveryWorld``: the database's verbs, fences and their witnesses,
balancers and names. They refuse what real ones refuse; nothing is stopped or cut anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.recovery import TICK_NS, MemoryMember, MemoryRecoveryWorld
from ismgr_automation.ports.recovery import (
    Acted,
    Seen,
    Sight,
    Standing,
    Verb,
)
from ismgr_automation.ports.upkeep import Cluster, Part


class NotDone(Exception):
    """A verb does not act; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVerb:
    """``ports.recovery.Verb``. ``ready`` raises ``NotDone`` before anything is done, ``effect`` in the middle."""

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
        except NotDone as refused:
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
        except NotDone as refused:
            ok, words = False, str(refused)
        self.world.done(text)
        self.world.advance(self.world.slow.get(self.verb, 1))
        return Acted(ok=ok, began_ns=began, ended_ns=self.world.tick * TICK_NS, words=words)

    def close(self) -> None:
        """Nothing is open."""


def sight(*, holds: bool, words: str = "") -> Seen:
    """Done or not."""
    return Seen(sight=Sight.DONE if holds else Sight.NOT_DONE, words=words)


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

    def hold(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """Stop the standby and start it again: what it was asked for is forgotten."""
        (member,) = self._members(cluster, host)
        return MemoryVerb(
            world=self.world,
            verb="hold",
            subject=host,
            context=context,
            ready=lambda: self._answers(member),
            see=lambda: self._seen(member, member, holds=False),
            effect=lambda: self._hold(member),
        )

    def retire(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """Stop the old primary, for good."""
        (member,) = self._members(cluster, host)
        return MemoryVerb(
            world=self.world,
            verb="retire",
            subject=host,
            context=context,
            ready=lambda: self._managed(member),
            see=lambda: self._seen(member, member, not member.runs or member.standby),
            effect=lambda: self._retire(member),
        )

    def reinstate(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """Make the old primary the primary again. It asks nobody."""
        (member,) = self._members(cluster, host)
        return MemoryVerb(
            world=self.world,
            verb="reinstate",
            subject=host,
            context=context,
            ready=lambda: self._managed(member),
            see=lambda: self._seen(member, member, member.primary),
            effect=lambda: self._reinstate(member),
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
            self._managed(one)
            if not one.runs and one.standby:
                raise NotDone(f"{one.host} is down")

    def _managed(self, one: MemoryMember) -> None:
        if not self.world.managed(one.host) or one.frozen:
            raise NotDone(f"{one.host} cannot be reached")

    def _seen(self, one: MemoryMember, other: MemoryMember, holds: bool) -> Seen:
        if any(not self.world.managed(each.host) or each.frozen for each in (one, other)):
            return Seen(sight=Sight.UNKNOWN, words="cannot be reached")
        return sight(holds=holds)

    def _may_demote(self, old: MemoryMember, new: MemoryMember) -> None:
        self._answers(old, new)
        if old.primary and self.world.streams(new.host) != old.host:
            raise NotDone(f"{new.host} does not stream from {old.host}")

    def _demote(self, old: MemoryMember, new: MemoryMember) -> str:
        arrives = self.world.streams(new.host) == old.host or new.log == old.log
        if not arrives:
            raise NotDone(f"{new.host} does not have all of {old.host}; it was started again")
        new.log = list(old.log)
        old.runs, old.clean, old.standby, old.upstream = False, True, True, new.host
        return "stopped cleanly"

    def _reinstate(self, member: MemoryMember) -> str:
        if member.runs and member.standby:
            raise NotDone(f"{member.host} runs as a standby")
        member.standby, member.upstream = False, ""
        self.world.start(member.host)
        return "takes writes"

    def _retire(self, member: MemoryMember) -> str:
        member.runs, member.clean, member.standby, member.upstream = False, True, True, ""
        return "stopped"

    def _hold(self, member: MemoryMember) -> str:
        if not member.standby:
            raise NotDone(f"{member.host} has been promoted")
        member.landing, member.runs = None, True
        return "it stays a standby"

    def _promote(self, member: MemoryMember) -> str:
        if not member.runs:
            raise NotDone(f"{member.host} is down")
        if member.standby and member.sluggish:
            member.landing = self.world.tick + member.sluggish
            raise NotDone(f"{member.host} does not answer in time")
        if member.standby:
            self.world.promote(member.host)
        if not member.primary:
            raise NotDone(f"{member.host} takes no writes")
        return "takes writes"

    def _may_rejoin(self, old: MemoryMember, new: MemoryMember, way: str) -> None:
        self._managed(old)
        if old.runs and not old.standby:
            raise NotDone(f"{old.host} is a primary itself")
        primaries = [one.host for one in self.world.members.values() if one.runs and one.powered and not one.standby]
        if primaries != [new.host] or not new.primary:
            raise NotDone(f"{new.host} is not the one primary that takes writes")
        if way == "rewind" and not old.rewinds and not _begins(old, new):
            raise NotDone(f"{old.host} cannot be rewound")

    def _rejoin(self, old: MemoryMember, new: MemoryMember, way: str) -> str:
        if not self.world.linked(old.host, new.host):
            raise NotDone(f"{old.host} cannot connect to {new.host}")
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
