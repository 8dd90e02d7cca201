"""Keeps SSH connections to hosts open, with scripts that are loaded there and wait for one line. What the scripts do is
the caller's affair; nothing here waits longer than it was told to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.ssh.links import Links, classify, over
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, command_of
from ismgr_automation.engines.ssh.words import one_line, reach_of
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.secrets import SecretStore

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")

KEEPALIVE = timedelta(seconds=1)
"""After so long without a word a connection is asked for one; after ``links.MISSED`` of them it is lost."""

_LOOK_SECONDS = 0.05
_CLOSE_SECONDS = 1.0
_AT_ONCE = 1 << 16
_LONGEST_END = 80

_LOADED = r"""
mark=$1 lines=$2; shift 2
trap '' PIPE
input=
while [ "$lines" -gt 0 ]; do
  IFS= read -r line || exit 0
  input="$input$line
"
  lines=$((lines - 1))
done
{before}
printf '%s\n' "$mark"
while IFS= read -r line; do
  (
{script}
  ) </dev/null
  printf '\n%s %s\n' "$mark" "$?"
  printf '\n%s\n' "$mark" >&2
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A POSIX shell script that waits on a host, with its arguments.

    ``before`` runs once, in the same shell, and what it sets up (variables, functions, open files) is there for the
    script; it has ``input`` in the variable of that name. The script runs in a subshell each time, with the line that
    it was given in ``$line`` and nothing to read. The shell ends when the connection does."""

    script: str
    arguments: tuple[str, ...] = ()
    before: str = ":"
    input: tuple[str, ...] = field(default=(), repr=False)
    """Lines that no process list shows."""
    rights: Rights = Rights.ROOT


class Loaded:
    """A script that waits on a host, or the reason why it does not."""

    def __init__(self, warm: Warm, host: str, load: Load) -> None:
        """Made by ``Warm.load``."""
        self.host = host
        self._warm = warm
        self._load = load
        self._mark = f"-- {secrets.token_hex(8)} --"
        self._process: asyncssh.SSHClientProcess[str] | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._lost: Answer | None = None
        self._turn = asyncio.Lock()

    @property
    def lost(self) -> Answer | None:
        """Why it does not wait any more, or never did; None: it waits, as far as anybody knows."""
        if self._lost is None and self._connection is not None and self._connection.is_closed():
            self._lost = Answer(host=self.host, reach=Reach.REFUSED, detail="the connection was lost")
        return self._lost

    def go(self, within: timedelta, line: str = "") -> Answer:
        """Send the line and return what the script said. A lost connection is an answer, at once; so is the end of the
        time, after which the script may still be at work and this is lost. Raises ``Cancelled``."""
        return self.begin(within, line)()

    def begin(self, within: timedelta, line: str = "") -> Callable[[], Answer]:
        """As ``go``, without waiting: call what is returned to wait."""
        if "\n" in line:
            raise InputError("What a script waits for is one line.")
        return self._warm.begin(self.going(within.total_seconds(), line), self._gone)

    def anew(self) -> Loaded:
        """The same, loaded once more, over a new connection where the old one is lost. This one is closed."""
        self.close()
        return self._warm.load(self.host, self._load)

    def close(self) -> None:
        """Let the shell there end. Safe to call twice."""
        self._warm.begin(self.closing(), lambda: None)()

    async def starting(self, seconds: float) -> Self:
        """Start the shell and wait until it waits. Runs on the loop of ``Warm``."""
        if refused := self._warm.refused(self.host):
            self._lost = self._failed(refused.reach, refused.detail)
            return self
        try:
            await asyncio.wait_for(self._start(), seconds)
        except Exception as error:  # noqa: BLE001  a host may fail in any way, and each way is an answer
            self._lost = self._failed(*classify(error))
        return self

    async def _start(self) -> None:
        connection = self._connection = await self._warm.connection(self.host)
        load = self._load
        text = _LOADED.replace("{before}", load.before).replace("{script}", load.script)
        command = self._warm.command(self.host, text, (self._mark, str(len(load.input)), *load.arguments), load)
        self._process = await connection.create_process(command[0], encoding="utf-8", errors="replace")
        self._process.stdin.write(command[1])
        try:
            await self._process.stdout.readuntil(f"{self._mark}\n")
        except asyncio.IncompleteReadError as end:
            await self._ended(str(end.partial))

    async def _ended(self, output: str) -> None:
        """The shell ended by itself before it waited: why."""
        assert self._process is not None  # noqa: S101  for the type checker
        done = await self._process.wait()
        said = str(done.stderr)
        if done.exit_status is None:
            self._lost = self._failed(Reach.REFUSED, "the connection was lost")
        elif done.exit_status == 1 and reach_of(said) is Reach.SUDO:
            self._lost = self._failed(Reach.SUDO, one_line(said) or "sudo is refused")
        else:
            self._lost = Answer(
                host=self.host,
                reach=Reach.OK,
                code=done.exit_status or 1,
                output=output,
                detail=one_line(said) or "its shell ended before it was asked anything",
            )

    async def going(self, seconds: float, line: str) -> Answer:
        """``go`` on the loop of ``Warm``."""
        began = time.monotonic()
        sent = False
        try:
            async with asyncio.timeout(seconds), self._turn:
                if self.lost is not None or self._process is None:
                    return self._gone()
                self._process.stdin.write(f"{line}\n")
                sent = True
                answer = await self._heard(self._process)
        except Exception as error:  # noqa: BLE001  see starting
            reach, detail = classify(error)
            if isinstance(error, asyncio.IncompleteReadError):
                reach, detail = Reach.REFUSED, "the connection was lost"
            if isinstance(error, TimeoutError):
                detail = f"no end after {seconds:g} s"
            answer = self._lost = replace(self._failed(reach, detail), begun=sent)
            self._drop()
        except asyncio.CancelledError:
            self._lost = replace(self._failed(Reach.TIMEOUT, "it was broken off"), begun=sent)
            self._drop()
            raise
        return replace(answer, seconds=round(time.monotonic() - began, 4))

    async def _heard(self, process: asyncssh.SSHClientProcess[str]) -> Answer:
        output, code = await _until(process.stdout, re.compile(f"\n{self._mark} ([0-9]+)\n$"))
        said, _ = await _until(process.stderr, re.compile(f"\n({self._mark})\n$"))
        return Answer(host=self.host, reach=Reach.OK, code=int(code), output=output, detail=one_line(said), begun=True)

    async def closing(self) -> None:
        """``close`` on the loop of ``Warm``."""
        self._warm.forget(self)
        if self._lost is None:
            self._lost = self._failed(Reach.REFUSED, "it was closed")
        if self._process is not None:
            with contextlib.suppress(Exception):
                self._process.stdin.write_eof()
                await asyncio.wait_for(self._process.wait_closed(), _CLOSE_SECONDS)
            self._drop()

    def _drop(self) -> None:
        with contextlib.suppress(Exception):
            if self._process is not None:
                self._process.close()

    def _gone(self) -> Answer:
        return self._lost or self._failed(Reach.REFUSED, "the connection was closed")

    def _failed(self, reach: Reach, detail: str) -> Answer:
        return Answer(host=self.host, reach=reach, detail=detail)


class Warm:
    """Connections to the hosts of a fleet that stay open, on a loop in a thread of their own; a context manager. Every
    method may be called from any thread."""

    def __init__(self, fleet: Fleet, store: SecretStore, cancelled: threading.Event) -> None:
        """Connects to nobody yet. Raises ``InputError`` for hosts that cannot be rendered or a key that cannot be
        used."""
        self._links = Links.to(fleet.hosts, fleet.ssh, store)
        self._links.keepalive = KEEPALIVE.total_seconds()
        self._fleet = fleet
        self._store = store
        self._cancelled = cancelled
        self._ways: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = {}
        self._loaded: set[Loaded] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ismgr-warm", daemon=True)
        self._closed = True

    def __enter__(self) -> Self:
        """Start the loop."""
        self._thread.start()
        self._closed = False
        return self

    def __exit__(self, *_error: object) -> None:
        """``close``."""
        self.close()

    def close(self) -> None:
        """End the shells there and close the connections. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(4 * _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def open(self, *names: str) -> tuple[Reachability, ...]:
        """Connect to these hosts, all at once; one answer for each, in that order. Raises ``Cancelled``."""
        return tuple(done() for done in [self._begin_open(self._known(name)) for name in names])

    def alive(self, host: str) -> bool:
        """Whether a connection to the host is open, as far as anybody knows."""
        way = self._ways.get(host)
        return not self._closed and way is not None and way.done() and not over(way)

    def load(self, host: str, load: Load) -> Loaded:
        """Start ``sh`` there with the script, and wait until it waits, at most as long as connecting may take; a host
        where that fails gives a ``Loaded`` that is ``lost``. Raises ``Cancelled``."""
        return self.begin_load(host, load)()

    def begin_load(self, host: str, load: Load) -> Callable[[], Loaded]:
        """As ``load``, without waiting."""
        one = Loaded(self, self._known(host), load)
        self._loaded.add(one)
        return self.begin(one.starting(self._patience), lambda: one)

    def run(
        self, host: str, script: str, arguments: Sequence[str], within: timedelta, rights: Rights = Rights.ROOT
    ) -> Answer:
        """Run a script over the connection, which is made where there is none; all of it within the time. Raises
        ``Cancelled``."""
        return self.begin_run(host, script, arguments, within, rights)()

    def begin_run(
        self, host: str, script: str, arguments: Sequence[str], within: timedelta, rights: Rights = Rights.ROOT
    ) -> Callable[[], Answer]:
        """As ``run``, without waiting."""
        load = Load(script=script, arguments=tuple(arguments), rights=rights)
        work = self._run(self._known(host), load, within.total_seconds())
        return self.begin(work, lambda: Answer(host=host, reach=Reach.REFUSED, detail="the connection was closed"))

    def begin(self, work: Coroutine[Any, Any, T], closed: Callable[[], T]) -> Callable[[], T]:
        """Start work on the loop; the function that is returned waits for it. ``closed`` makes the result after
        ``close``."""
        if self._closed:
            work.close()
            return closed
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return lambda: self._wait(future)

    def _wait(self, future: Future[T]) -> T:
        while True:
            if self._cancelled.is_set() and not future.done():
                future.cancel()
                raise Cancelled("Work on hosts was stopped on request.")
            try:
                return future.result(_LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise

    def refused(self, host: str) -> Reachability | None:
        """Why nobody may connect to this host; None: one may."""
        return self._links.refused.get(host)

    async def connection(self, host: str) -> asyncssh.SSHClientConnection:
        """The open connection to a host that is not refused, made anew where it is lost. It goes on being made when
        nobody waits for it any more: the next one who asks will have it."""
        if host not in self._ways or over(self._ways[host]):
            self._ways[host] = asyncio.create_task(self._links.connect(host))
            self._ways[host].add_done_callback(over)  # or asyncio would complain of an error that nobody asked for
        return await asyncio.shield(self._ways[host])

    def command(self, host: str, text: str, arguments: tuple[str, ...], load: Load) -> tuple[str, str]:
        """What is started on a host, and what it is sent first."""
        job = Job(
            script=text,
            arguments=arguments,
            rights=load.rights,
            become_password=self._fleet.become_password,
            input={host: "".join(f"{line}\n" for line in load.input)},
        )
        command = command_of(job, self._store)
        return command.line, command.words_for(host) or ""

    def forget(self, loaded: Loaded) -> None:
        """It is closed."""
        self._loaded.discard(loaded)

    def _known(self, host: str) -> str:
        if host not in self._links.by_name:
            raise InputError(f"{host}: no host of this name is known.")
        return host

    @property
    def _patience(self) -> float:
        return self._links.timeout + self._links.timeout

    def _begin_open(self, host: str) -> Callable[[], Reachability]:
        closed = Reachability(host=host, reach=Reach.REFUSED, detail="the connection was closed")
        return self.begin(self._open(host), lambda: closed)

    async def _open(self, host: str) -> Reachability:
        if refused := self.refused(host):
            return refused
        began = time.monotonic()
        try:
            await self.connection(host)
        except Exception as error:  # noqa: BLE001  see Loaded.starting
            reach, detail = classify(error)
        else:
            reach, detail = Reach.OK, ""
        return Reachability(host=host, reach=reach, detail=detail, seconds=round(time.monotonic() - began, 3))

    async def _run(self, host: str, load: Load, seconds: float) -> Answer:
        began = time.monotonic()
        one = Loaded(self, host, load)
        try:
            await one.starting(seconds)
            return await one.going(max(0.0, seconds - (time.monotonic() - began)), "")
        finally:
            ending = self._loop.create_task(one.closing())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _close(self) -> None:
        closing = [one.closing() for one in tuple(self._loaded)]
        await asyncio.gather(*closing, *self._endings, return_exceptions=True)
        for way in self._ways.values():
            if over(way) or not way.done():
                way.cancel()
                continue
            way.result().close()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(way.result().wait_closed(), 0.2)
            way.result().abort()
        await self._links.close_bastions()


async def _until(stream: asyncssh.SSHReader[str], end: re.Pattern[str]) -> tuple[str, str]:
    """What comes before the end, and the end's own word. Raises ``IncompleteReadError`` when there is no end."""
    text = ""
    while not (found := end.search(text, max(0, len(text) - _LONGEST_END))):
        # not readuntil, which fails on an answer that is longer than its buffer
        more = await stream.read(_AT_ONCE)
        if not more:
            raise asyncio.IncompleteReadError(text.encode(), None)
        text += more
    return text[: found.start()], found[1]
