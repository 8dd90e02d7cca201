"""Brings an old primary back as a standby: by following, by ``pg_rewind``, or by a copy of everything. What was there
is removed only when the copy streams; a member that takes writes is left alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.postgresql import hot
from ismgr_automation.engines.postgresql import layout as scripts
from ismgr_automation.engines.postgresql.layout import slot_of
from ismgr_automation.engines.postgresql.moving import acted, not_cancelled, said
from ismgr_automation.engines.postgresql.seeing import STREAMING, Seen, branched_after, control_of
from ismgr_automation.engines.postgresql.switching import Stopped, Switchover, follow_text, well
from ismgr_automation.engines.postgresql.watching import Watch
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports import recovery
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted, Sight
from ismgr_automation.ports.upkeep import Part

LOOK_WITHIN = timedelta(seconds=5)
"""Nobody waits for a rejoin, so its looks may take their time."""

RELOAD_SECONDS = 5
"""How long a standby that was told whom to follow may take to stream, before it is stopped and rewound."""

FOLLOW_SECONDS = 15
"""How long one that was started as it was may take, when there are other ways left."""

_AGAIN_SECONDS = 0.5


class Way(StrEnum):
    """How an old primary becomes a standby."""

    AUTO = "auto"
    """As little as is needed: it follows, is rewound, is copied anew."""
    REWIND = "rewind"
    REBUILD = "rebuild"


class Step(StrEnum):
    """What was tried."""

    NOTHING = "nothing"
    TELL = "tell"
    FOLLOW = "follow"
    REWIND = "rewind"
    REBUILD = "rebuild"


_WORDS = {
    Step.NOTHING: "it streamed already",
    Step.TELL: "it was told whom to follow",
    Step.FOLLOW: "it was started as it was",
    Step.REWIND: "it was rewound",
    Step.REBUILD: "it was copied anew",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is known of a member whose server does not run. ``old``: what a rebuild keeps is still there; ``empty``:
    there is no data at all, as on a new disk."""

    conninfo: str
    rewinds: str
    """Why ``pg_rewind`` cannot work there; empty: it can."""
    free: int
    old: bool
    empty: bool
    restores: bool = False


class Rejoining:
    """``ports.recovery.Verb``: an old primary streams from the new one."""

    room = 1.1
    """What a copy needs, as a multiple of what is copied: the log goes on while it is made."""

    def __init__(self, watch: Watch, host: str, to: str, way: Way, context: Context) -> None:
        """Connects to nobody yet."""
        self._watch = watch
        self._members = watch.members
        self._host = host
        self._to = to
        self._way = way
        self._context = context
        self._switchover = Switchover(watch.members, to, context)
        self._end = 0.0
        self._how = Step.NOTHING

    def stage(self) -> recovery.Seen:
        """Look whether it may be done, and whether the old primary can connect to the new one."""
        not_cancelled(self._context)
        self._end = monotonic() + self._members.cluster.deadline.total_seconds()
        done = self.observe()
        if done.sight is Sight.DONE:
            return done
        try:
            ground = self._ground()
            old, to = self._seen(ground)
            self._switchover.way(self._known(old, ground), to)
            if self._way is Way.REBUILD:
                self._room(ground)
        except Stopped as stopped:
            return recovery.Seen(sight=Sight.UNKNOWN, words=str(stopped))
        if self._way is Way.REWIND and ground.rewinds:
            return recovery.Seen(sight=Sight.UNKNOWN, words=ground.rewinds)
        return recovery.Seen(sight=Sight.NOT_DONE, words=f"{old.sentence()}; {to.sentence()}")

    def observe(self) -> recovery.Seen:
        """Whether it streams from the new primary."""
        seen = self._watch.look(self._host, self._to, within=LOOK_WITHIN)
        host, to = seen[self._host], seen[self._to]
        words = f"{host.sentence()}; {to.sentence()}"
        readings = {"lag, bytes": max(0, to.position - host.position)}
        if Part.UNKNOWN in (host.part, to.part):
            return recovery.Seen(sight=Sight.UNKNOWN, words=words, readings=readings)
        streams = host.part is Part.STANDBY and host.receiving == STREAMING and to.writable and to.feeds(host.host)
        return recovery.Seen(sight=Sight.DONE if streams else Sight.NOT_DONE, words=words, readings=readings)

    def act(self) -> Acted:
        """Bring it back, and return when it streams. What another call left half-way is put right first."""
        not_cancelled(self._context)
        began = monotonic_ns()
        self._end = monotonic() + self._members.cluster.deadline.total_seconds()
        self._how = Step.NOTHING
        try:
            if self.observe().sight is not Sight.DONE:
                self._work()
            self._drop_old()
        except Stopped as stopped:
            return acted(began, str(stopped))
        except Cancelled as cancelled:
            return acted(began, f"stopped on request: {cancelled}")
        return acted(began, words=f"{self._host} streams from {self._to}: {_WORDS[self._how]}", way=self._how.value)

    def _drop_old(self) -> None:
        if self._how is not Step.REWIND:
            self._must(self._host, hot.DROP_OLD, why="it streams, and what it was before was not removed")

    def close(self) -> None:
        """Nothing is kept open here."""

    def _work(self) -> None:
        ground = self._ground()
        old, to = self._seen(ground)
        known = self._known(old, ground)
        way = self._switchover.way(known, to)
        if old.part is Part.STANDBY:
            if self._turns(known, way):
                return
            self._must(self._host, hot.HALT, why="it cannot be stopped")
            old, to = self._seen(ground)
        problems = []
        ground = self._say_whom_to_follow(way, ground)
        # a primary that was stopped and only then made a standby may have written what nobody else has
        fits = self._fits(old, to) if old.clean else old.follows
        for step in attempts(self._way, follows=fits, copied=ground.old, rewinds=not ground.rewinds):
            not_cancelled(self._context)
            try:
                self._try(step, way, ground)
            except Stopped as stopped:
                problems.append(str(stopped))
            else:
                return
        raise Stopped("; then ".join(problems) or f"there is no way: {ground.rewinds}")

    def _ground(self) -> Ground:
        """Waits for what an earlier call left at work there."""
        while True:
            answer = self._on(self._host, hot.GROUND)
            if answer.code != hot.BUSY or monotonic() > self._end:
                break
        if not well(answer):
            raise Stopped(said(self._host, answer))
        lines = answer.output.splitlines()
        words = settings_of(answer.output)
        control = control_of("\n".join(line.removeprefix("control ") for line in lines if line.startswith("control ")))
        hints = control.get("wal_log_hints setting") == "on" or control.get("Data page checksum version", "0") != "0"
        obstacles = (
            ("empty" in lines, f"there is no data on {self._host}"),
            (words["rewinds"] != "on", f"there is no pg_rewind on {self._host}"),
            (not hints, f"{self._host} had neither wal_log_hints nor data checksums, and pg_rewind needs one"),
        )
        return Ground(
            conninfo=words["primary_conninfo"],
            rewinds=next((why for holds, why in obstacles if holds), ""),
            free=int(words["free"] or 0) * 1024,
            old="old" in lines,
            empty="empty" in lines,
        )

    def _seen(self, ground: Ground) -> tuple[Seen, Seen]:
        """The old and the new primary, or why nothing may be done. One that starts as a standby is waited for."""
        while True:
            seen = {one.name: one for one in self._members.look(self._context.cancelled)}
            old, to = seen[self._host], seen[self._to]
            if ground.empty and old.part is Part.UNKNOWN:
                seen[self._host] = old = Seen(host=old.host, part=Part.DOWN, system=to.system, state="no data")
            unknown = [one for one in seen.values() if one.part is Part.UNKNOWN]
            if unknown != [old] or not old.follows or monotonic() > self._end:
                break
            threading.Event().wait(_AGAIN_SECONDS)
        primaries = [one.name for one in seen.values() if one.part is Part.PRIMARY]
        writable = self._watch.look(self._to, within=LOOK_WITHIN)[self._to].writable
        obstacles = (
            (bool(unknown), f"{'; '.join(one.sentence() for one in unknown)}: it could be a primary"),
            (self._host in primaries, f"{self._host} is a primary itself: fence or stop it first"),
            (primaries != [self._to] or not writable, f"{self._to} is not the one primary that takes writes"),
            (old.system != to.system, f"the data of {self._host} does not come from the cluster of {self._to}"),
        )
        why = next((why for holds, why in obstacles if holds), "")
        if why:
            raise Stopped(f"{why}; nothing was changed on {self._host}")
        return old, to

    @staticmethod
    def _known(old: Seen, ground: Ground) -> Seen:
        """With the connection that its files name, where its server does not run and cannot tell."""
        return replace(old, conninfo=old.conninfo or ground.conninfo)

    def _turns(self, old: Seen, way: dict[str, str]) -> bool:
        """A standby that runs is told whom to follow; whether it streams then."""
        self._keep("as-it-is")
        self._switchover.say_whom_to_follow(old, way)
        self._how = Step.TELL
        return well(self._on(self._host, hot.AGAIN, str(RELOAD_SECONDS)))

    def _fits(self, old: Seen, to: Seen) -> bool:
        """Whether all that it wrote was replayed by the new primary, so that it needs no more than to be started."""
        if not old.clean:
            return False
        history = self._on(self._to, scripts.HISTORY, f"{to.timeline:08X}")
        return well(history) and branched_after(history.output, old.timeline, old.checkpoint)

    def _say_whom_to_follow(self, way: dict[str, str], ground: Ground) -> Ground:
        """Our file on a member that does not run, and what its server will take from all its files when it does."""
        from psycopg.conninfo import conninfo_to_dict

        told = settings_of(self._must(self._host, hot.POINT, follow_text(self._host, way), why="it was not told"))
        if conninfo_to_dict(told["primary_conninfo"]).get("host") != way["host"]:
            raise Stopped(f"{self._host} would not follow {self._to}: its own settings name another primary")
        pages = f"full_page_writes is off on {self._host}, and pg_rewind needs it"
        why = ground.rewinds or ("" if told["full_page_writes"] == "on" else pages)
        return replace(ground, restores=bool(told["restore_command"]), rewinds=why)

    def _try(self, step: Step, way: dict[str, str], ground: Ground) -> None:
        """One step; a server that runs and does not stream is stopped again."""
        self._how = step
        match step:
            case Step.REWIND:
                self._rewind(way, ground)
            case Step.REBUILD:
                self._rebuild(way, ground)
            case Step.FOLLOW | Step.TELL | Step.NOTHING:
                self._keep("as-it-is")
        seconds = FOLLOW_SECONDS if step is Step.FOLLOW else max(1, int(self._end - monotonic()))
        answer = self._on(self._host, scripts.FOLLOW, str(seconds), slot_of(self._to))
        while well(answer) and self.observe().sight is not Sight.DONE:
            # it says so first, and the new primary a moment later
            if monotonic() > self._end:
                raise Stopped(f"{self._host} says that it streams, and {self._to} does not")
            threading.Event().wait(_AGAIN_SECONDS / 10)
        if not well(answer):
            if answer.reach is Reach.OK and step is not Step.REBUILD:
                self._on(self._host, hot.HALT)
            raise Stopped(f"{_WORDS[step]}, and it does not stream: {said(self._host, answer)}")

    def _rewind(self, way: dict[str, str], ground: Ground) -> None:
        slot = slot_of(self._host)
        self._must(self._to, hot.READY, _grant(way), slot, why="who streams may not read what a rewind needs")
        restore = "--restore-target-wal" if ground.restores else ""
        self._must(self._host, hot.REWIND, _conninfo(way), restore, why="it was not rewound")

    def _rebuild(self, way: dict[str, str], ground: Ground) -> None:
        self._room(ground)
        self._keep("anew")
        self._must(self._host, hot.REBUILD, _conninfo(way), slot_of(self._host), why="it was not copied anew")

    def _room(self, ground: Ground) -> None:
        """Refuse a copy for which there is no room beside what is there."""
        size, _, spaces = self._must(self._to, scripts.SQL, hot.SIZE, why="nobody can tell how large it is").partition(
            "|"
        )
        if int(spaces or 0):
            raise Stopped(f"{self._to} has tablespaces in other places, and only a rewind keeps those")
        needed = int(int(size) * self.room)
        if needed > ground.free:
            raise Stopped(
                f"a copy needs {needed >> 20} MiB beside the data of {self._host}, and {ground.free >> 20} MiB are free"
            )

    def _keep(self, how: str) -> None:
        """The new primary keeps its log for the old one from now on, or from when that was asked for first."""
        self._must(self._to, scripts.KEEP, slot_of(self._host), how, why="it cannot keep its log")

    def _must(self, name: str, script: str, *arguments: str, why: str) -> str:
        answer = self._on(name, script, *arguments)
        if not well(answer):
            raise Stopped(f"{why}: {said(name, answer)}")
        return answer.output.strip()

    def _on(self, name: str, script: str, *arguments: str) -> Answer:
        left = timedelta(seconds=max(1.0, self._end - monotonic()))
        return self._members.on(name, script, *arguments, cancelled=self._context.cancelled, deadline=left)


def attempts(way: Way, *, follows: bool, copied: bool, rewinds: bool) -> tuple[Step, ...]:
    """What to try, in order, from what costs least. ``follows``: it may need no more than to be started; ``copied``: an
    earlier rebuild has put its copy in place; ``rewinds``: ``pg_rewind`` can work there.

    >>> attempts(Way.AUTO, follows=False, copied=False, rewinds=True)
    (<Step.REWIND: 'rewind'>, <Step.REBUILD: 'rebuild'>)
    """
    match way:
        case Way.AUTO:
            wanted = ((Step.FOLLOW, follows), (Step.REWIND, rewinds), (Step.REBUILD, True))
        case Way.REWIND:
            wanted = ((Step.FOLLOW, follows), (Step.REWIND, rewinds), (Step.REBUILD, False))
        case Way.REBUILD:
            wanted = ((Step.FOLLOW, follows and copied), (Step.REWIND, False), (Step.REBUILD, True))
    return tuple(step for step, holds in wanted if holds)


def settings_of(text: str) -> dict[str, str]:
    """Lines of a name and its value.

    >>> settings_of("free 7")
    {'free': '7'}
    """
    return {name: value for name, _, value in (line.partition(" ") for line in text.splitlines())}


def _grant(way: Mapping[str, str]) -> str:
    return hot.GRANT.replace("{user}", way.get("user", "postgres").replace("'", "''"))


def _conninfo(way: Mapping[str, str]) -> str:
    from psycopg.conninfo import make_conninfo

    return make_conninfo("", **way)
