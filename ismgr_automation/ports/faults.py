"""What a drill may break, and how it is mended: each fault knows its undo before it is done, and lifts itself when
nobody is there any more to lift it. Which fault may be done when is decided in ``recovery``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.recovery import Fault
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Confirmation, Seen
from ismgr_automation.ports.upkeep import BmcAccess, Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRequest:
    """One fault of a run. ``hosts`` it is done on (gateways for what is done to networks, the old primary's machine for
    the rest); ``networks`` are the ranges that it cuts off or slows down. ``lifetime``: when nobody renews or lifts it
    for so long, the hosts lift it themselves."""

    run: str
    fault: Fault
    fleet: Fleet
    hosts: tuple[str, ...]
    lifetime: timedelta
    cluster: Cluster | None = None
    networks: tuple[str, ...] = ()
    bmc: BmcAccess | None = None


class Injection(Protocol):
    """One fault that can be done and lifted. A host that fails is a result. Raises ``Cancelled``, and ``InputError``
    for what this world cannot do, with what it can do instead."""

    def stage(self) -> Seen:
        """Connect, look whether the hosts can do it, load what is needed, and find out what the undo is."""
        ...

    def undo(self) -> JsonObject:
        """How it is lifted, for the journal: written down before ``act``; ``Faults.lift`` takes it."""
        ...

    def act(self) -> Acted:
        """Arm the dead-man's timer, then do it."""
        ...

    def bitten(self) -> Confirmation:
        """Whether the fault does what it should, by who looks from elsewhere or at another thing than was set."""
        ...

    def renew(self) -> bool:
        """Set the dead-man's timer anew."""
        ...

    def lift(self) -> Acted:
        """Undo it. Safe to call again, also where the timer was faster."""
        ...

    def lifted(self) -> Confirmation:
        """Whether nothing of it is left."""
        ...

    def close(self) -> None:
        """Let go of connections. Lifts nothing."""
        ...


class Faults(Protocol):
    """Makes faults."""

    def fault(self, request: FaultRequest, context: Context) -> Injection:
        """One fault."""
        ...

    def lift(self, undo: JsonObject, fleet: Fleet, context: Context) -> Acted:
        """Lift a fault of a run that is gone, by what its journal says."""
        ...

    def left(self, fleet: Fleet, context: Context) -> Sequence[str]:
        """What is left of faults of any run on these hosts, a sentence each: rules, timers, stopped processes."""
        ...
