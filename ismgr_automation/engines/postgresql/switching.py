"""A planned switchover, step by step. At no step, wherever it breaks off, may two members take writes: the old primary
is made a standby while it is stopped, before anybody is promoted."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.postgresql import layout as scripts
from ismgr_automation.engines.postgresql.layout import Layout, slot_of
from ismgr_automation.engines.postgresql.seeing import (
    Seen,
    Situation,
    Stage,
    branched_after,
    control_of,
    judge,
    lsn,
    position_of,
    primary_of,
    read,
)
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import Cluster, Part, Switched

LOOK_WITHIN = timedelta(seconds=20)
AGAIN = timedelta(seconds=1)
"""Between two tries when a connection was lost."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of one cluster, and how to run a script on them."""

    cluster: Cluster
    layout: Layout
    store: SecretStore

    def look(self, cancelled: threading.Event) -> tuple[Seen, ...]:
        """All of them, at the same time. Raises ``InputError`` for one that is no host, ``Cancelled``."""
        hosts = {host.name: host for host in self.cluster.fleet.hosts}
        strangers = [name for name in self.cluster.fleet.names if name not in hosts]
        if strangers:
            raise InputError(f"{', '.join(strangers)}: no host of this name is known.")

        def one(name: str) -> Seen:
            return read(hosts[name], self.on(name, scripts.LOOK, scripts.STATE, cancelled=cancelled))

        with ThreadPoolExecutor(max_workers=max(1, len(self.cluster.fleet.names))) as pool:
            return tuple(pool.map(one, self.cluster.fleet.names))

    def on(
        self,
        name: str,
        script: str,
        *arguments: str,
        cancelled: threading.Event,
        deadline: timedelta = LOOK_WITHIN,
    ) -> Answer:
        """One script on one member, as root."""
        fleet = self.cluster.fleet
        job = Job(
            script=script,
            arguments=(*self.layout.arguments(self.cluster, name), *arguments),
            rights=Rights.ROOT,
            become_password=fleet.become_password,
            deadline=deadline,
        )
        return run_on(Targets(hosts=fleet.hosts, names=[name], ssh=fleet.ssh), job, self.store, cancelled)[0]


class Stopped(Exception):
    """It does not go on; the text says why."""


@dataclass(slots=True)
class Switchover:
    """One switchover: ``run`` it once."""

    members: Members
    to: str
    context: Context
    steps: list[str] = field(default_factory=list)
    without: timedelta = timedelta()
    tries: int = 0
    """How often the last step was tried: one whose connection was lost may still be at work over there."""
    deaf: threading.Event = field(default_factory=threading.Event)
    """Never set: what must not be broken off in the middle waits for this instead of a request to cancel."""

    def run(self) -> Switched:
        """See ``PostgresqlManager.switchover``."""
        seen = self.members.look(self.context.cancelled)
        situation = judge(seen, self.to)
        begun = False
        try:
            match situation.stage:
                case Stage.REFUSED:
                    return Switched(ok=False, primary=primary_of(seen), detail=situation.why)
                case Stage.DONE:
                    return Switched(ok=True, primary=self.to, steps=(f"{self.to} is the primary already",))
                case Stage.RUNS:
                    self.prepare(seen, situation)
                    self.checkpoint(situation.old)
                    begun = True
                    self._hand_over(situation.old)
                case Stage.STOPPED:
                    self.prepare(seen, situation)
                    begun = True
                    self._hand_over(situation.old)
                case Stage.PROMOTED:
                    self._may_follow(seen, situation)
            begun = True
            self._follow(situation.old)
        except Stopped as stopped:
            if not begun:
                self.tidy(situation.old)
            return self._failed(str(stopped), begun)
        except Cancelled:
            self.tidy(situation.old)
            raise
        return Switched(ok=True, primary=self.to, steps=tuple(self.steps), without_primary=self.without)

    def _failed(self, why: str, begun: bool) -> Switched:
        """What runs where now, after a step that did not work."""
        seen = self.members.look(self.deaf)
        told = "; ".join(one.sentence() for one in seen)
        what = f"{why}. Now: {told}" if begun else f"{why}; nothing was stopped"
        return Switched(
            ok=False, primary=primary_of(seen), steps=tuple(self.steps), detail=what, without_primary=self.without
        )

    def tidy(self, old: str) -> None:
        """Nothing comes of what was got ready: the log of a standby is not held back for it. Whether this works is no
        matter: a server that cannot be asked loses nothing."""
        self.members.on(self.to, scripts.LET_GO, slot_of(old), cancelled=self.deaf)
        self.members.on(old, scripts.FORGET, cancelled=self.deaf)

    def prepare(self, seen: tuple[Seen, ...], situation: Situation) -> None:
        """All that can be found out and got ready while the primary still runs."""
        old, to = (next(one for one in seen if one.name == name) for name in (situation.old, self.to))
        began = monotonic()
        way = self.way(old, to)
        if old.part is not Part.STANDBY:
            self.say_whom_to_follow(old, way)
        slot = slot_of(old.name)
        # one that was made before the promotion holds what the old primary needs
        how = "anew" if situation.stage is Stage.RUNS else "as-it-is"
        made = self.members.on(to.name, scripts.KEEP, slot, how, cancelled=self.context.cancelled)
        if not well(made):
            raise Stopped(f"{to.name} cannot keep the log for {old.name} in slot {slot}: {made.detail}")
        self._step(f"{old.name} can follow {to.name}, which keeps its log in slot {slot}", began)

    def way(self, old: Seen, to: Seen) -> dict[str, str]:
        """The connection with which the old primary will follow, tried out: libpq's words and values."""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        try:
            known = {name: str(value) for name, value in conninfo_to_dict(to.conninfo or old.conninfo).items()}
        except ProgrammingError as error:
            raise Stopped(f"primary_conninfo of {to.name} cannot be read") from error
        if "host" not in known:
            raise Stopped(f"{to.name} has no primary_conninfo that names a host, so nobody knows how members connect")
        if "password" in known:
            raise Stopped(f"primary_conninfo of {to.name} has a password in it: keep it in a passfile")
        sources = [row.address for row in old.senders if row.feeds(to.host)]
        listens = [one.strip() for one in to.listens.split(",")]
        hosts = dict.fromkeys([*listens, *sources, to.host.address])
        common = known | {"port": str(self.members.cluster.port), "application_name": old.name}
        common.pop("hostaddr", None)
        ways = [common | {"host": one} for one in hosts if one not in {"", "*", "localhost", "0.0.0.0", "::"}]  # noqa: S104
        standby = "on" if to.part is Part.STANDBY else "off"
        words = [make_conninfo("", **way) for way in ways]
        tried = self.members.on(old.name, scripts.WAY, standby, *words, cancelled=self.context.cancelled)
        if not well(tried):
            raise Stopped(f"{old.name} cannot connect to {to.name} to follow it: {tried.detail}")
        system, found = tried.output.strip().split("\n")
        if system.split("|", 1)[0] != to.system:
            raise Stopped(f"{old.name} reaches another cluster where {to.name} should be ({found})")
        return ways[words.index(found)]

    def say_whom_to_follow(self, old: Seen, way: dict[str, str]) -> None:
        """Our file on the old primary, and whether the server will take it (what the role wrote comes after it)."""
        from psycopg.conninfo import conninfo_to_dict

        text = follow_text(old.name, way)
        said = self.members.on(old.name, scripts.SAYS, text, cancelled=self.context.cancelled)
        if not well(said):
            raise Stopped(f"{old.name} cannot be told whom to follow: {said.detail}")
        if old.part is Part.DOWN:
            return
        taken = {row["name"]: row for row in json.loads(said.output)}
        wrong = ""
        if not {"primary_conninfo", "primary_slot_name"} <= set(taken):
            wrong = f"it does not read {scripts.FILE} in {self._layout_of(old.name)}"
        elif conninfo_to_dict(taken["primary_conninfo"]["setting"]).get("host") != way["host"]:
            wrong = f"{taken['primary_conninfo']['file']} names another primary"
        elif taken["primary_slot_name"]["setting"] != slot_of(old.name):
            wrong = f"{taken['primary_slot_name']['file']} names another slot"
        if wrong:
            raise Stopped(f"{old.name} would not follow {self.to}: {wrong}")

    def _layout_of(self, host: str) -> str:
        return self.members.layout.arguments(self.members.cluster, host)[1]

    def checkpoint(self, old: str) -> None:
        """So that the stop is quick. Raises ``Stopped``, ``Cancelled``."""
        began = monotonic()
        done = self.members.on(old, scripts.SQL, "CHECKPOINT", cancelled=self.context.cancelled, deadline=self._within)
        if not well(done):
            raise Stopped(f"the checkpoint on {old} failed: {done.detail}")
        self._step(f"checkpoint on {old}", began)
        if self.context.cancelled.is_set():
            raise Cancelled("The switchover was stopped on request.", untouched="The primary was not stopped.")

    def _hand_over(self, old: str) -> None:
        """From the stop of the old primary to the first write that the new one takes."""
        began = monotonic()
        try:
            end = self._stop(old)
            self._promote(old, end)
        finally:
            self.without = timedelta(seconds=round(monotonic() - began, 3))

    def _stop(self, old: str) -> int:
        """Where the last record that the old primary wrote begins: its shutdown checkpoint."""
        began = monotonic()
        stopped = self._insist(old, scripts.STOP)
        if stopped.code == scripts.NOT_CLEAN:
            raise self.undone(old, f"{old} was not stopped cleanly")
        if not well(stopped):
            raise Stopped(f"{old} could not be stopped: {stopped.detail}")
        end = position_of(control_of(stopped.output)["Latest checkpoint location"])
        self._step(
            f"stopped {old} cleanly, its last record begins at {lsn(end)}; it can only start as a standby", began
        )
        return end

    def _promote(self, old: str, end: int) -> None:
        began = monotonic()
        promoted = self._insist(self.to, scripts.PROMOTE, lsn(end), self._seconds)
        if promoted.code == scripts.NOT_CAUGHT_UP and self.tries == 1:
            raise self.undone(old, f"{self.to} did not replay the last record of {old}: {promoted.detail}")
        if promoted.code == scripts.NOT_ALL:
            raise Stopped(
                f"somebody else promoted {self.to} before it had all of {old}: {promoted.detail}. {old} is stopped, "
                "and what it has more is in its data: rewind it (pg_rewind) when that was looked at"
            )
        if not well(promoted):
            raise Stopped(
                f"{self.to} was told to be the primary, and does not say that it is: {promoted.detail}. "
                f"{old} was not started again, because two primaries would lose writes: call the switchover again"
            )
        self._step(f"{self.to} has replayed all of it, was promoted and takes writes", began)

    def undone(self, old: str, why: str) -> Stopped:
        """Nobody was promoted by us: the old primary becomes the primary again, if there is no other one by now."""
        began = monotonic()
        if any(one.part is Part.PRIMARY for one in self.members.look(self.deaf) if one.name != old):
            return Stopped(f"{why}, and somebody else is the primary now: {old} was not started again")
        back = self.members.on(
            old,
            scripts.BACK,
            self._seconds,
            cancelled=self.deaf,
            deadline=self._within + LOOK_WITHIN,
        )
        if not well(back):
            return Stopped(f"{why}, and {old} could not be started again as the primary: {back.detail}")
        self.tidy(old)
        self._step(f"started {old} again as the primary", began)
        return Stopped(f"{why}; {old} was started again")

    def _may_follow(self, seen: tuple[Seen, ...], situation: Situation) -> None:
        """An old primary that is no standby yet may become one only when it has nothing that the new one lacks."""
        old, to = (next(one for one in seen if one.name == name) for name in (situation.old, self.to))
        if old.follows:
            return
        name = f"{to.timeline:08X}"
        history = self.members.on(self.to, scripts.HISTORY, name, cancelled=self.context.cancelled)
        if not well(history) or not branched_after(history.output, old.timeline, old.checkpoint):
            raise Stopped(
                f"{old.name} ended at {lsn(old.checkpoint)} on timeline {old.timeline}, and {to.name} does not have "
                "all of that: rewind it (pg_rewind)"
            )
        self.prepare(seen, situation)

    def _follow(self, old: str) -> None:
        began = monotonic()
        followed = self._insist(old, scripts.FOLLOW, self._seconds, slot_of(self.to))
        if followed.code == scripts.NOT_STREAMING and followed.reach is Reach.OK:
            raise Stopped(f"{old} runs as a standby and does not stream, its log says why. {followed.detail}".strip())
        if not well(followed):
            raise Stopped(f"{old} does not follow {self.to}: {followed.detail}")
        self._step(f"{old} streams from {self.to}", began)

    def _insist(self, name: str, script: str, *arguments: str) -> Answer:
        """A script that may be run again, until the member says how it ended or the time is over."""
        end = monotonic() + self._within.total_seconds()
        self.tries = 0
        while True:
            self.tries += 1
            answer = self.members.on(name, script, *arguments, cancelled=self.deaf, deadline=self._within + LOOK_WITHIN)
            if answer.reach is Reach.OK:
                return answer
            if monotonic() > end:
                return replace(answer, detail=f"cannot be reached ({answer.reach}): {answer.detail}")
            self.deaf.wait(AGAIN.total_seconds())

    @property
    def _within(self) -> timedelta:
        return self.members.cluster.deadline

    @property
    def _seconds(self) -> str:
        return str(max(1, int(self._within.total_seconds())))

    def _step(self, what: str, began: float) -> None:
        self.steps.append(f"{what} ({monotonic() - began:.2f} s)")


def well(answer: Answer) -> bool:
    """Whether a script ran and says that it did what it was to do."""
    return answer.reach is Reach.OK and answer.code == 0


def follow_text(host: str, way: Mapping[str, str]) -> str:
    """Our file for a member that is to follow over this connection."""
    from psycopg.conninfo import make_conninfo

    return (
        "# Kept by ismgr after a switchover; what the role postgresql writes comes later and wins.\n"
        f"primary_conninfo = {_quoted(make_conninfo('', **way))}\nprimary_slot_name = '{slot_of(host)}'\n"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
