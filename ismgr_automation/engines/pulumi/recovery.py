"""What a dead run left behind in a stack: which locks and notes may go, which pending operations the next apply settles
by itself, and what a person must look at. It decides nothing else and never touches the world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

from ismgr_automation.engines.pulumi import fence
from ismgr_automation.engines.pulumi.backend import Files, Lock, StackId
from ismgr_automation.engines.pulumi.run import Run
from ismgr_automation.engines.pulumi.state import Checkpoint, Pending

ADOPTS = frozenset({"ismgr:redfish:Server", "ismgr:dns:RecordSet"})
"""Types whose create finds what is there already and takes it: made or not, creating once more gives the same."""


class Settled(StrEnum):
    """How a pending operation comes to its end."""

    ADOPTED = "is adopted or made by the next apply"
    READ = "is read again by the next apply"
    NOBODY_KNOWS = ""


SETTLED: Mapping[str, Settled] = {
    "creating": Settled.NOBODY_KNOWS,
    "importing": Settled.READ,
    "reading": Settled.READ,
    "updating": Settled.READ,
    "deleting": Settled.READ,
}
"""By the engine's word. All but a create work on what the state has under its id, and each apply reads that first."""


def locks(files: Files, stack: StackId) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remove the locks of dead owners: what was removed, and what must be looked at."""
    cleared, left = [], []
    judged = fence.knows_processes(files, stack)
    for lock in files.locks(stack):
        if lock.dead and judged:
            files.remove(lock)
            cleared.append(f"the lock of {_owner(lock)}: the process is gone")
        elif lock.dead:
            left.append(
                f"the lock of {_owner(lock)}: there is no such process here, but its owner may live in another "
                f"container; when it does not, remove {lock.path}"
            )
        elif lock.dead is None:
            left.append(f"the lock of {_owner(lock)}: see there whether it runs; when it does not, remove {lock.path}")
        else:
            left.append(f"the lock of {_owner(lock)}: it still runs; wait for it to end")
    return tuple(cleared), tuple(left)


def notes(files: Files, stack: StackId) -> tuple[str, ...]:
    """Remove notes beside the stack's files that were cut short: what was removed. Only when nobody holds the stack."""
    found = files.remove_cut_short(stack)
    return tuple(f"the note {note.name}: it was cut short, and the engine could not read the state" for note in found)


def pending(run: Run, checkpoint: Checkpoint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take out pending operations whose end does not matter or will be read: what they were, and what must be looked
    at. While anything must be, all of them stay."""
    settled = {one: _settled(one) for one in checkpoint.pending}
    unknown = [one for one, how in settled.items() if how is Settled.NOBODY_KNOWS]
    if unknown:
        return (), tuple(map(_advice, unknown))
    if settled:
        body = {"version": 3, "deployment": {**(checkpoint.deployment or {}), "pending_operations": []}}
        run.cli("stack", "import", "--stack", str(run.stack), stdin=json.dumps(body))
    return tuple(f"{one.resource}: {one.operation} was interrupted; it {how}" for one, how in settled.items()), ()


def _settled(one: Pending) -> Settled:
    if one.operation == "creating" and one.type in ADOPTS:
        return Settled.ADOPTED
    return SETTLED.get(one.operation, Settled.NOBODY_KNOWS)


def _advice(one: Pending) -> str:
    return (
        f"{one.resource}: {one.operation} {one.urn} was interrupted, and the engine cannot ask whether it was made. "
        f"Look for it where it would be. When it is there, remove it or import it (`pulumi import {one.type} "
        f"{one.resource} ID`); then let the engine forget the operation (`pulumi refresh --clear-pending-creates`)"
    )


def _owner(lock: Lock) -> str:
    return f"{lock.user}@{lock.host}, process {lock.pid}, since {lock.since}"
