"""A fence beside state that is kept in a folder: who writes there now, so that a run whose lease went to another one is
stopped before it touches anything, and so that a lock that was left behind can be judged.

``STATE/.ismgr/fence/PROJECT/STACK.json`` is ``{"at", "host", "pids", "run", "token"}``: the moment (UTC), the machine's
name and the namespace of its process ids, the run, and the largest fencing token that was ever seen here. It is written
under ``flock`` on the file ``STACK.lock`` beside it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ismgr_automation.core.errors import EngineFailed, LeaseLost
from ismgr_automation.engines.pulumi.backend import Files, StackId
from ismgr_automation.ports.context import Context

FOLDER = Path(".ismgr", "fence")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FIRST_NAMESPACE = "pid:[4026531836]"
"""The kernel's own name for the namespace that holds every process of a machine."""


def enter(files: Files, stack: StackId, context: Context) -> None:
    """Write that we work on the stack. Raises ``LeaseLost`` when a larger token was there: nothing is touched then.

    While somebody's lock is there the machine in the fence stays that of the lock's owner."""
    file = _file(files, stack)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen = _compared(file, stack, context)
            where = {key: seen[key] for key in ("host", "pids") if key in seen} if files.locks(stack) else _here()
            at = datetime.now(UTC).isoformat(timespec="seconds")
            token = max(_token(seen), context.token)
            _write(file, {**where, "at": at, "run": context.run, "token": token})
    except OSError as problem:
        why = "the disk is full" if problem.errno in _FULL else problem.strerror or problem
        raise EngineFailed(
            f"stack {stack}: the fence {file} cannot be written: {why}.",
            engine="pulumi",
            subject=str(stack),
            untouched="Nothing was touched.",
            next_step="Make the state folder writable, and free some space there.",
        ) from problem


def check(files: Files, stack: StackId, context: Context) -> None:
    """Raise ``LeaseLost`` as ``enter`` does, and write nothing."""
    _compared(_file(files, stack), stack, context)


def knows_processes(files: Files, stack: StackId) -> bool:
    """Whether a process id in a lock of this host means to us what it meant to its owner: containers may share their
    host's name and each count processes for itself. True where ours is the namespace in the fence; where the fence
    does not say, if ours is the machine's own."""
    seen, here = _read(_file(files, stack)), _here()
    if seen.get("host") == here["host"]:
        return bool(seen.get("pids") == here["pids"])
    return here["pids"] == _FIRST_NAMESPACE


def _compared(file: Path, stack: StackId, context: Context) -> Mapping[str, Any]:
    seen = _read(file)
    if 0 < context.token < _token(seen):
        raise LeaseLost(
            f"stack {stack}: our lease has token {context.token}, and {seen.get('run') or 'another run'} came here "
            f"with token {_token(seen)} at {seen.get('at')}.",
            next_step="Look with `ismgr lease` who holds the environment now.",
        )
    return seen


def _token(seen: Mapping[str, Any]) -> int:
    return int(seen.get("token", 0))


def _file(files: Files, stack: StackId) -> Path:
    return files.root / FOLDER / stack.project / f"{stack.name}.json"


def _here() -> dict[str, str]:
    return {"host": socket.gethostname(), "pids": str(Path("/proc/self/ns/pid").readlink())}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        body = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as problem:
        raise EngineFailed(
            f"The fence {file} is damaged: {problem}.",
            engine="pulumi",
            subject=str(file),
            untouched="Nothing was touched.",
            next_step="See who else writes there. Remove the file when no run works on this stack.",
        ) from problem
    return body if isinstance(body, dict) else {}


def _write(file: Path, body: Mapping[str, Any]) -> None:
    fresh = file.with_suffix(".new")
    with fresh.open("w") as out:
        json.dump(body, out, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
