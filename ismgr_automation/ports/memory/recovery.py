"""A replicated database with its power, networks, balancers and clients in memory, for the safety of recoveries. Time
stands still until somebody ticks; there are no threads, clocks or chances, so that every run can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Attempt, Outcome

TICK_NS = 1_000_000
"""One tick, as verbs and probes tell it."""

CLIENT = "client"
"""Where clients are, as an end of a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record of a member's log: a client's write, where and when it was taken."""

    number: int
    host: str
    tick: int
    timeline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A fault that stands on a host, with what the host knows of how it is mended."""

    host: str
    undo: JsonObject
    mend: Callable[[], bool]
    """False: it stays."""
    until: int | None = None
    """The tick at which the host mends it by itself; None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What drills break in a world."""

    behind: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The ends that only a gateway connects with all others, by the gateway."""
    broken: dict[str, Broken] = field(default_factory=dict)
    """Faults that stand, by the name of their timer."""
    unanswered: set[frozenset[str]] = field(default_factory=set)
    """Links over which one more request arrives, and no answer comes back."""
    toothless: set[str] = field(default_factory=set)
    """Faults that say that they are done, and do nothing; by their name or what they do."""
    stuck: set[str] = field(default_factory=set)
    """Faults that nobody can lift, the host neither."""


class MemoryMember:
    """One member. Its server, when it runs, is a standby where ``standby`` is set, else a primary."""

    def __init__(self, host: str, *, follows: str = "") -> None:
        """A primary that runs, or a standby of the member that it ``follows``."""
        self.host = host
        self.standby = bool(follows)
        self.upstream = follows
        """Whom a standby follows."""
        self.powered = True
        self.runs = True
        self.clean = False
        """Whether the server that does not run was shut down, and did not crash."""
        self.frozen = False
        """It is there, and does nothing (SIGSTOP)."""
        self.readonly = False
        self.rewinds = True
        """Whether ``pg_rewind`` can work on it."""
        self.starts_alone = False
        """The server comes up with the machine, as no shipped role lets it."""
        self.sluggish = 0
        """A promotion is carried out so many ticks later, when nobody waits for it any more; 0: at once."""
        self.landing: int | None = None
        """The tick at which that will be."""
        self.timeline = 1
        self.log: list[Entry] = []
        self.waiting: list[int] = []
        """Writes that came while it was frozen: it takes them when it goes on, if it may."""

    @property
    def up(self) -> bool:
        """Whether its server runs on a machine with power and is not frozen."""
        return self.powered and self.runs and not self.frozen

    @property
    def primary(self) -> bool:
        """Whether it would take a write that reaches it."""
        return self.up and not self.standby and not self.readonly


class MemoryRecoveryWorld:
    """All that there is. Change it between ticks, or in ``watch`` and ``each_tick``.

    >>> world = MemoryRecoveryWorld.pair("db1", "db2")
    >>> world.write().outcome
    <Outcome.ACKED: 'acked'>
    >>> world.kill("db1"); world.write().outcome
    <Outcome.FAILED: 'failed'>
    """

    def __init__(self, *members: MemoryMember) -> None:
        """These members, and clients that connect to them directly."""
        self.members = {one.host: one for one in members}
        self.lag = 1
        """Ticks until a record arrives at a standby."""
        self.synchronous = False
        """A write is confirmed when a standby has it; one that none has is unknown to the client."""
        self.balancers: dict[str, dict[str, str]] = {}
        """For each balancer the server that is ready, by backend. None at all: clients connect to ``direct``."""
        self.backend = "db"
        """The backend through which clients write."""
        self.servers: dict[str, str] = {}
        """The member behind a server, where it does not have its name."""
        self.direct = list(self.members)
        """Members that clients try in this order when there is no balancer."""
        self.names: dict[tuple[str, str], tuple[str, ...]] = {}
        """Record sets by zone and record."""
        self.cut: set[frozenset[str]] = set()
        """Links that carry nothing, as pairs of ends: members, balancers, ``CLIENT``."""
        self.damage = Damage()
        """What drills have broken, and what cannot be broken or mended."""
        self.unmanaged: set[str] = set()
        """Hosts that cannot be reached over the management network."""
        self.fenced: set[str] = set()
        """Members whose packet filter resets clients."""
        self.dead_bmcs: set[str] = set()
        """Machines whose BMC does not answer."""
        self.liars: set[str] = set()
        """Members whose fence says that it is up, and is not."""
        self.slow: dict[str, int] = {}
        """Ticks that a verb takes, by its name (``promote``, ``fence`` ...); 1 where it is not named."""
        self.tick = 0
        self.entries: list[Entry] = []
        """Every write that any member ever took, also those that are lost."""
        self.attempts: list[Attempt] = []
        """Every write that a client tried, in order."""
        self.several: list[tuple[int, tuple[str, ...]]] = []
        """When more than one member would have taken a client's write, and who."""
        self.late: list[Entry] = []
        """Writes that a member took although another one had been promoted."""
        self.promoted: list[tuple[int, str]] = []
        """Who was promoted when."""
        self.faults: dict[str, BaseException] = {}
        """Raised when the call of this name is made: ``promote db2``, ``fence db1``."""
        self.calls: list[str] = []
        """Everything that was asked, in order."""
        self.watch: list[Callable[[str], None]] = []
        """Called with ``promote db2`` before a verb acts, and with ``promote db2 done`` after it has: the place to
        raise ``Killed``, or to move the world."""
        self.each_tick: list[Callable[[], object]] = []
        """Called at the end of each tick: the place for clients that write all the time."""

    @classmethod
    def pair(cls, first: str = "db1", second: str = "db2", *more: str) -> MemoryRecoveryWorld:
        """A primary and its standbys, behind one balancer ``lb1``."""
        world = cls(MemoryMember(first), *(MemoryMember(name, follows=first) for name in (second, *more)))
        world.balancers["lb1"] = {world.backend: first}
        return world

    # what a client does

    def write(self, to: str = "") -> Attempt:
        """One write of a client: through the first balancer that it reaches, or directly to a member. Its number is
        never used twice."""
        number = len(self.attempts) + 1
        endpoint, host = (to, to) if to else self._route()
        outcome = self._take(number, host, endpoint)
        began = self.tick * TICK_NS
        attempt = Attempt(number=number, sent_ns=began, ended_ns=began, outcome=outcome, endpoint=endpoint)
        self.attempts.append(attempt)
        return attempt

    def _route(self) -> tuple[str, str]:
        """The endpoint that a client uses, and the member behind it."""
        for name, ready in self.balancers.items():
            if self.linked(CLIENT, name):
                server = ready.get(self.backend, "")
                return name, self.servers.get(server, server)
        if self.balancers:
            return "", ""
        found = next((name for name in self.direct if self.takes(name)), "")
        return found, found

    def _take(self, number: int, host: str, by: str) -> Outcome:
        member = self.members.get(host)
        if member is None or not member.powered or not member.runs or host in self.fenced:
            return Outcome.FAILED
        if not self.linked(source := CLIENT if by == host else by, host):
            return self._unanswered(number, member, frozenset((source, host)))
        if member.frozen:
            member.waiting.append(number)
            return Outcome.UNKNOWN
        if not member.primary:
            return Outcome.FAILED
        self._append(number, member)
        if not self.synchronous:
            return Outcome.ACKED
        standbys = [one for one in self.members.values() if self.streams(one.host) == host]
        for one in standbys:
            one.log = list(member.log)
        return Outcome.ACKED if standbys else Outcome.UNKNOWN

    def _unanswered(self, number: int, member: MemoryMember, link: frozenset[str]) -> Outcome:
        """What was sent over a connection that was open may arrive; a new one is not made any more."""
        if link not in self.damage.unanswered:
            return Outcome.FAILED
        self.damage.unanswered.discard(link)
        self.cut.add(link)
        if member.primary:
            self._append(number, member)
        return Outcome.UNKNOWN

    def _append(self, number: int, member: MemoryMember) -> Entry:
        entry = Entry(number=number, host=member.host, tick=self.tick, timeline=member.timeline)
        member.log.append(entry)
        self.entries.append(entry)
        if any(one.timeline > member.timeline for one in self.members.values() if one is not member):
            self.late.append(entry)
        return entry

    # what is so

    def linked(self, one: str, other: str) -> bool:
        """Whether two ends reach each other."""
        return frozenset((one, other)) not in self.cut | self.damage.unanswered

    def managed(self, host: str) -> bool:
        """Whether somebody can work on a host."""
        member = self.members.get(host)
        return host not in self.unmanaged and (member is None or member.powered)

    def takes(self, host: str, by: str = CLIENT) -> bool:
        """Whether a write from there would be taken."""
        return self.members[host].primary and host not in self.fenced and self.linked(by, host)

    def serves(self) -> bool:
        """Whether a client's write would be taken where it is sent now."""
        endpoint, host = self._route()
        return host in self.members and self.takes(host, CLIENT if endpoint == host else endpoint)

    def writable(self) -> tuple[str, ...]:
        """The members that would take a client's write, whoever reaches them."""
        return tuple(name for name, one in self.members.items() if one.primary and name not in self.fenced)

    def streams(self, host: str) -> str:
        """From whom a standby streams; empty: from nobody. It does when its log is the beginning of the other's."""
        member = self.members[host]
        source = self.members.get(member.upstream)
        if source is None or not member.up or not member.standby or not source.up:
            return ""
        if not self.linked(host, source.host) or not _begins(source.log, member.log):
            return ""
        return source.host if member.timeline <= source.timeline else ""

    def held(self) -> frozenset[int]:
        """The numbers that the one writable primary has; none where there is not exactly one."""
        hosts = self.writable()
        return frozenset(one.number for one in self.members[hosts[0]].log) if len(hosts) == 1 else frozenset()

    def lost(self) -> tuple[int, ...]:
        """Acknowledged writes that the one writable primary does not have."""
        held = self.held()
        return tuple(one.number for one in self.attempts if one.outcome is Outcome.ACKED and one.number not in held)

    # what happens

    def advance(self, ticks: int = 1) -> None:
        """Let time pass: records arrive, then clients write."""
        for _ in range(ticks):
            self.tick += 1
            self._lapse()
            self._land()
            for name, one in self.members.items():
                if source := self.streams(name):
                    arrived = self.members[source].log
                    known = len(one.log)
                    one.log += [entry for entry in arrived[known:] if entry.tick + self.lag <= self.tick]
                    one.timeline = self.members[source].timeline
            for call in self.each_tick:
                call()
            self.note()

    def _land(self) -> None:
        """Promotions that were asked for some time ago are carried out."""
        for name, one in self.members.items():
            if one.landing is not None and one.landing <= self.tick and one.up:
                one.landing = None
                if one.standby:
                    self.promote(name)

    def note(self) -> None:
        """Write down that more than one would take a write, if that is so."""
        if len(hosts := self.writable()) > 1:
            self.several.append((self.tick, hosts))

    def kill(self, host: str) -> None:
        """The server crashes."""
        member = self.members[host]
        member.runs = member.clean = member.frozen = False
        member.waiting.clear()
        member.landing = None  # a server that starts forgets what it was asked for

    def power_off(self, host: str) -> None:
        """Nothing runs there; what was on the wire is gone."""
        if self.members[host].runs:
            self.kill(host)
        self.members[host].powered = False
        self.fenced.discard(host)  # a packet filter does not outlive the power
        self._lapse(host)

    def power_on(self, host: str) -> None:
        """The machine is there; its server is not, unless it ``starts_alone``."""
        self.members[host].powered = True
        if self.members[host].starts_alone:
            self.start(host)

    def start(self, host: str) -> None:
        """Somebody starts the server: as what its files say."""
        self.members[host].runs = self.members[host].powered
        self.note()

    def freeze(self, host: str) -> None:
        """The server stands still."""
        self.members[host].frozen = self.members[host].runs

    def thaw(self, host: str) -> None:
        """It goes on, and takes what had arrived, fenced or not."""
        member = self.members[host]
        member.frozen = False
        waiting, member.waiting = member.waiting, []
        for number in waiting if member.primary else ():
            self._append(number, member)
        self.note()

    def part(self, ends: Iterable[str], others: Iterable[str]) -> None:
        """Cut every link between two groups of ends."""
        self.cut |= {frozenset((one, other)) for one in ends for other in others}

    def heal(self) -> None:
        """All links carry again."""
        self.cut.clear()
        self.damage.unanswered.clear()

    def _lapse(self, host: str = "") -> None:
        """Faults whose time is over, or those that a host without power has lost, are mended by themselves."""
        for name, one in tuple(self.damage.broken.items()):
            if one.until is not None and (one.host == host or one.until <= self.tick) and one.mend():
                del self.damage.broken[name]

    def promote(self, host: str) -> None:
        """A standby takes the primary role, whoever else has it."""
        member = self.members[host]
        member.standby, member.upstream = False, ""
        member.timeline += 1
        self.promoted.append((self.tick, host))
        self.note()

    # what verbs tell

    def called(self, text: str, context: Context) -> None:
        """Note a call and raise its fault, if it has one, or ``Cancelled``."""
        self._tell(text)
        if context.cancelled.is_set():
            raise Cancelled(f"{text} was stopped.", next_step="Run it again.")
        if text in self.faults:
            raise self.faults[text]

    def done(self, text: str) -> None:
        """Note that a call has had its effect."""
        self._tell(f"{text} done")

    def _tell(self, text: str) -> None:
        self.calls.append(text)
        for one in self.watch:
            one(text)


def _begins(whole: list[Entry], part: list[Entry]) -> bool:
    """Whether one log is the beginning of the other. Logs that agree at the end of the shorter one agree before it, as
    servers know it too: they compare where a log ends, and not what it holds."""
    return not part or (len(part) <= len(whole) and whole[len(part) - 1] == part[-1])
