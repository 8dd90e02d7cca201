"""The probe's process as its owner holds it: begun or adopted, read while it works, ended. It is found by its log
alone, so that who resumes a drill needs nothing from who began it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import ismgr_automation
from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut
from ismgr_automation.core.secret import Secret
from ismgr_automation.core.spans import nanoseconds
from ismgr_automation.engines.probe.log import NAME, OWNER, Given, LogReader, LogWriter, born, in_use, lives
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Attempt, Outcome, ProbeRequest

ENGINE = "probe"
UP_SECONDS = 20.0
"""How long the process may take to begin, and to write its first row."""
ADOPT_SECONDS = 5.0
END_SECONDS = 2.0
"""How long it may take to end, beside what it waits for."""
_LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from ismgr_automation.engines.probe import worker; worker.main()"
)
_LOOK_SECONDS = 0.005


@dataclass(slots=True, kw_only=True)
class PostgresqlRunningProbe:
    """``ports.recovery.RunningProbe``. ``process`` is None for one that was adopted."""

    request: ProbeRequest
    log: LogReader
    process: subprocess.Popen[bytes] | None = None
    _ended: bool = False

    def attempts(self) -> Sequence[Attempt]:
        """What is in the log so far."""
        self.log.read()
        return tuple(self.log.attempts)

    def stop(self) -> Sequence[Attempt]:
        """End the process; a write that is under way may take its time."""
        if not self._ended:
            self.log.read()
            waits = self.request.patience.total_seconds() * (1 + len(self.request.endpoints))
            with _handle(self.log.pid, self.log.born) as handle:
                if handle is not None:
                    _end(handle, END_SECONDS + waits)
            if self.process is not None:
                self.process.kill()  # only a process that never began to write is still there
                self.process.wait()
            self._mend()
            self._ended = True
        return self.attempts()

    def until_acknowledged(self, context: Context) -> None:
        """Return after the first write that was. Raises ``EngineTimedOut``, ``EngineFailed``, ``Cancelled``."""
        if self._until(lambda: any(one.outcome is Outcome.ACKED for one in self.log.attempts), UP_SECONDS, context):
            return
        last = self.log.attempts[-1].cause if self.log.attempts else self.log.ended or "it tried none"
        raise EngineTimedOut(
            f"No write of the probe was acknowledged within {UP_SECONDS:g} s: {last}.",
            engine=ENGINE,
            subject=self.request.run,
            next_step="Correct endpoints, user and table in the plan's probe, or mend the service.",
        )

    def until_begun(self, before: str, errors: Callable[[], str], context: Context) -> None:
        """Return once the process writes to the log; ``before`` is the one that did so last."""
        if self._until(lambda: self.log.born != before, UP_SECONDS, context):
            return
        raise EngineFailed(
            f"The probe of run {self.request.run} did not begin.",
            engine=ENGINE,
            subject=self.request.run,
            next_step="Look whether this machine has memory and processes left, and whether the folder can be written.",
            detail=errors(),
        )

    def _until(self, condition: Callable[[], bool], seconds: float, context: Context) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            over = self.process is not None and self.process.poll() is not None
            self.log.read()
            if condition():
                return True
            if over:
                return False
            if context.cancelled.wait(_LOOK_SECONDS):
                raise Cancelled(f"The probe of run {self.request.run} was stopped.")
        return False

    def _mend(self) -> None:
        """A process that was killed cannot say so itself."""
        self.log.read()
        if self.log.run and not self.log.ended:
            writer = LogWriter(self.log.path)
            writer.mend(self.log, time.monotonic_ns())
            writer.close()


def launch(
    request: ProbeRequest, password: Secret, folder: Path, context: Context, first: int = 1
) -> PostgresqlRunningProbe:
    """Start a process, which goes on with the log that is in the folder, or begins one with the number ``first``.
    Raises ``EngineFailed``, ``Cancelled``."""
    given = Given(
        run=request.run,
        folder=str(folder),
        endpoints=request.endpoints,
        database=request.database,
        user=request.user,
        table=request.table,
        every_ns=nanoseconds(request.every),
        patience_ns=nanoseconds(request.patience),
        linger_ns=nanoseconds(request.linger),
        owner=born(os.getpid()),
        first=first,
        manners=str(request.manners),
        resolvers=request.resolvers,
    )
    log = LogReader(folder / NAME)
    log.read()
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _LAUNCH, str(Path(ismgr_automation.__file__).parents[1]), request.run],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            env=_environment(),
            # a session of its own: what ends all processes of the drill leaves it alive, to be adopted
            start_new_session=True,
        )
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:  # when it died, its exit tells
                process.stdin.write(given.written(password))
        running = PostgresqlRunningProbe(request=request, log=log, process=process)
        try:
            running.until_begun(log.born, lambda: _told(errors.fileno()), context)
        except BaseException:
            running.stop()
            raise
    return running


def adopt(request: ProbeRequest, folder: Path, context: Context) -> PostgresqlRunningProbe | None:
    """Become the owner of the process that is at work; None when it has ended. Raises ``EngineFailed`` while another
    owner lives, ``Cancelled``."""
    us = born(os.getpid())
    log = LogReader(folder / NAME)
    log.read()
    beside = folder / f"{OWNER}.new"
    beside.write_text(us, encoding="ascii")
    beside.replace(folder / OWNER)
    end = time.monotonic() + ADOPT_SECONDS
    while log.owner != us:
        there = in_use(folder / NAME)
        log.read()
        if not there:
            return None
        if log.owner != us and (lives(log.owner) or time.monotonic() > end):
            raise EngineFailed(
                f"The probe of run {request.run} (process {log.pid}) belongs to another process, {log.owner}.",
                engine=ENGINE,
                subject=request.run,
                next_step="The process that began the drill, or resumed it, still lives: let it end, or end it.",
            )
        if context.cancelled.wait(_LOOK_SECONDS):
            raise Cancelled(f"Adopting the probe of run {request.run} was stopped.")
    return PostgresqlRunningProbe(request=request, log=log)


@contextmanager
def _handle(pid: int, born_: str) -> Iterator[int | None]:
    """The process, whatever becomes of its number; None when it has ended."""
    try:
        file = os.pidfd_open(pid) if born_ else None
    except ProcessLookupError:
        file = None
    try:
        yield file if file is not None and born(pid) == born_ else None
    finally:
        if file is not None:
            os.close(file)


def _end(handle: int, seconds: float) -> None:
    """SIGTERM, SIGKILL after that time; returns when it is gone."""
    ending = select.poll()
    ending.register(handle, select.POLLIN)
    for number, wait in ((signal.SIGTERM, seconds), (signal.SIGKILL, END_SECONDS)):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        if ending.poll(wait * 1000):
            return


def _told(file: int) -> str:
    return os.pread(file, 1 << 16, 0).decode(errors="replace")


def _environment() -> dict[str, str]:
    """Nothing of ours that libpq would read, but where certificates are."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PGSSL")}
    return {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **kept}
