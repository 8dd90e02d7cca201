"""One intent that an engine can apply alone, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.address import Address
from ismgr_automation.core.json import Json


class Action(StrEnum):
    """What will happen. Decisions are made from this, never from a ``Reason``."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    CONFIGURE = "configure"


class Reason(StrEnum):
    """Why it will happen; for people. Nothing is decided from it."""

    NEW = "new"
    """It does not exist yet."""
    INPUTS = "inputs"
    """What Git asks differs from what was applied last."""
    DRIFT = "drift"
    """Git asks what was applied last; the world has moved."""
    RELEASED = "released"
    """It had been deferred, and what it waited for is there."""
    ASKED = "asked"
    """Somebody asked for exactly this, as with ``destroy``."""
    DUE = "due"
    """An update is approved."""


class Certainty(StrEnum):
    """How sure a step is. Steps that change nothing are not listed at all."""

    CHANGES = "changes"
    UNPREDICTABLE = "unpredictable"


OUTPUT = "output"
"""``what`` of a step that tells of an output of a stack; types of resources have colons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One resource of a stack, or one task on one host. ``target`` is the resource or host, ``what`` its type or the
    task's name, ``where`` a place in a file. ``before`` and ``after`` hold what differs; secrets are ``"<secret>"``."""

    target: str
    what: str
    action: Action
    certainty: Certainty = Certainty.CHANGES
    why: str = ""
    where: str = ""
    before: Json = None
    after: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an engine applies in one go: a stack, or a playbook on a set of hosts.

    ``part`` counts the shards of one host group from 1; a stack has part 0. ``batch`` counts the group's waves from 1:
    shards with one batch may run together. ``precondition`` is the digest of what was observed (state of the stack;
    empty for hosts, whose steps are the observation). ``inputs`` is the digest of all that Git says about it.
    ``constraint`` is the digest of the engine's own update plan, where it has one.
    """

    address: Address
    part: int
    action: Action
    reason: Reason
    steps: tuple[Step, ...]
    targets: tuple[Address, ...]
    inputs: str
    precondition: str = ""
    batch: int = 0
    constraint: str = ""

    @property
    def key(self) -> str:
        """The identity of a change inside one plan: ``stack/names`` or ``group/databases#2``."""
        return f"{self.address}#{self.part}" if self.part else str(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The bounds of something that cannot be previewed yet. What stays inside may run under the same approval."""

    content: str
    """Digest of the program or playbook and of its configuration."""
    at_most: int
    """The most targets (hosts; resources for a stack, 0: as many as the program asks) it may have."""
    unknown: tuple[str, ...]
    """Names of outputs that are not known yet."""
    actions: tuple[Action, ...]
    """What it may do; never delete or replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A change that waits: for hosts that no stack has created, or for outputs that do not exist."""

    address: Address
    waits_for: tuple[Address, ...]
    why: str
    expected: tuple[Address, ...]
    """Targets as far as they are known by name."""
    envelope: Envelope
    there: tuple[Address, ...] = ()
    """Those of ``expected`` that answered when it was planned: somebody may rely on them. All others are new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The world differs from what was applied; shown apart from changes, whether or not a change mends it."""

    address: Address
    target: str
    what: str
    before: Json = None
    after: Json = None


class Level(StrEnum):
    """How much a finding weighs."""

    ADVISE = "advise"
    WARN = "warn"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was noticed while planning: an unreachable host, an observation that could not be made."""

    level: Level
    subject: Address
    summary: str
    next_step: str = ""
    refuses: bool = False
    """With level deny: all was seen, and a rule of the estate says no."""
