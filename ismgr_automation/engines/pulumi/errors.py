"""Values of a failed run: what the engine said, what the program raised, who holds a lock. ``table`` judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ismgr_automation.core.errors import (
    EngineFailed,
)
from ismgr_automation.engines.pulumi.backend import Lock

ENGINE = "pulumi"


class StackLocked(EngineFailed):
    """Another engine works on the stack, or died while it did; ``locks`` say who, where and since when."""

    def __init__(self, *, subject: str, locks: Sequence[Lock]) -> None:
        self.locks = tuple(locks)
        super().__init__(
            f"{subject}: the stack is locked{_holders(self.locks)}.",
            engine=ENGINE,
            subject=subject,
            untouched="Nothing was touched.",
            next_step=_how_to_unlock(self.locks),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the program raised. ``frames`` are (path, line), outermost first."""

    text: str
    frames: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One failed run of the engine: its exit code, its words by where they came, and where the program lies."""

    subject: str
    code: int
    stderr: str = ""
    errors: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    problem: Problem | None = None
    program: Path | None = None
    root: Path | None = None
    """The estate's folder: paths in positions are relative to it."""
    locks: tuple[Lock, ...] = ()
    touched: bool = False
    """Whether something had landed by then."""

    @property
    def text(self) -> str:
        """Everything that the engine said."""
        return "\n".join([self.stderr.strip(), *self.errors, *self.failures]).strip()

    @property
    def untouched(self) -> str:
        """The sentence about what was not touched, where that is known."""
        return "" if self.touched else "Nothing was touched."


def _holders(locks: Sequence[Lock]) -> str:
    found = []
    for lock in locks:
        alive = {True: ", which is gone", False: ", which still runs", None: ""}[lock.dead]
        found.append(f" by {lock.user}@{lock.host}, process {lock.pid}{alive}, since {lock.since}")
    return " and".join(found)


def _how_to_unlock(locks: Sequence[Lock]) -> str:
    dead = [lock for lock in locks if lock.dead]
    if locks and len(dead) == len(locks):
        files = " ".join(str(lock.path) for lock in dead)
        return (
            "Its owner is gone and cannot come back. `ismgr resume` goes on with its run and removes the lock; for any "
            f"other owner look with `ismgr drift` at what it left half done, then: rm {files}"
        )
    where = f" ({', '.join(str(lock.path) for lock in locks)})" if locks else ""
    return f"Wait for it to end. If it never will, remove the lock{where} after you made sure that it does not run."


def died(subject: str, which: str, code: int, detail: str) -> EngineFailed:
    """The worker or the engine ended without a result: somebody killed it, or it broke down."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return EngineFailed(
        f"{subject}: the {which} process {how} before it had a result.",
        engine=ENGINE,
        subject=subject,
        next_step="Run `ismgr plan` to see where things stand.",
        detail=detail,
    )


def read_problem(body: Mapping[str, Any], clean: Callable[[str], str]) -> Problem:
    """The worker's ``problem`` line as a value."""
    frames = tuple((str(one["path"]), int(one["line"])) for one in body["frames"])
    return Problem(text=clean(str(body["text"])), frames=frames)
