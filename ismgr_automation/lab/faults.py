"""Faults of a BMC, on order: tests write them into the lab's folder, the BMC commits them. No command asks for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ismgr_automation.lab.folder import write_private


class Kind(StrEnum):
    """What a BMC can do wrong."""

    UNAVAILABLE = "unavailable"
    """It answers 503."""
    SLOW = "slow"
    """It answers, ``seconds`` late."""
    SILENT = "silent"
    """It takes the request and closes the connection without an answer."""
    IGNORES = "ignores"
    """It accepts a reset and does nothing; the power state that it reports is true."""
    LIES = "lies"
    """It accepts a reset, does nothing, and reports the power state that was asked for until the fault is cleared."""
    FAILS_UPDATE = "fails-update"
    """The task of a firmware update ends in an exception; the version stays."""
    KEEPS_VERSION = "keeps-version"
    """The task of a firmware update completes, and the version stays as it was, also after a reset."""
    GOES_AWAY = "goes-away"
    """In the middle of a firmware update the BMC answers nobody for ``seconds``; then the task has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: how many requests it hits (``LIES`` and ``IGNORES``: how many resets; those of
    firmware: how many updates) and which HTTP methods."""

    kind: Kind
    times: int = 1
    seconds: float = 0.0
    methods: tuple[str, ...] = ()
    """Empty means every method."""


def arrange(path: Path, faults: Sequence[Fault]) -> None:
    """Order faults, the first one first; replaces what was ordered. ``path`` is ``Folder.faults(machine)``."""
    body = [
        {"kind": fault.kind, "times": fault.times, "seconds": fault.seconds, "methods": list(fault.methods)}
        for fault in faults
    ]
    write_private(path, json.dumps(body))


def clear(path: Path) -> None:
    """Order no more faults."""
    path.unlink(missing_ok=True)


def ordered(path: Path) -> tuple[Fault, ...]:
    """The faults that are still to come."""
    try:
        rows = json.loads(path.read_text())
    except FileNotFoundError:
        return ()
    return tuple(
        Fault(kind=Kind(row["kind"]), times=row["times"], seconds=row["seconds"], methods=tuple(row["methods"]))
        for row in rows
    )


def take(path: Path, method: str, kinds: frozenset[Kind]) -> Fault | None:
    """The next fault of those kinds that hits a request, counted down; the caller lets one request in at a time."""
    waiting = list(ordered(path))
    for place, fault in enumerate(waiting):
        if fault.kind in kinds and (not fault.methods or method in fault.methods):
            left = Fault(kind=fault.kind, times=fault.times - 1, seconds=fault.seconds, methods=fault.methods)
            waiting[place : place + 1] = [left] if left.times > 0 else []
            arrange(path, waiting)
            return fault
    return None
