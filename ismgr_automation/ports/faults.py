"""What a drill may break, and how it is mended: each fault knows its undo before it is done, and lifts itself when
nobody is there any more to lift it. Which fault may be done when is decided in ``recovery``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Confirmation, Seen
from ismgr_automation.ports.upkeep import BmcAccess, Cluster


class Harm(StrEnum):
    """What is done to machines and networks, by the word of the documents. What a client does wrong is not here."""

    POWER_OFF = "power-off"
    FREEZE = "freeze"
    PARTITION = "partition"
    ROLLING = "rolling"
    SLOW_LINK = "slow-link"
    DISK_FULL = "disk-full"
    READ_ONLY = "read-only"
    STALE_PRIMARY = "stale-primary"


class Direction(StrEnum):
    """What a partition drops, as the site that is cut off sees it."""

    BOTH = "both"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRequest:
    """One fault of a run, with its ``name`` in the documents. ``hosts`` it is done on (gateways for what is done to
    networks, the old primary's machine for the rest); ``networks`` are the ranges that it cuts off or slows down.
    ``lifetime``: when nobody renews or lifts it for so long, the hosts lift it themselves."""

    run: str
    name: str
    harm: Harm
    fleet: Fleet
    """All hosts that are named here, bastions included."""
    hosts: tuple[str, ...]
    lifetime: timedelta
    cluster: Cluster | None = None
    networks: tuple[str, ...] = ()
    bmc: BmcAccess | None = None
    peers: tuple[str, ...] = ()
    """The other site's ranges: a rolling disaster cuts ``networks`` off from these first."""
    address: str = ""
    """Where clients connect to the old primary: who asks whether a fault has bitten tries there, at the port of
    ``cluster``."""
    witnesses: tuple[str, ...] = ()
    """Hosts that try it, from outside of what is cut off. Without any, only what else can be looked at is."""
    direction: Direction = Direction.BOTH
    """Of a partition."""
    lead: timedelta = timedelta(seconds=1)
    """Of a rolling disaster: from the cut between the sites until the whole site is cut off."""
    rate: str = "1mbit"
    """Of a slow link, as ``tc`` writes it."""
    latency: timedelta = timedelta(milliseconds=100)
    """Of a slow link: the longest that a packet waits."""
    deadline: timedelta = timedelta(seconds=10)
    """For each single call; a machine that boots may take longer by its own."""


class Injection(Protocol):
    """One fault that can be done and lifted. A host that fails is a result. Raises ``Cancelled``, and ``InputError``
    for what cannot be asked for. What the hosts cannot do, and what is done instead, is told by ``stage``."""

    def stage(self) -> Seen:
        """Connect, look whether the hosts can do it, load what is needed, and find out what the undo is. NOT_DONE is
        ready to act; the reading ``way`` names how it will be done."""
        ...

    def undo(self) -> JsonObject:
        """How it is lifted, for the journal: written down before ``act``; ``Faults.lift`` takes it. It is complete by
        itself, and holds no secret. Call it after ``stage``."""
        ...

    def act(self) -> Acted:
        """Arm the dead-man's timer, then do it. A rolling disaster returns after its second stage, and tells both
        moments: the readings ``replication_ns`` and ``site_ns``. A machine without power has no timer: only ``lift``
        brings it back."""
        ...

    def bitten(self) -> Confirmation:
        """Whether the fault does what it should, by who looks from elsewhere or at another thing than was set."""
        ...

    def biting(self) -> Callable[[], Confirmation]:
        """Begin ``bitten``, and return at once: the answer waits for it, and raises what it would."""
        ...

    def renew(self) -> bool:
        """Set the dead-man's timer anew. False: it has lifted the fault already, or nobody can tell; do not go on as if
        it stood. True where there is none."""
        ...

    def come_back(self) -> Acted:
        """A stale primary gets its power back and starts as a primary, whoever else is one by now; ``lift`` stops it.
        For any other fault this does nothing, and is ok."""
        ...

    def lift(self) -> Acted:
        """Undo it. Safe to call again, also where the timer was faster. Who was cancelled lifts by ``Faults.lift``, in
        a context that is not."""
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
        """What is left of faults of any run on the hosts of ``fleet.names``, a sentence each: rules, queues, timers,
        stopped processes, limits, mounts. A host that cannot be asked is one too: it may have no power."""
        ...

    def found(self, fleet: Fleet, context: Context) -> Sequence[JsonObject]:
        """The undo of each fault that these hosts know of, for ``lift``: who has no journal any more can mend too."""
        ...
