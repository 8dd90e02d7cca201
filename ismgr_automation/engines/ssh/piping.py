"""Carries the bytes that a script on one host writes to a script on another, through this process and over connections
that are open. Nothing is kept on the way, and nothing is connected between the two hosts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
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
    cancellation are answers. The target then meets the end of its stream, and cannot tell it from a good one: whoever
    uses what it made asks for ``trouble`` first."""
    nothing = Answer(host=pipe.source, reach=Reach.REFUSED, detail="the connection was closed")
    closed = Carried(source=nothing, target=nothing, size_bytes=0)
    return warm.begin(_carry(warm, pipe, within.total_seconds(), cancelled), lambda: closed)()


async def _carry(warm: Warm, pipe: Pipe, seconds: float, cancelled: threading.Event) -> Carried:
    fine = {host: Answer(host=host, reach=Reach.OK) for host in (pipe.source, pipe.target)}
    processes: list[asyncssh.SSHClientProcess[bytes]] = []
    at = pipe.source
    try:
        async with asyncio.timeout(seconds):
            for at, load in ((pipe.source, pipe.writes), (pipe.target, pipe.reads)):
                if refused := warm.refused(at):
                    fine[at] = Answer(host=at, reach=refused.reach, detail=refused.detail)
                    return Carried(source=fine[pipe.source], target=fine[pipe.target], size_bytes=0)
                processes.append(await _start(warm, at, load))
            return await _between(processes[0], processes[1], pipe, cancelled)
    except Exception as error:  # noqa: BLE001  a host may fail in any way, and each way is an answer
        reach, detail = classify(error)
        if isinstance(error, TimeoutError):
            detail = f"no end after {seconds:g} s"
        fine[at] = Answer(host=at, reach=reach, detail=detail)
        return Carried(source=fine[pipe.source], target=fine[pipe.target], size_bytes=0)
    finally:
        for one in processes:
            one.close()


async def _between(
    source: asyncssh.SSHClientProcess[bytes],
    target: asyncssh.SSHClientProcess[bytes],
    pipe: Pipe,
    cancelled: threading.Event,
) -> Carried:
    """Carry, until one of them ends or somebody asks for an end."""
    size = 0
    fine = Answer(host=pipe.target, reach=Reach.OK)
    try:
        while data := await source.stdout.read(_AT_ONCE):
            if cancelled.is_set():
                stopped = Answer(host=pipe.source, reach=Reach.TIMEOUT, detail="it was stopped on request")
                return Carried(source=stopped, target=fine, size_bytes=size)
            size += len(data)
            target.stdin.write(data)
            await target.stdin.drain()
    except BrokenPipeError:
        ended = await _ended(target, pipe.target)
        early = ended if ended.code else replace(ended, code=1, detail="it ended before all was carried")
        return Carried(source=Answer(host=pipe.source, reach=Reach.OK), target=early, size_bytes=size)
    first = await _ended(source, pipe.source)
    if first.reach is not Reach.OK or first.code:
        return Carried(source=first, target=fine, size_bytes=size)
    target.stdin.write_eof()
    return Carried(source=first, target=await _ended(target, pipe.target), size_bytes=size)


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
