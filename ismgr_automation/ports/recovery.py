"""What a recovery asks of the world: verbs that wait for one byte, fences that somebody else confirms, and a client
that measures. No order and no rule is here: which verb may run when is decided in ``recovery``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.upkeep import BmcAccess, Cluster, Part

Reading = int | float | str | bool


class Sight(StrEnum):
    """Whether the world is as a verb would leave it. What nobody could find out is ``unknown``, and never counts as
    done."""

    DONE = "done"
    NOT_DONE = "not-done"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a verb saw. ``words`` are for people; ``readings`` are values as they were read, by name."""

    sight: Sight
    words: str = ""
    readings: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What a verb did, in nanoseconds of ``CLOCK_MONOTONIC`` on this machine. Not ``ok``: the world may be half-way,
    and ``observe`` tells."""

    ok: bool
    began_ns: int
    ended_ns: int
    words: str = ""
    readings: Mapping[str, Reading] = field(default_factory=dict)

    @classmethod
    def at(cls, now_ns: int, *, ok: bool, words: str) -> Acted:
        """What took no time: it was refused, or there was nothing to do."""
        return cls(ok=ok, began_ns=now_ns, ended_ns=now_ns, words=words)


class Verb(Protocol):
    """One action of a recovery. A target that fails is a result. Raises ``Cancelled``, and ``InputError`` for what
    cannot be asked for. ``act`` is safe to call again: it does no more than what is not done yet."""

    def stage(self) -> Seen:
        """Connect, check what can be checked, load what is needed; changes nothing that anybody relies on. NOT_DONE is
        ready to act."""
        ...

    def observe(self) -> Seen:
        """Ask the world, over whatever connection is there, whether it is done."""
        ...

    def act(self) -> Acted:
        """Do it, and return when the world says that it is done or the deadline is over."""
        ...

    def close(self) -> None:
        """Let go of connections and of what was loaded. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What somebody else says of a fence. ``by`` names who looked and how."""

    ok: bool
    by: str
    words: str = ""
    ended_ns: int = 0


class Witness(Protocol):
    """Looks at a fence from elsewhere: never over the way by which it was raised."""

    def stage(self) -> Seen:
        """As of a verb."""
        ...

    def watch(self) -> None:
        """The fence is being raised: who gains by it begins to look. Returns at once, and changes nothing of what
        ``confirm`` must have seen."""
        ...

    def confirm(self) -> Confirmation:
        """Whether the fenced member can take no write; returns when that is sure or the deadline is over."""
        ...

    def close(self) -> None:
        """As of a verb."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceRequest:
    """Keeps ``host`` from taking writes. By power: ``bmc`` cuts it. By network: the host's packet filter resets
    connections to ``port`` on every address but those it has on ``spared`` networks (the management network)."""

    host: str
    fleet: Fleet
    """All hosts that are named here, bastions included."""
    port: int
    deadline: timedelta
    bmc: BmcAccess | None = None
    """None: by network."""
    spared: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    """Hosts that try to connect to it, on the address that clients use."""
    address: str = ""
    """That address."""
    proven: Mapping[str, float] = field(default_factory=dict)
    """Who is known to have connected before the fence, and in how many milliseconds: the readings of the witness's
    ``stage``, kept by the run that is resumed. Once the fence stands nobody can prove it any more."""
    giving_back: bool = False
    """It is let out to be the primary again, because nobody else was promoted: that it is one is no obstacle."""


class Fences(Protocol):
    """Keeps members from taking writes."""

    def fence(self, request: FenceRequest, context: Context) -> Verb:
        """Raises it."""
        ...

    def unfence(self, request: FenceRequest, context: Context) -> Verb:
        """Lifts it. A machine that comes up again must not come up as a primary: that is looked at first. One without
        power cannot be looked at, so one that does not answer before the deadline is without power again."""
        ...

    def witness(self, request: FenceRequest, context: Context) -> Witness:
        """Who confirms it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One member of a cluster, as a recovery sees it within milliseconds. ``writable`` is what a client would find."""

    host: str
    part: Part
    writable: bool = False
    streaming: bool = False
    position: int = 0
    lag_bytes: int = 0
    lag_seconds: float | None = None
    """Age of the last commit that was replayed; None where nobody can tell."""
    timeline: int = 0
    detail: str = ""


class Standby(Protocol):
    """A replicated database in a recovery: everything over connections that are open before they are needed."""

    def look(self, cluster: Cluster, context: Context) -> tuple[Standing, ...]:
        """Every member, all at once. One that cannot be reached is UNKNOWN."""
        ...

    def demote(self, cluster: Cluster, host: str, to: str, context: Context) -> Verb:
        """Planned: the primary ``host`` stops cleanly and cannot come up as a primary any more; ``to`` has replayed all
        of it."""
        ...

    def reinstate(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """The old primary ``host``, stopped by ``demote`` or let out of its fence, takes its role again. It asks
        nobody: that no other was promoted is for the rules."""
        ...

    def retire(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """The old primary ``host``, which a network fence keeps from clients, stops and cannot come up as a primary
        any more: what it wrote last is not waited for. One that does not run, or is a standby, is done already. It asks
        nobody: that another was promoted is for the rules."""
        ...

    def promote(self, cluster: Cluster, to: str, context: Context) -> Verb:
        """``to`` takes the primary role. It asks nobody: fence and rules come before."""
        ...

    def hold(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """The standby ``host`` stays one: a promotion that was asked for, and that nobody has seen, is not carried out
        any more. It fails where the promotion was faster. Nothing tells that it was done: ``observe`` is NOT_DONE."""
        ...

    def rejoin(self, cluster: Cluster, host: str, to: str, way: str, context: Context) -> Verb:
        """The old primary ``host`` becomes a standby of ``to`` and streams: by ``rewind``, by ``rebuild`` (a copy of
        everything), or ``auto``."""
        ...

    def close(self) -> None:
        """Let go of all connections, after the verbs were closed. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """On every balancer of ``fleet.names``, ``server`` of ``backend`` is ready and every other server in maintenance,
    without sessions."""

    fleet: Fleet
    backend: str
    server: str
    socket: str
    deadline: timedelta
    enough: int = 1
    """How many balancers must have done it; those that cannot be reached are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRequest:
    """The record set of a name is exactly ``values``: changed at ``server``, and shown by ``secondaries``
    (``ADDRESS`` or ``ADDRESS:PORT``) too, as far as they answer."""

    server: str
    port: int
    zone: str
    record: str
    type: str
    ttl: int
    values: tuple[str, ...]
    key_name: str
    key: SecretRef
    deadline: timedelta
    secondaries: tuple[str, ...] = ()


class Switches(Protocol):
    """Sends clients to the other side."""

    def backend(self, request: BackendRequest, context: Context) -> Verb:
        """Through load balancers."""
        ...

    def name(self, request: NameRequest, context: Context) -> Verb:
        """Through a name server."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    """A function of a Python file of the estate, called with one mapping of names to texts."""

    file: Path
    function: str
    arguments: Mapping[str, str]
    subject: str
    deadline: timedelta


class Functions(Protocol):
    """Calls functions of the estate."""

    def call(self, call: FunctionCall, context: Context) -> str:
        """What it returned, as text. Raises ``EngineError`` with the last line of what it raised, ``Cancelled``."""
        ...


class Outcome(StrEnum):
    """What became of one write, as the client knows it."""

    ACKED = "acked"
    """The commit was confirmed, without a warning."""
    FAILED = "failed"
    """It was refused, or never sent: it is surely not there."""
    UNKNOWN = "unknown"
    """The connection broke after it was sent, or it was confirmed with a warning: it may be there or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One write of the probe, by ``CLOCK_MONOTONIC`` of this machine. Numbers count from 1 and are never used twice in
    a run. ``sent_ns`` is when the client set about it, connecting anew included."""

    number: int
    sent_ns: int
    ended_ns: int
    outcome: Outcome
    endpoint: str
    cause: str = ""


class Manners(StrEnum):
    """How a client behaves."""

    GOOD = "good"
    IGNORES_TTL = "ignores-ttl"
    """It asks for an address once, and never again."""
    CANCELS_COMMITS = "cancels-commits"
    """It cancels what has not been answered after a quarter of its patience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """Numbered rows ``(run, number)`` in ``table``, one every ``every``, through the first of ``endpoints``
    (``HOST:PORT``) that takes them. ``patience`` bounds one write, and one try to connect."""

    run: str
    endpoints: tuple[str, ...]
    database: str
    user: str
    password: SecretRef
    table: str
    every: timedelta
    patience: timedelta
    folder: Path | None = None
    """Where its log is kept: the drill's own, which outlives a run that is killed. None: the context's ``work``."""
    linger: timedelta = timedelta(minutes=5)
    """How long it goes on without an owner, so that whoever resumes the drill finds it at work; then it ends."""
    manners: Manners = Manners.GOOD
    resolvers: tuple[str, ...] = ()
    """Name servers (``ADDRESS`` or ``ADDRESS:PORT``) that tell where a name in ``endpoints`` leads; what they say is
    kept for its time to live. Without any this machine's own resolver is asked for each connection."""


class RunningProbe(Protocol):
    """A client at work, in a process of its own."""

    def attempts(self) -> Sequence[Attempt]:
        """All that have ended so far, in order."""
        ...

    def stop(self) -> Sequence[Attempt]:
        """End it, and return all of them. Safe to call twice."""
        ...


class ProbeClient(Protocol):
    """Makes clients."""

    def start(self, request: ProbeRequest, context: Context) -> RunningProbe:
        """Make the table where it is missing, remove rows of older runs, begin to write; returns after the first write
        that was acknowledged. Raises ``EngineError`` when no endpoint takes one, ``Refused`` for a run that has begun
        to write before."""
        ...

    def resume(self, request: ProbeRequest, context: Context) -> RunningProbe:
        """For a run whose controller died: adopts the probe when it is still at work. One that died too is started
        anew, with the next number; its log goes on, and the number that it may have been writing is UNKNOWN. Waits for
        no write: this may be the middle of the outage. Where the machine was started anew in between, its clock and so
        the log begin anew, and what was before cannot be measured any more. Raises ``EngineError``."""
        ...

    def sees(self, request: ProbeRequest, context: Context) -> Seen:
        """One look of a detector, through all endpoints at once and over connections of its own: DONE where one of them
        takes a write within ``patience``, NOT_DONE with why none does. What it writes is no write of the run. Raises
        ``Cancelled``."""
        ...

    def held(self, request: ProbeRequest, context: Context) -> frozenset[int]:
        """The numbers of the run that the database has now. Raises ``EngineError``."""
        ...
