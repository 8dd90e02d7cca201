"""The error family, drawn.

::

    IsmgrError
      InputError      EstateError  SettingsError  PlanFileError
      Refused         PolicyDenied  StalePlan  OutsideWindow  LeaseHeld  LeaseLost  NotApproved  NotSigned
      EngineError     Unreachable  CredentialRejected  Throttled  EngineFailed  EngineTimedOut  EngineMissing
      PartlyApplied   what landed, what did not, what is unknown
      Cancelled       somebody stopped the run
      InternalError   a bug of ours

Fields first, sentence second. Every leaf says what was not touched and what to do next. A failed *target* is a
result; a failed *us* is one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum

from ismgr_automation.core.diagnostic import Diagnostic


class ExitCode(IntEnum):
    """What a pipeline may rely on. JSON results carry a finer ``reason``."""

    DONE = 0
    INPUT = 1
    CHANGES = 2
    REFUSED = 3
    ENGINE = 4
    PARTLY_APPLIED = 5
    OBJECTIVE_MISSED = 6
    INTERNAL = 70
    CANCELLED = 130


class IsmgrError(Exception):
    """The root: a sentence, what was not touched, what to do next, and the exit code of a face that shows it."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, summary: str, *, untouched: str = "", next_step: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.untouched = untouched
        self.next_step = next_step

    @property
    def reason(self) -> str:
        """The class name in kebab case, stable in JSON: ``engine-missing``, ``stale-plan``."""
        name = type(self).__name__
        return "".join(("-" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name))

    def __str__(self) -> str:
        return " ".join(part for part in (self.summary, self.untouched, self.next_step) if part)


class InputError(IsmgrError):
    """What we were given is wrong; nothing was touched. Carries every mistake, each with its place."""

    exit_code = ExitCode.INPUT

    def __init__(
        self, summary: str, *, diagnostics: Sequence[Diagnostic] = (), untouched: str = "", next_step: str = ""
    ) -> None:
        super().__init__(summary, untouched=untouched or "Nothing was touched.", next_step=next_step)
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *map(str, self.diagnostics)])


class EstateError(InputError):
    """The documents of an estate do not hold together."""


class SettingsError(InputError):
    """A command's arguments or a setting of this machine are wrong."""


class PlanFileError(InputError):
    """A plan file cannot be read, or its digest is not that of its content."""


class Refused(IsmgrError):
    """We could, and do not: nothing was touched."""

    exit_code = ExitCode.REFUSED

    def __init__(self, summary: str, *, untouched: str = "", next_step: str = "") -> None:
        super().__init__(summary, untouched=untouched or "Nothing was touched.", next_step=next_step)


class PolicyDenied(Refused):
    """A policy says no."""


class StalePlan(Refused):
    """The plan's inputs or the world have moved; ``moved`` names what, one line each."""

    def __init__(self, *, moved: Sequence[str]) -> None:
        self.moved = tuple(moved)
        listed = "; ".join(self.moved)
        super().__init__(f"The plan is stale: {listed}.", next_step="Plan again, and apply the new plan.")


class OutsideWindow(Refused):
    """Now is not a time when this may be touched."""


class LeaseHeld(Refused):
    """Somebody else is applying: ``holder`` in words, ``since`` when, ``until`` when unless renewed."""

    def __init__(self, *, name: str, holder: str, since: datetime, until: datetime) -> None:
        self.name = name
        self.holder = holder
        self.since = since
        self.until = until
        super().__init__(
            f"{name} is held by {holder} since {since.isoformat(timespec='seconds')}.",
            next_step="Wait for it with --wait, or look with `ismgr lease`.",
        )


class LeaseLost(Refused):
    """We held the lease and hold it no longer: somebody broke it, or our time was over. Nothing more is done."""


class NotApproved(Refused):
    """Signatures are missing; ``missing`` says which, one line each."""

    def __init__(self, summary: str, *, missing: Sequence[str] = (), next_step: str = "") -> None:
        self.missing = tuple(missing)
        super().__init__(summary, next_step=next_step)


class NotSigned(Refused):
    """Code that the environment wants signed is not: ``commits`` are the ones, each with why."""

    def __init__(self, summary: str, *, commits: Sequence[str], next_step: str = "") -> None:
        self.commits = tuple(commits)
        super().__init__(summary, next_step=next_step)


class EngineError(IsmgrError):
    """Something underneath failed us. ``engine`` names it, ``subject`` what it was working on."""

    exit_code = ExitCode.ENGINE

    def __init__(
        self,
        summary: str,
        *,
        engine: str,
        subject: str = "",
        untouched: str = "",
        next_step: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(summary, untouched=untouched, next_step=next_step)
        self.engine = engine
        self.subject = subject
        self.detail = detail
        """What the engine itself printed, secrets taken out; may have many lines."""


class Unreachable(EngineError):
    """No answer from where the engine had to go; ``cause`` is one of the words in ``ports.hosts.Reach``."""

    def __init__(self, summary: str, *, engine: str, subject: str, cause: str, next_step: str = "") -> None:
        super().__init__(summary, engine=engine, subject=subject, next_step=next_step)
        self.cause = cause


class CredentialRejected(EngineError):
    """The other side answered, and does not accept who we say we are."""


class Throttled(EngineError):
    """The other side is there and asks us to come back later (HTTP 429 or 503)."""


class EngineFailed(EngineError):
    """The engine ran and failed; ``detail`` holds its words."""


class EngineTimedOut(EngineError):
    """The engine did not finish before its deadline and was stopped with all its children."""


class EngineMissing(EngineError):
    """No usable engine on this machine: what was looked for, what was found, and each way to get one."""

    def __init__(self, *, engine: str, needed: str, found: Sequence[str], ways: Sequence[str]) -> None:
        self.needed = needed
        self.found = tuple(found)
        self.ways = tuple(ways)
        looked = "".join(f"\n  looked at: {line}" for line in self.found)
        how = "".join(f"\n  get it by: {line}" for line in self.ways)
        super().__init__(
            f"No usable {engine} engine ({needed}).{looked}{how}", engine=engine, untouched="", next_step=""
        )


class PartlyApplied(IsmgrError):
    """A run stopped after it had begun: addresses that landed, that did not, and whose fate is unknown."""

    exit_code = ExitCode.PARTLY_APPLIED

    def __init__(
        self,
        summary: str,
        *,
        landed: Sequence[str],
        not_landed: Sequence[str],
        unknown: Sequence[str],
        next_step: str = "",
    ) -> None:
        self.landed = tuple(landed)
        self.not_landed = tuple(not_landed)
        self.unknown = tuple(unknown)
        super().__init__(summary, next_step=next_step)


class Cancelled(IsmgrError):
    """Somebody stopped the run. An apply that had begun gives a report instead, with what landed and what did not."""

    exit_code = ExitCode.CANCELLED


class InternalError(IsmgrError):
    """A bug in ismgr: nothing that anybody asked for or wrote is the cause."""

    exit_code = ExitCode.INTERNAL
