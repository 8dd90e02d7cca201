"""A place where a clone of production is tried: a network whose gateways let nothing in and nothing out, and a copy of
a standby on a spare host there. Which step may follow which is decided in ``recovery``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Reading, Seen
from ismgr_automation.ports.upkeep import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class BubbleRequest:
    """A network that is to be closed. ``gateways``: each gateway's address in it, by host. ``places`` (``HOST:PORT``)
    are those of production that nobody inside may reach; ``inside`` is the host that tries."""

    run: str
    fleet: Fleet
    network: str
    gateways: Mapping[str, str]
    inside: str
    places: tuple[str, ...]
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the gateways' packet filters counted since they were closed for this run, all together. ``passed_*`` is
    counted behind the rules that drop, by another hook: a rule that does nothing shows there. ``knocked``: tries to
    reach production from inside that the rules met. ``whole``: every gateway's rules are those of this run, as they
    were raised; ``words`` say which are not."""

    whole: bool
    dropped_out: int = 0
    dropped_in: int = 0
    passed_out: int = 0
    passed_in: int = 0
    knocked: int = 0
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one try from inside met at a place of production: ``open``, ``refused``, ``silent`` and the like.
    ``reached`` means that an answer came."""

    place: str
    met: str
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Knocks:
    """Tries from inside; a place that could not be tried is missing. Times are of ``CLOCK_MONOTONIC``."""

    tried: tuple[Tried, ...]
    began_ns: int
    ended_ns: int


class Bubble(Protocol):
    """One closed network. A gateway that fails is a result. Raises ``Cancelled``, and ``InputError`` for what cannot be
    asked for."""

    def stage(self) -> Seen:
        """Connect to all, and look. DONE: closed already, by this run. NOT_DONE: it could be closed."""
        ...

    def shut(self) -> Acted:
        """Close it on every gateway. Rules of this run that stand are left alone, and so are their counters."""
        ...

    def knock(self) -> Callable[[], Knocks]:
        """Begin to try to reach every place of production from inside, all at once; what is returned waits for it."""
        ...

    def count(self) -> Counted:
        """What was counted so far."""
        ...

    def lift(self) -> Acted:
        """Remove the rules. It asks nobody: that the clone is gone is for the rules of recovery."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Isolation(Protocol):
    """Closes networks."""

    def bubble(self, request: BubbleRequest, context: Context) -> Bubble:
        """One of them."""
        ...


class CloneState(StrEnum):
    """How far a clone is, as its host says."""

    ABSENT = "absent"
    """Nothing of one is there: no server, no data, no timer."""
    PARTIAL = "partial"
    """There is something, and no server of it answers: a copy that was broken off, or one that did not start."""
    STANDBY = "standby"
    """It runs, and takes no writes."""
    PROMOTED = "promoted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneRequest:
    """A copy of the member ``source`` of a cluster on the host ``spare``. ``lifetime``: when nobody removes it or
    renews for so long, its host removes it by itself."""

    run: str
    cluster: Cluster
    source: str
    spare: str
    fleet: Fleet
    """Both hosts, bastions included."""
    port: int
    lifetime: timedelta
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a clone answered to a query: its rows as text, columns by ``|``, or why there is no answer."""

    ok: bool
    rows: str = ""
    words: str = ""


class Clone(Protocol):
    """One clone. A host that fails is a result. Raises ``Cancelled``, and ``InputError`` for what cannot be asked
    for."""

    def stage(self) -> Mapping[str, Reading]:
        """Look whether it could be taken: ``trouble`` says why not, ``bytes`` how large the cluster is, ``position``
        up to where the source has replayed."""
        ...

    def state(self) -> CloneState:
        """How far it is."""
        ...

    def take(self) -> Acted:
        """Copy the source, and start the copy as a server that follows nobody and reaches nobody. What is left of an
        earlier one is removed first. The readings have ``bytes``."""
        ...

    def promote(self) -> Acted:
        """It takes writes; returns when it does."""
        ...

    def ask(self, database: str, query: str) -> Answered:
        """Run a query in it."""
        ...

    def remove(self) -> Acted:
        """End its server, and remove all of it; ok only when nothing is left. Never stopped by a cancelled context."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Clones(Protocol):
    """Makes clones."""

    def clone(self, request: CloneRequest, context: Context) -> Clone:
        """One of them; nothing is touched yet."""
        ...
