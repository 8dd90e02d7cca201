"""Reads what a member said into values, and judges from all of them how far a switchover is. Touches no host."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.engines.postgresql.layout import slot_of
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Host, Reach
from ismgr_automation.ports.upkeep import ClusterMember, Part

LAG_AT_MOST = 16 * 1024 * 1024
"""Bytes that a standby may be behind when a switchover begins: they are waited for without a primary."""

STREAMING = "streaming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One connection over which a member sends its log. ``lag`` (bytes) is -1 until the receiver has said how far it
    is."""

    name: str
    address: str
    state: str
    slot: str
    lag: int

    def feeds(self, host: Host) -> bool:
        """Whether this host receives it."""
        return host.name == self.name or slot_of(host.name) == self.slot or host.address == self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One member as it was seen. What only a running server can tell is empty for others; ``checkpoint`` (where the
    last one begins), ``clean`` (shut down as a primary) and ``follows`` come from the disk."""

    host: Host
    part: Part
    timeline: int = 0
    position: int = 0
    receiving: str = ""
    paused: bool = False
    system: str = ""
    listens: str = ""
    conninfo: str = field(default="", repr=False)
    senders: tuple[Sender, ...] = ()
    logical: tuple[str, ...] = ()
    """Logical replication slots."""
    follows: bool = False
    clean: bool = False
    state: str = ""
    """pg_controldata's words."""
    checkpoint: int = 0
    detail: str = ""

    @property
    def name(self) -> str:
        """The host's."""
        return self.host.name

    def sentence(self) -> str:
        """What it is, for people."""
        match self.part:
            case Part.PRIMARY:
                return f"{self.name} is a primary at {lsn(self.position)}"
            case Part.STANDBY:
                receives = f"receives ({self.receiving})" if self.receiving else "receives nothing"
                return f"{self.name} is a standby at {lsn(self.position)} and {receives}"
            case Part.DOWN:
                start = "as a standby" if self.follows else "as a primary"
                return f"{self.name} is down ({self.state}) and would start {start}"
            case Part.UNKNOWN:
                return f"nobody can tell what {self.name} is ({self.detail})"


class Stage(StrEnum):
    """How far a switchover is."""

    REFUSED = "refused"
    RUNS = "runs"
    """Nothing was begun, and it may begin."""
    STOPPED = "stopped"
    """The old primary is stopped cleanly, and nobody is promoted."""
    PROMOTED = "promoted"
    """The new primary runs, and the old one does not follow yet."""
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A stage, with the old primary, or why a switchover is refused."""

    stage: Stage
    old: str = ""
    why: str = ""


def lsn(position: int) -> str:
    """A position as PostgreSQL writes it.

    >>> lsn(0x3_0000_0148)
    '3/148'
    """
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def position_of(text: str) -> int:
    """The position that PostgreSQL writes so.

    >>> position_of("3/148") == 0x3_0000_0148
    True
    """
    high, _, low = text.strip().partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def read(host: Host, answer: Answer) -> Seen:
    """What one member is, from the answer to ``layout.LOOK``."""
    if answer.reach is not Reach.OK:
        return Seen(host=host, part=Part.UNKNOWN, detail=f"cannot be reached ({answer.reach}): {answer.detail}")
    lines = answer.output.splitlines()
    control = control_of("\n".join(line.removeprefix("control ") for line in lines if line.startswith("control ")))
    if answer.code or not control:
        return Seen(host=host, part=Part.UNKNOWN, detail=answer.detail or "its data directory cannot be read")
    state = control["Database cluster state"]
    disk: dict[str, Any] = {
        "host": host,
        "follows": "follows" in lines,
        "clean": state == "shut down",
        "state": state,
        "system": control["Database system identifier"],
        "checkpoint": position_of(control["Latest checkpoint location"]),
        "timeline": int(control["Latest checkpoint's TimeLineID"]),
        "detail": answer.detail,
    }
    if "alive" not in lines:
        return Seen(part=Part.DOWN, **disk)
    said = next((line.removeprefix("sql ") for line in lines if line.startswith("sql ")), "")
    if not said:
        detail = {"detail": f"it runs and does not answer: {answer.detail}"}
        return Seen(part=Part.UNKNOWN, **disk | detail)
    found = json.loads(said)
    senders = tuple(Sender(**one) for one in found.pop("senders"))
    found["logical"] = tuple(found["logical"])
    part = Part.STANDBY if found.pop("recovery") else Part.PRIMARY
    return Seen(part=part, senders=senders, **disk | found)


def control_of(text: str) -> dict[str, str]:
    """``pg_controldata``'s lines."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def member_of(one: Seen, seen: Sequence[Seen]) -> ClusterMember:
    """The member as the port tells it."""
    rows = [row for other in seen for row in other.senders if other is not one and row.feeds(one.host)]
    streaming = one.receiving == STREAMING if one.part is Part.STANDBY else False
    if one.part is Part.PRIMARY:
        streaming = any(row.state == STREAMING for row in one.senders)
    return ClusterMember(
        host=one.name,
        part=one.part,
        timeline=one.timeline,
        position=one.position or one.checkpoint,
        streaming=streaming,
        lag_bytes=max([0, *(row.lag for row in rows)]) if one.part is Part.STANDBY else 0,
        detail=one.sentence() if one.part is Part.DOWN else one.detail,
    )


def primary_of(seen: Sequence[Seen]) -> str:
    """Who is the primary; empty when nobody can tell."""
    found = [one.name for one in seen if one.part is Part.PRIMARY]
    unknown = any(one.part is Part.UNKNOWN for one in seen)
    return found[0] if len(found) == 1 and not unknown else ""


def judge(seen: Sequence[Seen], to: str) -> Situation:
    """How far a switchover to this member is, or why it may not begin."""
    members = {one.name: one for one in seen}
    primaries = [one for one in seen if one.part is Part.PRIMARY]
    why = _disorder(seen, to, [one.name for one in primaries])
    if why:
        return _refused(why)
    if not primaries:
        return _without_primary(members[to], seen)
    if primaries[0].name == to:
        return _afterwards(members[to], seen)
    why = _obstacle(primaries[0], members[to])
    return _refused(why) if why else Situation(stage=Stage.RUNS, old=primaries[0].name)


def branched_after(history: str, timeline: int, checkpoint: int) -> bool:
    """Whether a timeline's history left this one after everything that was written to it: the last record there is the
    checkpoint of a clean shutdown, which begins at ``checkpoint``."""
    rows = [re.split(r"\s+", line.strip()) for line in history.splitlines() if line.strip()]
    return any(int(row[0]) == timeline and position_of(row[1]) > checkpoint for row in rows if row[0].isdigit())


def _refused(why: str) -> Situation:
    return Situation(stage=Stage.REFUSED, why=why)


def _disorder(seen: Sequence[Seen], to: str, primaries: Sequence[str]) -> str:
    """What makes any switchover unsafe; empty: nothing."""
    names = [one.name for one in seen]
    if to not in names:
        close = did_you_mean(to, names)
        return f"{to!r} is no member" + (f" (did you mean {close!r}?)" if close else "")
    unknown = [one.sentence() for one in seen if one.part is Part.UNKNOWN]
    if unknown:
        return f"{'; '.join(unknown)}: it could be a primary"
    if len(primaries) > 1:
        return f"there are {len(primaries)} primaries: {', '.join(primaries)}"
    if len({one.system for one in seen}) > 1:
        return "the members' data does not come from one cluster (system identifiers differ)"
    return ""


def _without_primary(to: Seen, seen: Sequence[Seen]) -> Situation:
    """Nobody is the primary: go on where somebody stopped a primary cleanly, and nowhere else."""
    stopped = [one for one in seen if one.part is Part.DOWN and one.clean]
    if to.part is not Part.STANDBY or len(stopped) != 1:
        told = "; ".join(one.sentence() for one in seen)
        return _refused(f"there is no primary, and a planned switchover needs one: {told}")
    if stopped[0].timeline != to.timeline:
        return _refused(f"{stopped[0].name} is on timeline {stopped[0].timeline}, {to.name} on {to.timeline}")
    return Situation(stage=Stage.STOPPED, old=stopped[0].name)


def _afterwards(to: Seen, seen: Sequence[Seen]) -> Situation:
    """The wanted member is the primary: whoever does not receive is to follow."""
    loose = [one for one in seen if one is not to and one.receiving != STREAMING]
    if not loose:
        return Situation(stage=Stage.DONE)
    if len(loose) > 1:
        return _refused("several members do not stream: " + ", ".join(one.name for one in loose))
    if loose[0].part is Part.DOWN and not loose[0].clean and not loose[0].follows:
        return _refused(f"{loose[0].name} was not stopped cleanly ({loose[0].state}): it must be rewound (pg_rewind)")
    return Situation(stage=Stage.PROMOTED, old=loose[0].name)


def _obstacle(old: Seen, to: Seen) -> str:
    """Why this primary may not be stopped for that standby; empty: it may."""
    row = next((one for one in old.senders if one.feeds(to.host)), None)
    if to.part is not Part.STANDBY:
        return f"{to.sentence()}, not a standby"
    if row is None:
        return f"{to.name} does not receive from {old.name}"
    lag = row.lag if row.lag >= 0 else old.position - to.position
    obstacles = (
        (
            STREAMING not in {row.state} & {to.receiving},
            f"{to.name} does not stream: {old.name} says {row.state!r}, it says {to.receiving!r}",
        ),
        (to.paused, f"{to.name} receives, and its replay is paused"),
        (to.timeline != old.timeline, f"{to.name} is on timeline {to.timeline}, {old.name} on {old.timeline}"),
        (
            bool(old.logical),
            f"{old.name} has logical replication slots, whose readers would miss changes: {', '.join(old.logical)}",
        ),
        (lag > LAG_AT_MOST, f"{to.name} is {lag} bytes behind; at most {LAG_AT_MOST} are allowed"),
    )
    return next((why for holds, why in obstacles if holds), "")
