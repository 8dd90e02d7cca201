"""A network that can be closed and a clone behind it, in memory, over ``MemoryRecoveryWorld``: what gets through, what
the clone holds and what does not work is what a test says. Nothing is copied or closed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ismgr_automation.ports.context import Context
from ismgr_automation.ports.isolation import (
    Answered,
    BubbleRequest,
    CloneRequest,
    CloneState,
    Counted,
    Knocks,
    Tried,
)
from ismgr_automation.ports.memory.recovery import TICK_NS, MemoryRecoveryWorld
from ismgr_automation.ports.recovery import Acted, Reading, Seen, Sight

BYTES = 50_000_000
ROWS = "SELECT count(*), coalesce(max(number), 0)"
"""What the query begins with that asks for the client's rows."""


class MemoryBubbleWorld:
    """The network, its gateways and the spare host. Tests change it, or what happens in ``pair.watch``."""

    def __init__(self, pair: MemoryRecoveryWorld, answers: Mapping[str, str] | None = None) -> None:
        """An open network without a clone, beside the members of ``pair``."""
        self.pair = pair
        self.closed: dict[str, str] = {}
        """The run whose rules are on a gateway."""
        self.passing = 0
        """Packets that get through whenever somebody knocks, rules or not."""
        self.elsewhere = False
        """The rules close another network: nobody who knocks meets them."""
        self.reached: set[str] = set()
        """Places that are open from inside."""
        self.passed = 0
        self.knocked = 0
        self.clone = CloneState.ABSENT
        self.empty = False
        """A copy holds nothing."""
        self.answers = dict(answers or {})
        """Rows by query."""
        self.broken: dict[str, str] = {}
        """Why a verb (``take``, ``promote``, ``remove``, ``lift``, ``shut``, ``stage``) does not work."""
        self.taken: frozenset[int] = frozenset()
        """The numbers that the clone has."""
        self.exposed: list[str] = []
        """Acts after which there was a clone and no wall: what must never be."""

    def act(self, verb: str, subject: str, context: Context, effect: Callable[[], None]) -> Acted:
        """One act, with the ticks that it takes."""
        began = self.pair.tick
        self.pair.called(f"{verb} {subject}", context)
        self.pair.advance(self.pair.slow.get(verb, 1))
        why = self.broken.get(verb, "")
        if not why:
            effect()
            self.pair.done(f"{verb} {subject}")
        self._look(f"{verb} {subject}")
        return Acted(ok=not why, began_ns=began * TICK_NS, ended_ns=self.pair.tick * TICK_NS, words=why)

    def _look(self, call: str) -> None:
        if self.clone is not CloneState.ABSENT and not self.closed:
            self.exposed.append(call)


@dataclass(frozen=True, slots=True)
class MemoryIsolation:
    """``ports.isolation.Isolation``."""

    world: MemoryBubbleWorld

    def bubble(self, request: BubbleRequest, context: Context) -> MemoryBubble:
        """The one network."""
        return MemoryBubble(self.world, request, context)


@dataclass(frozen=True, slots=True)
class MemoryBubble:
    """``ports.isolation.Bubble``."""

    world: MemoryBubbleWorld
    request: BubbleRequest
    context: Context

    def stage(self) -> Seen:
        """Whether it is closed by this run."""
        self.world.pair.called(f"stage {self.request.network}", self.context)
        if why := self.world.broken.get("stage", ""):
            return Seen(sight=Sight.UNKNOWN, words=why)
        return Seen(sight=Sight.DONE if self._whole() else Sight.NOT_DONE)

    def shut(self) -> Acted:
        """Close it."""

        def effect() -> None:
            if not self._whole():
                self.world.passed = self.world.knocked = 0
            self.world.closed = dict.fromkeys(self.request.gateways, self.request.run)

        return self.world.act("shut", self.request.network, self.context, effect)

    def knock(self) -> Callable[[], Knocks]:
        """Every place is tried once."""
        world, began = self.world, self.world.pair.tick
        world.pair.called("knock", self.context)
        tried = []
        for place in self.request.places:
            is_open = place in world.reached or not world.closed
            tried.append(Tried(place=place, met="open" if is_open else "silent", reached=is_open))
            world.knocked += bool(world.closed) and not world.elsewhere and not is_open
        world.passed += world.passing
        told = Knocks(tried=tuple(tried), began_ns=began * TICK_NS, ended_ns=(began + 1) * TICK_NS)
        return lambda: told

    def count(self) -> Counted:
        """Everything that knocked was dropped, but for what passed."""
        world = self.world
        return Counted(
            whole=self._whole(),
            dropped_out=world.knocked,
            passed_out=world.passed,
            knocked=world.knocked,
            words="" if self._whole() else "the rules of this run are not there",
        )

    def lift(self) -> Acted:
        """Open it."""
        return self.world.act("lift", self.request.network, self.context, self.world.closed.clear)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _whole(self) -> bool:
        return self.world.closed == dict.fromkeys(self.request.gateways, self.request.run)


@dataclass(frozen=True, slots=True)
class MemoryClones:
    """``ports.isolation.Clones``."""

    world: MemoryBubbleWorld

    def clone(self, request: CloneRequest, context: Context) -> MemoryClone:
        """The one clone."""
        return MemoryClone(self.world, request, context)


@dataclass(frozen=True, slots=True)
class MemoryClone:
    """``ports.isolation.Clone``."""

    world: MemoryBubbleWorld
    request: CloneRequest
    context: Context

    def stage(self) -> Mapping[str, Reading]:
        """It would fit."""
        readings: dict[str, Reading] = {"bytes": BYTES, "position": 1, "standby": True}
        why = self.world.broken.get("stage clone", "")
        return {**readings, "trouble": why} if why else readings

    def state(self) -> CloneState:
        """How far it is."""
        return self.world.clone

    def take(self) -> Acted:
        """It has what the source has."""

        def effect() -> None:
            log = self.world.pair.members[self.request.source].log
            held = frozenset(one.number for one in log)
            self.world.taken = frozenset() if self.world.empty else held
            self.world.clone = CloneState.STANDBY

        if self.world.clone is not CloneState.ABSENT:
            self.world.clone = CloneState.ABSENT
        acted = self.world.act("take", self.request.spare, self.context, effect)
        readings: dict[str, Reading] = {"bytes": BYTES}
        return Acted(
            ok=acted.ok,
            began_ns=acted.began_ns,
            ended_ns=acted.ended_ns,
            words=acted.words,
            readings=readings if acted.ok else {},
        )

    def promote(self) -> Acted:
        """It takes writes."""

        def effect() -> None:
            self.world.clone = CloneState.PROMOTED

        return self.world.act("promote", self.request.spare, self.context, effect)

    def ask(self, database: str, query: str) -> Answered:  # noqa: ARG002  one database
        """What the test has written down; the client's rows are counted."""
        if query.startswith(ROWS):
            last = int(query.rpartition("<= ")[2])
            rows = [one for one in self.world.taken if one <= last]
            return Answered(ok=True, rows=f"{len(rows)}|{max(rows, default=0)}")
        if query not in self.world.answers:
            return Answered(ok=False, words="no such table")
        return Answered(ok=True, rows=self.world.answers[query])

    def remove(self) -> Acted:
        """Nothing is left."""

        def effect() -> None:
            self.world.clone = CloneState.ABSENT

        calm = replace(self.context, cancelled=type(self.context.cancelled)())
        return self.world.act("remove", self.request.spare, calm, effect)

    def close(self) -> None:
        """There is nothing to let go of."""
