"""Carries the bytes that a script on one host writes to a script on another, through this process and over connections
that are open. Nothing is kept on the way, and nothing is connected between the two hosts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ismgr_automation.engines.ssh.links import classify
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Load, Warm
from ismgr_automation.engines.ssh.words import one_line
from ismgr_automation.ports.hosts import Reach

if TYPE_CHECKING:
    import asyncssh

_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """How both ends ended, and how many bytes went between them."""

    source: Answer
    target: Answer
    size_bytes: int

    @property
    def trouble(self) -> str:
        """Why not all arrived; empty where it did."""
        for one in (self.source, self.target):
            if one.reach is not Reach.OK or one.code:
                return f"{one.host}: {one.detail or f'exit {one.code}'}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """From where to where. The target's ``Load`` must have ``input``: its script reads those lines before the bytes."""

    source: str
    writes: Load
    target: str
    reads: Load


def carry(warm: Warm, pipe: Pipe, within: timedelta, cancelled: threading.Event) -> Carried:
    """Carry until the source ends, and wait until the target does. A lost connection, the end of the time and a
    cancellation are answers; both scripts then meet the end of their streams."""
    nothing = Answer(host=pipe.source, reach=Reach.REFUSED, detail="the connection was closed")
    closed = Carried(source=nothing, target=nothing, size_bytes=0)
    return warm.begin(_carry(warm, pipe, within.total_seconds(), cancelled), lambda: closed)()


async def _carry(warm: Warm, pipe: Pipe, seconds: float, cancelled: threading.Event) -> Carried:
    done = Answer(host=pipe.source, reach=Reach.OK), Answer(host=pipe.target, reach=Reach.OK)
    size = 0
    source: asyncssh.SSHClientProcess[bytes] | None = None
    target: asyncssh.SSHClientProcess[bytes] | None = None
    try:
        async with asyncio.timeout(seconds):
            source = await _start(warm, pipe.source, pipe.writes)
            target = await _start(warm, pipe.target, pipe.reads)
            while not cancelled.is_set() and (data := await source.stdout.read(_AT_ONCE)):
                size += len(data)
                target.stdin.write(data)
                await target.stdin.drain()
            if cancelled.is_set():
                target.close()
                stopped = Answer(host=pipe.source, reach=Reach.TIMEOUT, detail="it was stopped on request")
                return Carried(source=stopped, target=done[1], size_bytes=size)
            first = await _ended(source, pipe.source)
            if first.code:
                # the target must not take half of it for the whole
                target.close()
                return Carried(source=first, target=done[1], size_bytes=size)
            target.stdin.write_eof()
            return Carried(source=first, target=await _ended(target, pipe.target), size_bytes=size)
    except Exception as error:  # noqa: BLE001  a host may fail in any way, and each way is an answer
        reach, detail = classify(error)
        if isinstance(error, TimeoutError):
            detail = f"no end after {seconds:g} s"
        lost = pipe.target if target is None and source is not None else pipe.source
        return Carried(source=Answer(host=lost, reach=reach, detail=detail), target=done[1], size_bytes=size)
    finally:
        for one in (source, target):
            if one is not None:
                one.close()


async def _start(warm: Warm, host: str, load: Load) -> asyncssh.SSHClientProcess[bytes]:
    connection = await warm.connection(host)
    line, words = warm.command(host, load.script, load.arguments, load)
    process = await connection.create_process(line, encoding=None)
    if words:
        process.stdin.write(words.encode())
    return process


async def _ended(process: asyncssh.SSHClientProcess[bytes], host: str) -> Answer:
    done = await process.wait()
    said = done.stderr.decode(errors="replace") if isinstance(done.stderr, bytes) else str(done.stderr or "")
    if done.exit_status is None:
        return Answer(host=host, reach=Reach.REFUSED, detail="the connection was lost")
    return Answer(host=host, reach=Reach.OK, code=done.exit_status, detail=one_line(said), begun=True)
