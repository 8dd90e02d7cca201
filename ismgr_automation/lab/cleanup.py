"""Taking a lab away: every process, machine, network, rule, setting and folder, whatever state it is in. It needs no
record: names and labels on the host are enough, so it also works after a crash."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil

from ismgr_automation.core.events import Emit, StepReported
from ismgr_automation.lab import machines, networks, settings
from ismgr_automation.lab.folder import SUPERVISOR, Folder

_PATIENCE = timedelta(seconds=5)


def remove(folder: Folder, emit: Emit) -> tuple[str, ...]:
    """Remove a lab; returns what was removed, empty when there was nothing. Safe to repeat."""
    name = folder.name
    # another user's lab of that name has its folder elsewhere; the networks know where
    recorded = networks.recorded_folder(name)
    folders = tuple(dict.fromkeys((folder.root, *((Path(recorded),) if recorded else ()))))
    steps: tuple[tuple[str, Callable[[], tuple[str, ...]]], ...] = (
        ("processes", lambda: _end_processes(name, folders)),
        ("machines", lambda: machines.remove_all(name)),
        ("networks and filters", lambda: networks.remove(name)),
        ("settings", lambda: settings.restore(without=name)),
        ("folders", lambda: _remove_folders(folder, folders)),
    )
    removed: list[str] = []
    for what, step in steps:
        gone = step()
        if gone:
            emit(StepReported(step="down", detail=f"removed {len(gone)} {what}"))
        removed += gone
    return tuple(removed)


def supervisors(folder: Path) -> Iterator[psutil.Process]:
    """The living supervisors of a folder, found by their command line: a pid file may be stale or missing."""
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if line[-3:] == ["-m", SUPERVISOR, str(folder)] and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process


def _end_processes(name: str, folders: tuple[Path, ...]) -> tuple[str, ...]:
    found = [one for path in folders for one in supervisors(path)]
    _end(found)
    # a supervisor that was killed leaves its listener behind
    listeners = [
        process
        for process in psutil.process_iter(["cmdline"])
        if tuple(process.info["cmdline"] or ()) == machines.died_command(name)
    ]
    _end(listeners)
    return tuple(f"process {one.pid}" for one in (*found, *listeners))


def _end(processes: list[psutil.Process]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            _signal(process, number)
        _gone, processes = psutil.wait_procs(processes, timeout=_PATIENCE.total_seconds())
        if not processes:
            return


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _remove_folders(folder: Folder, folders: tuple[Path, ...]) -> tuple[str, ...]:
    removed = []
    for path in folders:
        # a label is only believed where it names what a lab's folder looks like
        if path.is_dir() and path.name == folder.name and (path == folder.root or (path / "lab.json").is_file()):
            shutil.rmtree(path)
            removed.append(f"folder {path}")
    return tuple(removed)
