"""Runs a command and tells how long it took and how much memory its whole process tree had at most."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY_SECONDS = 0.05
AT_FIRST_SECONDS = 0.005
"""A short command is looked at more often: it is over before the first long wait."""
MEBIBYTE = 1024 * 1024


class Failed(Exception):
    """A command did not end as it should; ``words`` are its last ones."""

    def __init__(self, summary: str, words: str) -> None:
        super().__init__(summary)
        self.words = words


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: wall clock, processor time of all that it started and waited for, and the greatest sum of proportional
    set sizes over the process tree that was seen."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. ``seconds`` is the median of ``runs``; without it ``note`` says why it was left out."""

    name: str
    seconds: float | None = None
    fastest: float | None = None
    slowest: float | None = None
    cpu_seconds: float | None = None
    runs: int = 0
    peak_bytes: int | None = None
    load: float | None = None
    """How many processes this machine had to run in the last minute, its own included."""
    note: str = ""
    detail: str = ""
    """What a command that failed had to say."""


def row(name: str, samples: Sequence[Sample], note: str = "") -> Row:
    """The line of several runs of one thing."""
    seconds = [sample.seconds for sample in samples]
    return Row(
        name=name,
        seconds=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        cpu_seconds=statistics.median(sample.cpu_seconds for sample in samples),
        runs=len(samples),
        peak_bytes=max(sample.peak_bytes for sample in samples),
        note=note,
    )


def rate(name: str, count: int, seconds: float, what: str) -> Row:
    """The line of something that was done many times inside this process."""
    return Row(name=name, seconds=seconds, runs=count, note=f"{count / seconds:,.0f} {what} a second")


def command(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> Sample:
    """Run one command to its end. Raises ``Failed`` with what it printed when its exit code is none of ``codes``."""
    variables = {key: value for key, value in (env or os.environ).items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = _cpu_of_children()
    started = time.perf_counter()
    child = subprocess.Popen(
        list(map(str, argv)),
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = Watch(child.pid)
    try:
        stdout, stderr = child.communicate()
        seconds = time.perf_counter() - started
    finally:
        if child.poll() is None:  # we were interrupted: do not leave it behind
            child.terminate()
            child.wait()
        peak = watch.stop()
    if child.returncode not in codes:
        words = "\n".join([*stdout.splitlines(), *stderr.splitlines()][-15:])
        called = " ".join([Path(argv[0]).name, *map(str, argv[1:])])
        raise Failed(f"{called} ended with {child.returncode}", words)
    return Sample(seconds=seconds, cpu_seconds=_cpu_of_children() - before, peak_bytes=peak, stdout=stdout)


def together(runs: Sequence[Callable[[], Sample]], at_once: int) -> Sample:
    """Several commands, some at once, as one sample: the wall clock of all, the sum of the greatest peaks."""
    from concurrent.futures import ThreadPoolExecutor

    before = _cpu_of_children()
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        samples = list(pool.map(lambda run: run(), runs))
    seconds = time.perf_counter() - started
    peaks = sorted((sample.peak_bytes for sample in samples), reverse=True)
    cpu = _cpu_of_children() - before
    return Sample(seconds=seconds, cpu_seconds=cpu, peak_bytes=sum(peaks[:at_once]), stdout="")


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Watch:
    """Looks at a process tree until it is stopped. Shared pages count once, so the sum is what the machine gives."""

    def __init__(self, pid: int) -> None:
        """Begin to look at the process and all below it."""
        self._pid = pid
        self.peak = 0
        """The greatest sum seen so far, in bytes."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End it, and give the peak."""
        self._over.set()
        self._thread.join()
        return self.peak

    def _look(self) -> None:
        pause = AT_FIRST_SECONDS
        while True:
            with suppress(psutil.Error):
                root = psutil.Process(self._pid)
                self.peak = max(self.peak, sum(map(_size, [root, *root.children(recursive=True)])))
            if self._over.wait(pause):
                return
            pause = min(pause * 1.2, EVERY_SECONDS)


def _size(process: psutil.Process) -> int:
    with suppress(psutil.Error, OSError):
        return int(process.memory_full_info().pss)
    return 0
