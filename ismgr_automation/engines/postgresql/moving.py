"""Stops a primary by plan, and promotes a standby: the verbs of a recovery for which clients wait. A promotion asks
nobody: fence and rules come before it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.postgresql import hot
from ismgr_automation.engines.postgresql import layout as scripts
from ismgr_automation.engines.postgresql.seeing import (
    LAG_AT_MOST,
    STREAMING,
    Stage,
    control_of,
    judge,
    lsn,
    position_of,
)
from ismgr_automation.engines.postgresql.switching import Stopped, Switchover, well
from ismgr_automation.engines.postgresql.watching import Glance, Watch
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Load, Loaded
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted, Reading, Seen, Sight
from ismgr_automation.ports.upkeep import Part

AGAIN_SECONDS = 0.05
"""Between two tries when a connection was lost."""

READY_WITHIN = timedelta(minutes=2)
"""For what has its time besides that of a demotion: the checkpoint before it, for which nobody waits, and the start of
a primary that could not be stopped in time."""


@dataclass(slots=True)
class Waiting:
    """A script that waits on a member, loaded anew as often as its connection is lost."""

    watch: Watch
    name: str
    load: Load
    loaded: Loaded | None = None
    deaf: threading.Event = field(default_factory=threading.Event)

    def ready(self) -> Answer | None:
        """Make it wait; the answer is why it does not."""
        if self.loaded is None:
            self.loaded = self.watch.members.warm.load(self.name, self.load)
        elif self.loaded.lost is not None:
            self.loaded = self.loaded.anew()
        return self.loaded.lost

    def insist(self, end: float, position: str = "") -> Answer:
        """Run it, again where the connection was lost, until the member says how it ended or the time (``monotonic``)
        is over. The script may be run again. Its line is the position, where there is one, and seconds."""
        while True:
            lost = None if self.loaded is not None and self.loaded.lost is None else self.ready()
            answer = lost or self._go(end - monotonic(), position)
            if answer.reach is Reach.OK or monotonic() + AGAIN_SECONDS > end:
                return answer
            self.deaf.wait(AGAIN_SECONDS)

    def _go(self, left: float, position: str) -> Answer:
        assert self.loaded is not None  # noqa: S101  for the type checker: ready() made it
        # the script gives up first, and says how far it came
        return self.loaded.go(timedelta(seconds=max(0.0, left)), f"{position} {max(0.0, 0.9 * left):.3f}".strip())

    def renew(self) -> None:
        """Let its shell end, and the next one have a session of its own."""
        if self.loaded is not None:
            self.loaded = self.loaded.anew()

    def close(self) -> None:
        """Let its shell end."""
        if self.loaded is not None:
            self.loaded.close()


def not_cancelled(context: Context) -> None:
    """Raise ``Cancelled`` when somebody asked for it."""
    if context.cancelled.is_set():
        raise Cancelled("The recovery was stopped on request.", untouched="This step was not begun.")


def acted(began: int, why: str = "", words: str = "", **readings: Reading) -> Acted:
    """What was done since ``began``; not ok when there is a reason."""
    return Acted(ok=not why, began_ns=began, ended_ns=monotonic_ns(), words=why or words, readings=readings)


def said(name: str, answer: Answer) -> str:
    """Why a script did not do it."""
    if answer.reach is not Reach.OK:
        return f"{name} cannot be reached ({answer.reach}): {answer.detail}"
    return f"{name}: {answer.detail or f'code {answer.code}'}"


class Promotion:
    """``ports.recovery.Verb``: a standby takes the primary role."""

    def __init__(self, watch: Watch, to: str, context: Context) -> None:
        """Connects to nobody yet."""
        self._watch = watch
        self._to = to
        self._context = context
        load = watch.members.wait_script(to, hot.PROMOTE)
        self._script = Waiting(watch, to, replace(load, before=load.before + hot.MAY_PROMOTE))

    def stage(self) -> Seen:
        """Open the session over which it will be promoted."""
        not_cancelled(self._context)
        lost = self._script.ready()
        seen = self._watch.look(self._to)[self._to]
        if lost is not None:
            return Seen(sight=Sight.UNKNOWN, words=said(self._to, lost))
        if seen.part is Part.DOWN:
            return Seen(sight=Sight.UNKNOWN, words=f"{seen.sentence()}, and cannot be promoted")
        return _promoted(seen)

    def observe(self) -> Seen:
        """Whether it takes writes."""
        return _promoted(self._watch.look(self._to)[self._to])

    def act(self) -> Acted:
        """Promote it, and return when it takes writes."""
        not_cancelled(self._context)
        began = monotonic_ns()
        end = monotonic() + self._watch.members.cluster.deadline.total_seconds()
        answer = self._script.insist(end)
        if answer.reach is Reach.OK and answer.code == hot.NO_SESSION:
            # its server was started anew since it was staged
            self._script.renew()
            answer = self._script.insist(end)
        if not well(answer):
            return acted(began, f"not promoted, or nobody can tell: {said(self._to, answer)}")
        timeline = answer.output.strip()
        return acted(began, words=f"{self._to} takes writes, on timeline {timeline}", timeline=int(timeline or 0))

    def close(self) -> None:
        """Close the session."""
        self._script.close()


def _promoted(seen: Glance) -> Seen:
    if seen.part is Part.UNKNOWN:
        return Seen(sight=Sight.UNKNOWN, words=seen.sentence())
    readings: dict[str, Reading] = {"timeline": seen.timeline, "position": seen.position}
    if seen.age is not None:
        readings["age of the last replayed commit, s"] = seen.age
    return Seen(sight=Sight.DONE if seen.writable else Sight.NOT_DONE, words=seen.sentence(), readings=readings)


class Demotion:
    """``ports.recovery.Verb``: a primary is stopped by plan, made a standby while it is stopped, and all of it has
    arrived. Its processes may be ending for a while after that: whoever brings it back waits for them. One that cannot
    be completed starts the primary again, unless somebody else is one by then."""

    def __init__(self, watch: Watch, host: str, to: str, context: Context) -> None:
        """Connects to nobody yet."""
        self._watch = watch
        self._host = host
        self._to = to
        self._context = context
        cluster = watch.members.cluster
        patient = replace(cluster, deadline=max(cluster.deadline, READY_WITHIN))
        self._switchover = Switchover(replace(watch.members, cluster=patient), to, context)
        self._got_ready = False
        seconds = f"{max(1, int(cluster.deadline.total_seconds()))}"
        self._stop = Waiting(watch, host, watch.members.wait_script(host, hot.DEMOTE, seconds))
        self._arrive = Waiting(watch, to, watch.members.wait_script(to, hot.REPLAYED))

    def stage(self) -> Seen:
        """Refuse what a planned switchover refuses; say whom the old primary will follow, keep the log for it, write a
        checkpoint, so that the stop is quick."""
        not_cancelled(self._context)
        before = self.observe()
        if before.sight is Sight.DONE:
            return before
        seen = self._watch.members.look(self._context.cancelled)
        situation = judge(seen, self._to)
        why = situation.why if situation.stage is Stage.REFUSED else ""
        if not why and situation.old != self._host:
            why = f"the primary is {situation.old or self._to}, not {self._host}"
        if why:
            return Seen(sight=Sight.UNKNOWN, words=why)
        try:
            self._got_ready = True
            self._switchover.prepare(seen, situation)
            if situation.stage is Stage.RUNS:
                self._switchover.checkpoint(self._host)
        except Stopped as stopped:
            self.close()
            return Seen(sight=Sight.UNKNOWN, words=str(stopped))
        for one in (self._stop, self._arrive):
            if (lost := one.ready()) is not None:
                return Seen(sight=Sight.UNKNOWN, words=said(one.name, lost))
        return self.observe()

    def observe(self) -> Seen:
        """Whether it is stopped, can only start as a standby, and the other side has all of it."""
        seen = self._watch.look(self._host, self._to)
        host, to = seen[self._host], seen[self._to]
        words = f"{host.sentence()}; {to.sentence()}"
        readings = {"position": host.position, "replayed": to.position}
        if Part.UNKNOWN in (host.part, to.part):
            return Seen(sight=Sight.UNKNOWN, words=words, readings=readings)
        stopped = host.part is Part.STANDBY or (host.part is Part.DOWN and host.follows and host.clean)
        arrived = to.part is Part.PRIMARY or to.position > host.position
        sight = Sight.DONE if stopped and (arrived or host.part is Part.STANDBY) else Sight.NOT_DONE
        return Seen(sight=sight, words=words, readings=readings)

    def act(self) -> Acted:
        """Stop it, and return when the other side has replayed all of it."""
        not_cancelled(self._context)
        began, end = monotonic_ns(), monotonic() + self._watch.members.cluster.deadline.total_seconds()
        try:
            if not self._may_stop():
                return acted(began, words=f"{self._host} is a standby already")
            last = self._stopped(end)
            stopped = monotonic_ns()
            self._arrived(last, end)
        except Stopped as why:
            return acted(began, str(why))
        words = f"{self._host} is stopped and can only start as a standby; {self._to} has all up to {lsn(last)}"
        return acted(began, words=words, position=last, stop_ms=(stopped - began) / 1e6)

    def _may_stop(self) -> bool:
        """Whether there is something to stop. What a stage found may have changed since."""
        seen = self._watch.look(self._host, self._to)
        host, to = seen[self._host], seen[self._to]
        if host.part is Part.PRIMARY and (why := _obstacle(host, to)):
            raise Stopped(f"{why}; {self._host} was not stopped")
        return host.part is not Part.STANDBY

    def _stopped(self, end: float) -> int:
        """Where its last record begins."""
        self._got_ready = False
        answer = self._stop.insist(end)
        if answer.reach is Reach.OK and answer.code == scripts.NOT_CLEAN:
            raise self._undone(f"{self._host} was not stopped cleanly")
        if not well(answer):
            raise Stopped(f"not stopped, or nobody can tell: {said(self._host, answer)}")
        return position_of(control_of(answer.output)["Latest checkpoint location"])

    def _arrived(self, last: int, end: float) -> None:
        answer = self._arrive.insist(end, lsn(last))
        if answer.reach is Reach.OK and answer.code == hot.NOT_REPLAYED:
            raise self._undone(f"{self._to} did not replay the last record: {answer.detail}")
        if not well(answer):
            raise Stopped(f"stopped, and nobody can tell whether all has arrived: {said(self._to, answer)}")

    def _undone(self, why: str) -> Stopped:
        return self._switchover.undone(self._host, why)

    def close(self) -> None:
        """Close the sessions. Where nothing was stopped, nothing stays of what was got ready."""
        if self._got_ready:
            self._got_ready = False
            self._switchover.tidy(self._host)
        self._stop.close()
        self._arrive.close()


class Holding:
    """``ports.recovery.Verb``: a standby forgets a promotion that it was asked for and has not carried out."""

    def __init__(self, watch: Watch, host: str, context: Context) -> None:
        """Connects to nobody yet."""
        self._watch = watch
        self._host = host
        self._context = context

    def stage(self) -> Seen:
        """Look whether it is a standby still."""
        not_cancelled(self._context)
        return self.observe()

    def observe(self) -> Seen:
        """Nothing tells that it was done; UNKNOWN where nobody can tell what it is, or it is no standby any more."""
        seen = self._watch.look(self._host)[self._host]
        standby = seen.part is Part.STANDBY
        return Seen(sight=Sight.NOT_DONE if standby else Sight.UNKNOWN, words=seen.sentence())

    def act(self) -> Acted:
        """Stop it and start it again, and return when it is a standby."""
        not_cancelled(self._context)
        began, within = monotonic_ns(), self._watch.members.cluster.deadline
        seconds = f"{max(1, int(within.total_seconds()))}"
        answer = self._watch.members.on(
            self._host, hot.HOLD, seconds, cancelled=self._context.cancelled, deadline=within
        )
        why = "" if well(answer) else f"it may still be promoted: {said(self._host, answer)}"
        return acted(began, why, f"{self._host} was started anew and stays a standby")

    def close(self) -> None:
        """Nothing is kept open here."""


class Retirement:
    """``ports.recovery.Verb``: an old primary that nobody may write to any more is stopped, and can only start as a
    standby. Nobody waits for what it wrote last."""

    def __init__(self, watch: Watch, host: str, context: Context) -> None:
        """Connects to nobody yet."""
        self._watch = watch
        self._host = host
        self._context = context
        self._seconds = max(1, int(watch.members.cluster.deadline.total_seconds()))
        self._stop = Waiting(watch, host, watch.members.wait_script(host, hot.RETIRE, f"{self._seconds}"))

    def stage(self) -> Seen:
        """Look; its script is loaded when it is needed, for nobody waits."""
        not_cancelled(self._context)
        return self.observe()

    def observe(self) -> Seen:
        """Whether it is no primary."""
        seen = self._watch.look(self._host)[self._host]
        sights = {Part.PRIMARY: Sight.NOT_DONE, Part.UNKNOWN: Sight.UNKNOWN}
        return Seen(sight=sights.get(seen.part, Sight.DONE), words=seen.sentence())

    def act(self) -> Acted:
        """Stop it where it is one. One that does not run any more, and was not stopped cleanly, is stopped too."""
        not_cancelled(self._context)
        began = monotonic_ns()
        before = self.observe()
        if before.sight is not Sight.NOT_DONE:
            return acted(began, before.words if before.sight is Sight.UNKNOWN else "", before.words)
        answer = self._stop.insist(monotonic() + self._seconds)
        done = well(answer) or (answer.reach is Reach.OK and answer.code == scripts.NOT_CLEAN)
        why = "" if done else f"not stopped, or nobody can tell: {said(self._host, answer)}"
        return acted(began, why, f"{self._host} is stopped and can only start as a standby")

    def close(self) -> None:
        """Let its shell end."""
        self._stop.close()


class Reinstatement:
    """``ports.recovery.Verb``: an old primary that does not run becomes the primary again. It asks nobody."""

    def __init__(self, watch: Watch, host: str, context: Context) -> None:
        """Connects to nobody yet."""
        self._watch = watch
        self._host = host
        self._context = context

    def stage(self) -> Seen:
        """Look whether it can be done."""
        not_cancelled(self._context)
        seen = self._watch.look(self._host)[self._host]
        if seen.part is Part.STANDBY:
            return Seen(sight=Sight.UNKNOWN, words=f"{seen.sentence()}, and runs: it can be promoted")
        return _promoted(seen)

    def observe(self) -> Seen:
        """Whether it takes writes."""
        return _promoted(self._watch.look(self._host)[self._host])

    def act(self) -> Acted:
        """Start it as a primary, and return when it is one."""
        not_cancelled(self._context)
        began, within = monotonic_ns(), self._watch.members.cluster.deadline
        if self._watch.look(self._host)[self._host].part is Part.STANDBY:
            return acted(began, f"{self._host} runs as a standby: it can be promoted")
        seconds = f"{max(1, int(within.total_seconds()))}"
        answer = self._watch.members.on(
            self._host, scripts.BACK, seconds, cancelled=self._context.cancelled, deadline=within
        )
        why = "" if well(answer) else f"not started, or nobody can tell: {said(self._host, answer)}"
        return acted(began, why, f"{self._host} is the primary again")

    def close(self) -> None:
        """Nothing is kept open here."""


def _obstacle(host: Glance, to: Glance) -> str:
    """Why a primary may not be stopped now; empty: it may. What a stage found may have changed since."""
    if to.part is not Part.STANDBY or not host.feeds(to.host) or to.receiving != STREAMING:
        return f"{to.name} does not stream from {host.name}"
    lag = host.position - to.position
    return f"{to.name} is {lag} bytes behind; at most {LAG_AT_MOST} are allowed" if lag > LAG_AT_MOST else ""
