"""What to do with a unit when a run goes on: skip it, run it, or stop, from the journal and a fresh look at the world.
Pure: nothing is observed here, and nothing done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.runs import StepRecord


class Standing(StrEnum):
    """What the world says of a unit, seen now."""

    DONE = "done"
    NOT_DONE = "not-done"
    UNKNOWN = "unknown"
    """It cannot be told, or it is neither: half of it is there."""


class Known(StrEnum):
    """What the journal says of a unit, over all attempts."""

    NEVER_BEGUN = "never begun"
    INTERRUPTED = "begun and not ended"
    LANDED = "landed"
    NOT_LANDED = "ended without landing"


class Verdict(StrEnum):
    """What is done with the unit."""

    LOOK = "look"
    """Nothing before the world was looked at."""
    SKIP = "skip"
    RUN = "run"
    STOP = "stop"
    """A person must look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict, why (for people), and the number of the attempt that would come next."""

    verdict: Verdict
    why: str
    attempt: int


TABLE: dict[tuple[Known, Standing | None], tuple[Verdict, str]] = {
    (Known.NEVER_BEGUN, None): (Verdict.LOOK, "it was never begun, and the world may have moved"),
    (Known.NEVER_BEGUN, Standing.DONE): (Verdict.SKIP, "it is there, though we never began it"),
    (Known.NEVER_BEGUN, Standing.NOT_DONE): (Verdict.RUN, "it was never begun"),
    (Known.NEVER_BEGUN, Standing.UNKNOWN): (Verdict.STOP, "it was never begun, and nobody can tell how it stands"),
    (Known.INTERRUPTED, None): (Verdict.LOOK, "it was begun, and its end is not known"),
    (Known.INTERRUPTED, Standing.DONE): (Verdict.SKIP, "it had been done when its executor died"),
    (Known.INTERRUPTED, Standing.NOT_DONE): (Verdict.RUN, "its executor died before it was done"),
    (Known.INTERRUPTED, Standing.UNKNOWN): (
        Verdict.STOP,
        "its executor died in the middle, and half of it may be there",
    ),
    (Known.LANDED, None): (Verdict.SKIP, "it landed"),
    (Known.LANDED, Standing.DONE): (Verdict.SKIP, "it landed"),
    (Known.LANDED, Standing.NOT_DONE): (Verdict.STOP, "it had landed, and somebody undid it since"),
    (Known.LANDED, Standing.UNKNOWN): (Verdict.STOP, "it had landed, and nobody can tell how it stands now"),
    (Known.NOT_LANDED, None): (Verdict.LOOK, "it ended without landing"),
    (Known.NOT_LANDED, Standing.DONE): (Verdict.SKIP, "it had not landed, and is there now"),
    (Known.NOT_LANDED, Standing.NOT_DONE): (Verdict.RUN, "it ended without landing"),
    (Known.NOT_LANDED, Standing.UNKNOWN): (Verdict.STOP, "it ended without landing, and half of it may be there"),
}
"""Every case. Without an observation only what landed is decided."""


def decide(records: Sequence[StepRecord], observed: Standing | None, landed: Callable[[JsonObject], bool]) -> Decision:
    """What to do with the unit that all ``records`` are attempts of. ``landed`` reads an outcome.

    Raises ``ValueError`` when the records are of several units.

    >>> decide([], Standing.NOT_DONE, bool).verdict
    <Verdict.RUN: 'run'>
    """
    units = {(one.unit.run, one.unit.round, one.unit.key) for one in records}
    if len(units) > 1:
        raise ValueError(f"these are attempts of {len(units)} units")
    verdict, why = TABLE[known(records, landed), observed]
    return Decision(verdict=verdict, why=why, attempt=max((one.unit.attempt for one in records), default=0) + 1)


def known(records: Sequence[StepRecord], landed: Callable[[JsonObject], bool]) -> Known:
    """What the journal says, whatever the order of the records. An attempt that landed stays landed: a later one that
    was begun only looked, and an earlier one that woke up late changes nothing."""
    outcomes = [one.outcome for one in records if one.outcome is not None]
    if not records:
        return Known.NEVER_BEGUN
    if any(map(landed, outcomes)):
        return Known.LANDED
    last = max(records, key=lambda one: one.unit.attempt)
    return Known.INTERRUPTED if last.outcome is None else Known.NOT_LANDED
