"""Fences, their witnesses, balancers and names over ``MemoryRecoveryWorld``. Nothing is cut or switched anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.recovery import CLIENT, TICK_NS, MemoryRecoveryWorld
from ismgr_automation.ports.memory.recovery_verbs import MemoryVerb, NotDone, sight
from ismgr_automation.ports.recovery import (
    BackendRequest,
    Confirmation,
    FenceRequest,
    NameRequest,
    Seen,
    Sight,
    Verb,
    Witness,
)


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
            return seen if seen.sight is Sight.UNKNOWN else sight(holds=seen.sight is Sight.NOT_DONE)

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
        def ready() -> None:
            self._ready(request)

        return MemoryVerb(
            world=self.world,
            verb=verb,
            subject=request.host,
            context=context,
            ready=ready,
            see=see,
            effect=lambda: effect(request),
        )

    def _ready(self, request: FenceRequest) -> None:
        if request.bmc is not None and request.host in self.world.dead_bmcs:
            raise NotDone(f"the BMC of {request.host} does not answer")
        if request.bmc is None and not self.world.managed(request.host):
            raise NotDone(f"{request.host} cannot be reached")

    def _fenced(self, request: FenceRequest) -> Seen:
        try:
            self._ready(request)
        except NotDone as refused:
            return Seen(sight=Sight.UNKNOWN, words=str(refused))
        if request.host in self.world.liars:
            return sight(holds=True, words="it says so")
        if request.bmc is not None:
            return sight(holds=not self.world.members[request.host].powered)
        return sight(holds=request.host in self.world.fenced)

    def _fence(self, request: FenceRequest) -> str:
        if request.bmc is not None:
            self.world.power_off(request.host)
        else:
            self.world.fenced.add(request.host)
        return "fenced"

    def _unfence(self, request: FenceRequest) -> str:
        member = self.world.members[request.host]
        if request.bmc is None and member.runs and not member.standby and not request.giving_back:
            raise NotDone(f"{request.host} runs as a primary")
        if request.bmc is not None:
            self.world.power_on(request.host)
        else:
            self.world.fenced.discard(request.host)
        return "lifted"


@dataclass(frozen=True, slots=True)
class MemoryWitness:
    """``ports.recovery.Witness``: no witness that can look, and no client, may find that a write would be taken; a
    witness, or without any a client, must have looked, and by network it must have been answered."""

    world: MemoryRecoveryWorld
    request: FenceRequest
    context: Context

    def stage(self) -> Seen:
        """Ready as soon as there is somebody who looks."""
        self.world.called(f"stage witness {self.request.host}", self.context)
        gone = [one for one in self._who() if one != CLIENT and not self.world.managed(one)]
        if gone:
            return Seen(sight=Sight.UNKNOWN, words=f"{', '.join(gone)} cannot be reached")
        return Seen(sight=Sight.NOT_DONE, readings=dict.fromkeys(self._who(), 1.0))

    def watch(self) -> None:
        """Nothing is gained here: a look takes no time."""

    def confirm(self) -> Confirmation:
        """Look from elsewhere."""
        self.world.called(f"confirm {self.request.host}", self.context)
        self.world.advance(self.world.slow.get("confirm", 1))
        trouble, who = self._trouble(), self._who()
        by, words = f"{', '.join(who)}, by connecting", trouble or "nobody can connect"
        return Confirmation(ok=not trouble, by=by, words=words, ended_ns=self.world.tick * TICK_NS)

    def _trouble(self) -> str:
        """Why it is not confirmed; nothing where it is."""
        who = self._who()
        looked = [one for one in who if one == CLIENT or self.world.managed(one)]
        answered = [one for one in (*looked, CLIENT) if self.world.linked(one, self.request.host)]
        if answered and self._open():
            return f"{answered[0]} can connect"
        if not looked:
            return f"{', '.join(who)} cannot look"
        if self.request.bmc is None and not set(looked) & set(answered):
            # silence alone could be a broken way
            return f"{looked[0]} gets no answer"
        return ""

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
                raise NotDone(f"{len(reached())} of {request.enough} balancers can be reached")

        def see() -> Seen:
            if len(reached()) < request.enough:
                return Seen(sight=Sight.UNKNOWN, words="too few balancers can be reached")
            ready = [self.world.balancers[name].get(request.backend) == request.server for name in reached()]
            return sight(holds=all(ready))

        def effect() -> str:
            for name in reached():
                self.world.balancers[name][request.backend] = request.server
            missed = sorted(set(names) - set(reached()))
            return f"not reached: {', '.join(missed)}" if missed else "switched"

        return MemoryVerb(
            world=self.world,
            verb="backend",
            subject=request.server,
            context=context,
            ready=enough,
            see=see,
            effect=effect,
        )

    def name(self, request: NameRequest, context: Context) -> Verb:
        """Make a record set what it is to be."""
        key = (request.zone, request.record)

        def effect() -> str:
            self.world.names[key] = request.values
            return "updated"

        return MemoryVerb(
            world=self.world,
            verb="name",
            subject=request.record,
            context=context,
            ready=lambda: None,
            see=lambda: sight(holds=self.world.names.get(key) == request.values),
            effect=effect,
        )
