"""The probe's own process: writes a row at each turn of its clock until it is told to stop or its owner has been gone
for too long. It decides nothing but when to connect anew.

Started by ``running`` with a JSON object on its standard input (``log.Given``): the password is in no argument, no
variable of the environment and no file. SIGTERM ends it.

Turns are at ``start + k * every`` of ``CLOCK_MONOTONIC``. There is one attempt at a time. Turns that pass while one
lasts, because an answer or a connection takes long, are left out and never made up for: a burst of late writes would be
more load than the client that is imitated makes, and would hide how long it waited."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from ismgr_automation.core.secret import Redactor, Secret
from ismgr_automation.core.spans import from_nanoseconds
from ismgr_automation.engines.probe.link import Access, Answer, Door, Link, Unusable, over
from ismgr_automation.engines.probe.log import NAME, OWNER, Given, LogReader, LogWriter, born, lives
from ismgr_automation.ports.recovery import Attempt, Manners, Outcome

LOOK_NS = 200_000_000
"""How often a probe without an owner looks for a new one."""


def main() -> None:
    """Do all of it, and end this process."""
    said = json.loads(sys.stdin.buffer.read() or "{}")
    if not said:
        return  # the owner went before it had told us anything
    password = Secret(said.pop("password"))
    given = Given(**said | {name: tuple(said[name]) for name in ("endpoints", "resolvers")})
    stop = _stop_on_signal()
    log = _log(given)
    if log is None:
        return
    try:
        why = _Probe(given, password, log, stop).run()
    except Exception as problem:
        redactor = Redactor()
        redactor.learn(password)
        log.ended(redactor.clean(f"it failed: {type(problem).__name__}: {problem}"))
        raise
    log.ended(why)


def _stop_on_signal() -> int:
    """A file descriptor that can be read once we shall stop."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    # a terminal's Ctrl-C is for the drill, which stops us when it has measured enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return reader


def _log(given: Given) -> LogWriter | None:
    path = Path(given.folder, NAME)
    log = LogWriter(path)
    if not lives(given.owner):
        return None  # whoever resumes the drill has seen a log that nobody writes to, and begins another probe
    before = LogReader(path)
    before.read()
    log.mend(before, time.monotonic_ns())
    log.begun(given.run, given.owner, given.first - 1)
    return log


class _Owner:
    """Who started us, or has adopted us since."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._file = _watched(given.owner)
        self._gone_ns = 0
        self._look_ns = 0

    @property
    def files(self) -> list[int]:
        """What can be read when the owner dies."""
        return [] if self._file is None else [self._file]

    def over(self, log: LogWriter) -> str:
        """Why it is time to end, or nothing."""
        now = time.monotonic_ns()
        if self._file is not None:
            if not select.select([self._file], [], [], 0)[0]:
                return ""
            os.close(self._file)
            self._file = None
        self._gone_ns = self._gone_ns or now
        if now >= self._look_ns:
            self._look_ns = now + LOOK_NS
            if self._adopted(log):
                return ""
        if now - self._gone_ns < self._given.linger_ns:
            return ""
        return f"its owner was gone for {self._given.linger_ns / 1e9:g} s, and nobody adopted it"

    def _adopted(self, log: LogWriter) -> bool:
        try:
            owner = Path(self._given.folder, OWNER).read_text(encoding="ascii")
        except FileNotFoundError:
            return False
        self._file = _watched(owner)
        if self._file is None:
            return False
        self._gone_ns = 0
        log.adopted(owner)
        return True


def _watched(owner: str) -> int | None:
    """A file descriptor that can be read when that process ends; None when it has."""
    pid = int(owner.partition(":")[0])
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if born(pid) != owner:
        os.close(file)
        return None
    return file


class _Probe:
    """The client."""

    def __init__(self, given: Given, password: Secret, log: LogWriter, stop: int) -> None:
        self._given = given
        self._log = log
        self._stop = stop
        self._owner = _Owner(given)
        self._patience = from_nanoseconds(given.patience_ns)
        access = Access(
            endpoints=given.endpoints,
            database=given.database,
            user=given.user,
            password=password,
            patience=self._patience,
            resolvers=given.resolvers,
            keeps_addresses=given.manners == Manners.IGNORES_TTL,
            cancels_after=self._patience / 4 if given.manners == Manners.CANCELS_COMMITS else None,
        )
        self._door = Door(access, stop)
        self._link: Link | None = None
        self._first = 0
        self._statement = over("INSERT INTO {} (run, number) VALUES ($1, $2)", given.table).encode()
        self._clean = Redactor()
        self._clean.learn(password)

    def run(self) -> str:
        """Until it is over; gives why."""
        number, start, turn = _next(self._given), time.monotonic_ns(), 0
        gc.freeze()  # what was imported is looked through no more
        while True:
            self._idle(start + turn * self._given.every_ns)
            if self._stopped():
                return "it was stopped"
            if why := self._owner.over(self._log):
                return why
            self._log.attempt(self._attempt(number))
            number += 1
            turn = max(turn + 1, -((start - time.monotonic_ns()) // self._given.every_ns))

    def _stopped(self) -> bool:
        return bool(select.select([self._stop], [], [], 0)[0])

    def _idle(self, until_ns: int) -> None:
        """Until the next turn, or until we are to stop. A server that hangs up is noticed meanwhile."""
        while (left := until_ns - time.monotonic_ns()) > 0:
            hung_up = [] if self._link is None else [self._link.connection.socket]
            ready = select.select([self._stop, *self._owner.files, *hung_up], [], [], left / 1e9)[0]
            if self._stop in ready:
                return
            if self._link is not None and not self._link.lives():
                self._leave()
            self._owner.over(self._log)  # closes what would be ready for ever

    def _attempt(self, number: int) -> Attempt:
        sent = time.monotonic_ns()
        try:
            self._link = self._link or self._door.open(self._first)
        except Unusable as problem:
            # nothing was sent: it is surely not there
            return self._ended(number, sent, Answer(outcome=Outcome.FAILED, cause=str(problem)), "")
        endpoint = self._link.endpoint
        answer = self._link.write(self._statement, (self._given.run, str(number)), self._patience)
        if answer.outcome is Outcome.ACKED:
            self._first = 0
        if not answer.usable:
            # one that takes no writes, or breaks, is not asked again before the others were
            self._first = (self._link.place + 1) % len(self._given.endpoints)
            self._leave()
        return self._ended(number, sent, answer, endpoint)

    def _ended(self, number: int, sent: int, answer: Answer, endpoint: str) -> Attempt:
        return Attempt(
            number=number,
            sent_ns=sent,
            ended_ns=time.monotonic_ns(),
            outcome=answer.outcome,
            endpoint=endpoint,
            cause=self._clean.clean(answer.cause),
        )

    def _leave(self) -> None:
        if self._link is not None:
            self._door.give_up(self._link)
        self._link = None


def _next(given: Given) -> int:
    before = LogReader(Path(given.folder, NAME))
    before.read()
    return before.last + 1
