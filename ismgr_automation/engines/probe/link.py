"""One connection to PostgreSQL that never blocks for longer than it was told, and that can say of a statement whether
it was done, surely not done, or nobody knows. libpq alone cannot: its shortest wait for a connection is two seconds,
and it takes a commit that was confirmed with a warning for a good one."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import LiteralString

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.endpoints import place
from ismgr_automation.engines.probe.names import Names, Unresolved
from ismgr_automation.ports.recovery import Outcome

READ_ONLY = "25006"
NOT_SURE = ("08", "40003")
"""The beginnings of the states with which somebody in between says that he does not know himself."""
MOST_GIVEN_UP = 8
"""How many sessions of one server may be left waiting for an answer that nobody wants any more. Hanging up does not end
them there: one that waits for a standby goes on to, and a client that made more and more would lock everybody out."""
_PORT = 5432
_LONGEST_CAUSE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where, and who we are. ``endpoints`` are ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``."""

    endpoints: tuple[str, ...]
    database: str
    user: str
    password: Secret
    patience: timedelta
    resolvers: tuple[str, ...] = ()
    """Name servers that are asked where a name leads, as ``names.Names`` takes them; this machine's own without any."""
    keeps_addresses: bool = False
    """A name is asked for once, as clients do that ignore how long an answer is good for."""
    cancels_after: timedelta | None = None
    """What is not answered by then is cancelled, as by a user who does not want to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one statement. ``usable``: the connection is, for the next one."""

    outcome: Outcome
    cause: str = ""
    usable: bool = True


class Unusable(Exception):
    """No connection, or one that broke. The text is for people and has no secret."""


@dataclass(slots=True, kw_only=True)
class Link:
    """An open connection through ``endpoint``, the ``place``-th of its door."""

    connection: PGconn
    endpoint: str
    place: int
    server: tuple[str, int]
    """Address and port."""
    cancels_after: timedelta | None = None
    _warnings: list[str] = field(default_factory=list)
    _fatal: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection.nonblocking = 1
        self.connection.notice_handler = self._noticed

    def write(self, statement: bytes, parameters: Sequence[str], within: timedelta) -> Answer:
        """Run a statement outside of a transaction. Never raises: a failure is an answer."""
        self._warnings.clear()
        until = time.monotonic() + within.total_seconds()
        cancel = self._cancelling()
        try:
            self._send(statement, parameters)
        except psycopg.OperationalError as problem:
            return Answer(outcome=Outcome.FAILED, cause=_words(problem), usable=False)
        # from here on it may have arrived, whatever we are told
        try:
            results = self._results(until)
        except (Unusable, psycopg.OperationalError) as problem:
            return Answer(outcome=Outcome.UNKNOWN, cause=_words(problem), usable=False)
        finally:
            if cancel is not None:
                cancel.cancel()
        return self._judged(results)

    def _cancelling(self) -> threading.Timer | None:
        """Cancels the statement once its time is over. In a thread of its own: it is another connection, and that of a
        dead path nobody may wait for."""
        if self.cancels_after is None:
            return None
        timer = threading.Timer(self.cancels_after.total_seconds(), self.connection.get_cancel().cancel)
        timer.daemon = True
        timer.start()
        return timer

    def ask(self, statement: str, parameters: Sequence[str], within: timedelta) -> list[tuple[str, ...]]:
        """The rows of a statement, NULL as an empty text. Raises ``Unusable``."""
        until = time.monotonic() + within.total_seconds()
        try:
            self._send(statement.encode(), parameters)
            results = self._results(until)
        except psycopg.OperationalError as problem:
            raise Unusable(_words(problem)) from problem
        answer = self._judged(results)
        if answer.outcome is Outcome.FAILED or not answer.usable:
            raise Unusable(answer.cause)
        last = results[-1]
        return [
            tuple((last.get_value(row, column) or b"").decode() for column in range(last.nfields))
            for row in range(last.ntuples)
        ]

    def lives(self) -> bool:
        """Whether nobody has hung up, as far as this end knows. Sends nothing and does not wait."""
        try:
            if _ready(self.connection.socket, select.POLLIN, 0.0):
                self.connection.consume_input()
                self.connection.is_busy()  # looks at what came in: a server that goes away says so
        except psycopg.OperationalError:
            return False
        return self.connection.status == pq.ConnStatus.OK and not self._fatal

    def waits(self) -> bool:
        """Whether the last statement is still without an answer, as far as this end knows. Does not wait itself."""
        return self.lives() and bool(self.connection.is_busy())

    def close(self) -> None:
        """Hang up. Safe to call twice."""
        self.connection.finish()

    def _send(self, statement: bytes, parameters: Sequence[str]) -> None:
        self.connection.send_query_params(statement, [one.encode() for one in parameters])

    def _results(self, until: float) -> list[PGresult]:
        """All of them, up to the server saying that it is ready for more: only then is a commit done."""
        results: list[PGresult] = []
        while self.connection.flush():
            self._wait(select.POLLIN | select.POLLOUT, until)
            self.connection.consume_input()
        while True:
            while self.connection.is_busy():
                self._wait(select.POLLIN, until)
                self._take(results)
            result = self.connection.get_result()
            if result is None:
                return results
            results.append(result)

    def _take(self, results: list[PGresult]) -> None:
        try:
            self.connection.consume_input()
        except psycopg.OperationalError:
            # what the server said before it hung up is worth more than that it did
            if not results:
                raise
            raise Unusable(_first_line(results[0].get_error_message())) from None

    def _wait(self, events: int, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0 or not _ready(self.connection.socket, events, left):
            raise Unusable("no answer in time")

    def _judged(self, results: Sequence[PGresult]) -> Answer:
        whole = self.connection.status == pq.ConnStatus.OK
        errors = [one for one in results if one.status == pq.ExecStatus.FATAL_ERROR]
        if not errors:
            if not whole or not results:
                return Answer(outcome=Outcome.UNKNOWN, cause="the connection broke", usable=False)
            if self._warnings:
                return Answer(outcome=Outcome.UNKNOWN, cause=self._warnings[0])
            return Answer(outcome=Outcome.ACKED)
        state, severity, words = _fields(errors[0])
        sure = whole and severity == "ERROR" and bool(state) and not state.startswith(NOT_SURE)
        outcome = Outcome.FAILED if sure else Outcome.UNKNOWN
        return Answer(outcome=outcome, cause=words, usable=sure and state != READ_ONLY)

    def _noticed(self, notice: PGresult) -> None:
        _, severity, words = _fields(notice)
        if severity == "WARNING":
            self._warnings.append(words)
        elif severity in {"ERROR", "FATAL", "PANIC"}:
            self._fatal.append(words)


class Door:
    """Makes connections. ``stop`` is a file descriptor that can be read once nobody wants one any more."""

    def __init__(self, access: Access, stop: int | None = None) -> None:
        self._access = access
        self._stop = stop
        self._names = Names(access.resolvers, access.patience, keeps=access.keeps_addresses)
        self._given_up: list[Link] = []

    def give_up(self, link: Link) -> None:
        """Use it no more: hang up, but on a server that owes an answer not before it has given it."""
        if link.waits():
            self._given_up.append(link)
        else:
            link.close()

    def open(self, first: int) -> Link:
        """Through the first endpoint from ``first`` on, in a circle, that can be connected to. Each address may take
        ``patience``. Raises ``Unusable`` with why none can."""
        count = len(self._access.endpoints)
        causes = []
        for number in ((first + turn) % count for turn in range(count)):
            try:
                return self.open_at(number)
            except Unusable as problem:
                causes.append(f"{self._access.endpoints[number]}: {problem}")
        raise Unusable("; ".join(causes))

    def open_at(self, number: int) -> Link:
        """Through this endpoint. Raises ``Unusable``."""
        endpoint = self._access.endpoints[number]
        host, port = place(endpoint, _PORT)
        cause = "it has no address"
        for address in self._addresses(host):
            try:
                self._spare(address, port)
                connection = self._connected(host, address, port)
            except Unusable as problem:
                cause = str(problem)
                continue
            return Link(
                connection=connection,
                endpoint=endpoint,
                place=number,
                server=(address, port),
                cancels_after=self._access.cancels_after,
            )
        raise Unusable(cause)

    def _addresses(self, host: str) -> tuple[str, ...]:
        try:
            return self._names.addresses(host)
        except Unresolved as problem:
            raise Unusable(_first_line(str(problem))) from None

    def _spare(self, address: str, port: int) -> None:
        """Raise ``Unusable`` when too many wait there already."""
        for link in [one for one in self._given_up if not one.waits()]:
            link.close()
            self._given_up.remove(link)
        if sum(one.server == (address, port) for one in self._given_up) >= MOST_GIVEN_UP:
            raise Unusable(f"{MOST_GIVEN_UP} sessions that were given up still wait there")

    def _connected(self, host: str, address: str, port: int) -> PGconn:
        until = time.monotonic() + self._access.patience.total_seconds()
        connection = pq.PGconn.connect_start(self._conninfo(host, address, port).encode())
        while (state := connection.connect_poll()) != pq.PollingStatus.OK:
            if state == pq.PollingStatus.FAILED or connection.status == pq.ConnStatus.BAD:
                cause = _first_line(connection.get_error_message())
                connection.finish()
                raise Unusable(cause)
            events = select.POLLIN if state == pq.PollingStatus.READING else select.POLLOUT
            left = until - time.monotonic()
            if left <= 0 or not _ready(connection.socket, events, left, self._stop):
                connection.finish()
                raise Unusable("no connection in time")
        return connection

    def _conninfo(self, host: str, address: str, port: int) -> str:
        milliseconds = max(1, int(self._access.patience.total_seconds() * 1000))
        return make_conninfo(
            host=host,
            hostaddr=address,
            port=port,
            dbname=self._access.database,
            user=self._access.user,
            password=self._access.password.reveal(),
            application_name="ismgr probe",
            client_encoding="UTF8",
            # said, so that no variable of our own environment says otherwise
            options="",
            target_session_attrs="any",
            # one more round trip that a real client of a data center would not make
            gssencmode="disable",
            # a path that swallows packets is given up by the kernel as well, or closed sockets would stay for minutes
            tcp_user_timeout=milliseconds,
            keepalives_idle=1,
            keepalives_interval=1,
            keepalives_count=2,
        )


def over(statement: LiteralString, table: str) -> str:
    """The statement with the table's quoted name in place of ``{}``."""
    return sql.SQL(statement).format(sql.Identifier(table)).as_string(None)


def _ready(file: int, events: int, seconds: float, stop: int | None = None) -> bool:
    """Whether it is within the time; False at once when ``stop`` is."""
    waiting = select.poll()
    waiting.register(file, events)
    if stop is not None:
        waiting.register(stop, select.POLLIN)
    ready = [one for one, _ in waiting.poll(seconds * 1000)]
    return bool(ready) and stop not in ready


def _fields(result: PGresult) -> tuple[str, str, str]:
    """State, severity in English, and words; of what libpq says itself the words alone."""
    wanted = (
        pq.DiagnosticField.SQLSTATE,
        pq.DiagnosticField.SEVERITY_NONLOCALIZED,
        pq.DiagnosticField.MESSAGE_PRIMARY,
    )
    state, severity, words = ((result.error_field(one) or b"").decode(errors="replace") for one in wanted)
    words = words or _first_line(result.get_error_message())
    return state, severity, f"{words} ({state})" if state else words


def _words(problem: Exception) -> str:
    return _first_line(str(problem))


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["it broke without a word"])[0][:_LONGEST_CAUSE]
