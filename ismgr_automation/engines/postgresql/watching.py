"""Looks at all members of a cluster within milliseconds, through sessions that stay open. Changes nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.postgresql import hot
from ismgr_automation.engines.postgresql.seeing import STREAMING, Sender, control_of, position_of
from ismgr_automation.engines.postgresql.switching import LOOK_WITHIN, Members
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Load, Loaded, Warm
from ismgr_automation.ports.hosts import Host, Reach
from ismgr_automation.ports.recovery import Standing
from ismgr_automation.ports.upkeep import Part

LOOK = timedelta(milliseconds=300)
"""In which a member must say what it is."""

RENEW = timedelta(seconds=2)
"""What is granted besides to one that is connected and whose session ended, as it does when a server restarts."""


@dataclass(frozen=True, slots=True)
class WarmMembers(Members):
    """The members, and how to run a script on them over connections that are open."""

    warm: Warm

    def on(
        self,
        name: str,
        script: str,
        *arguments: str,
        cancelled: threading.Event,
        deadline: timedelta = LOOK_WITHIN,
    ) -> Answer:
        """One script on one member, as root."""
        if cancelled.is_set():
            raise Cancelled("Work on the cluster was stopped on request.")
        words = (*self.layout.arguments(self.cluster, name), *arguments)
        return self.warm.run(name, script, words, deadline)

    def wait_script(self, name: str, script: str, *arguments: str) -> Load:
        """A script of ``hot`` that waits on a member, beside an open session."""
        words = (*self.layout.arguments(self.cluster, name), *arguments)
        return Load(script=script, arguments=words, before=hot.SESSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """One member as a look through its session sees it."""

    host: Host
    part: Part
    writable: bool = False
    timeline: int = 0
    position: int = 0
    received: int = 0
    age: float | None = None
    receiving: str = ""
    source: str = ""
    senders: tuple[Sender, ...] = ()
    follows: bool = False
    clean: bool = False
    detail: str = ""

    @property
    def name(self) -> str:
        """The host's."""
        return self.host.name

    def feeds(self, other: Host) -> bool:
        """Whether that host streams from here."""
        return any(row.state == STREAMING and row.feeds(other) for row in self.senders)

    def sentence(self) -> str:
        """What it is, for people."""
        match self.part:
            case Part.PRIMARY:
                return f"{self.name} is a primary that takes {'writes' if self.writable else 'no writes'}"
            case Part.STANDBY:
                return f"{self.name} is a standby" + (f" that receives from {self.source}" if self.source else "")
            case Part.DOWN | Part.UNKNOWN:
                return f"{self.name} is {self.part} ({self.detail})"


@dataclass(slots=True)
class Watch:
    """Looks, again and again."""

    members: WarmMembers
    _loading: dict[str, asyncio.Task[Loaded]] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)

    def look(self, *names: str, within: timedelta = LOOK) -> dict[str, Glance]:
        """These members, all at the same time; without any, all. One that does not say what it is in time is UNKNOWN;
        the first time it may take as long as connecting may, and ``RENEW`` when its session must be opened anew.
        Raises ``InputError`` for one that is no host."""
        hosts = {host.name: host for host in self.members.cluster.fleet.hosts}
        begin, wanted = self.members.warm.begin, names or tuple(self.members.cluster.fleet.names)
        asked = {name: begin(self._one(name, within), partial(_silent, name)) for name in wanted}
        return {name: read(hosts[name], done()) for name, done in asked.items()}

    async def _one(self, name: str, within: timedelta) -> Answer:
        try:
            async with asyncio.timeout((self._patience(name) + within).total_seconds()):
                loaded = await asyncio.shield(self._loaded(name))
                answer = await loaded.going(within.total_seconds(), "")
        except TimeoutError:
            answer = _silent(name)
        self._met.add(name)
        self._renew(name, answer)
        return answer

    def _patience(self, name: str) -> timedelta:
        """What a session that is not open yet may take."""
        if name not in self._met:
            return 2 * self.members.cluster.fleet.ssh.connect_timeout
        opening = name not in self._loading or not self._loading[name].done()
        return RENEW if opening and self.members.warm.alive(name) else timedelta()

    def _loaded(self, name: str) -> asyncio.Task[Loaded]:
        if name not in self._loading:
            load = self.members.wait_script(name, hot.LOOK, hot.STATE)
            self._loading[name] = asyncio.create_task(self.members.warm.loading(name, load))
        return self._loading[name]

    def _renew(self, name: str, answer: Answer) -> None:
        """Where the session is lost the next look gets another one; one that is still being made is waited for."""
        task = self._loading.get(name)
        if task is None or not task.done():
            return  # who looked at the same time has put it away already
        if task.cancelled() or task.exception() is not None:
            del self._loading[name]
        elif task.result().lost is not None or answer.output.startswith("gone\n"):
            del self._loading[name]
            self.members.warm.end(task.result())


def _silent(name: str) -> Answer:
    return Answer(host=name, reach=Reach.TIMEOUT, detail="no answer in time")


def read(host: Host, answer: Answer) -> Glance:
    """What one member is, from the answer to ``hot.LOOK``."""
    if answer.reach is not Reach.OK:
        return Glance(host=host, part=Part.UNKNOWN, detail=f"cannot be reached ({answer.reach}): {answer.detail}")
    if answer.code:
        return Glance(host=host, part=Part.UNKNOWN, detail=answer.detail or "it runs and does not answer")
    said = answer.output.removeprefix("gone\n")
    if said.startswith("sql "):
        return _running(host, json.loads(said.removeprefix("sql ")))
    lines = said.splitlines()
    control = control_of("\n".join(line.removeprefix("control ") for line in lines if line.startswith("control ")))
    if not control:
        return Glance(host=host, part=Part.UNKNOWN, detail=answer.detail or "its data directory cannot be read")
    state, follows = control["Database cluster state"], "follows" in lines
    return Glance(
        host=host,
        part=Part.DOWN,
        timeline=int(control["Latest checkpoint's TimeLineID"]),
        position=position_of(control["Latest checkpoint location"]),
        follows=follows,
        clean=state.startswith("shut down"),
        detail=f"{state}; it would start as a {'standby' if follows else 'primary'}",
    )


def _running(host: Host, found: dict[str, Any]) -> Glance:
    recovery = found["recovery"]
    return Glance(
        host=host,
        part=Part.STANDBY if recovery else Part.PRIMARY,
        writable=not recovery and not found["readonly"],
        timeline=found["timeline"],
        position=int(found["position"] or 0),
        received=int(found["received"] or 0),
        age=None if found["age"] is None else float(found["age"]),
        receiving=found["receiving"],
        source=found["source"],
        senders=tuple(Sender(**one) for one in found["senders"]),
    )


def standings(seen: Sequence[Glance]) -> tuple[Standing, ...]:
    """The members as the port tells them. A standby's lag is what it has not replayed of what the one primary has
    written, or, where no primary is seen, of what it has received."""
    primaries = [one for one in seen if one.part is Part.PRIMARY]
    written = primaries[0].position if len(primaries) == 1 else 0
    return tuple(_standing(one, written or one.received) for one in seen)


def _standing(one: Glance, written: int) -> Standing:
    known = Standing(
        host=one.name,
        part=one.part,
        writable=one.writable,
        position=one.position,
        timeline=one.timeline,
        detail=one.detail,
    )
    match one.part:
        case Part.PRIMARY:
            return replace(known, streaming=any(row.state == STREAMING for row in one.senders))
        case Part.STANDBY:
            return replace(
                known,
                streaming=one.receiving == STREAMING,
                lag_bytes=max(0, written - one.position),
                lag_seconds=one.age,
                detail=f"receives from {one.source}" if one.source else "receives nothing",
            )
        case Part.DOWN | Part.UNKNOWN:
            return known
