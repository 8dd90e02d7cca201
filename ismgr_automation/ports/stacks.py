"""Stacks of resources: what we ask of a provisioning engine such as Pulumi, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.address import Address
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context


class Operation(StrEnum):
    """What happens to one resource. Closed: an engine's other words are mapped onto these in its own table."""

    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    READ = "read"
    IMPORT = "import"
    DRIFT = "drift"
    """The world differs from the engine's state; nobody has decided to change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStep:
    """One resource in a preview, normalised: no timestamps, no ids of a run, secrets as ``"<secret>"``, unknowns as
    ``"<unknown>"``. ``name`` is the program's own name for it, ``type`` its token (``ismgr:redfish:Server``).
    ``changed`` are the property paths that differ, sorted. ``before`` and ``after`` hold only those properties."""

    name: str
    type: str
    operation: Operation
    changed: tuple[str, ...] = ()
    before: JsonObject | None = None
    after: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One stack output. ``value`` is plain JSON and may hold ``"<unknown>"`` in a preview; a secret output has
    ``secret`` set, and its value is kept out of here (None): engines pass it on by name, never as a value."""

    value: Json
    secret: bool = False
    known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRef:
    """A config value that is another stack's output."""

    stack: str
    output: str


ConfigValue = Json | SecretRef | OutputRef


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRequest:
    """Everything an engine needs for one operation on one stack.

    ``program`` is the folder with ``Pulumi.yaml`` and ``__main__.py``; ``state`` the backend URL; ``passphrase``
    where the key of its secrets is kept; ``secret_backends`` is the JSON description of the estate's backends
    (no secret inside) for provider processes that open references themselves.
    """

    address: Address
    program: Path
    stack: str
    state: str
    passphrase: SecretRef | None
    config: Mapping[str, ConfigValue]
    secret_backends: JsonObject
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePlan:
    """An engine's own saved plan. ``digest`` is over its normalised content (no times, no seeds, no generated parts of
    names) and is what a signature binds; ``sealed`` is the plan itself, encrypted with the estate's key, as text. It is
    another text each time, so plans are equal when their digests are."""

    digest: str
    sealed: str = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was found behind a run that died in the middle of a stack. ``cleared`` and ``resolved`` say what was mended,
    one line each; ``open`` what a person has to look at: then nothing else may be done to the stack."""

    cleared: tuple[str, ...] = ()
    """Locks of owners that are dead."""
    resolved: tuple[str, ...] = ()
    """Pending operations whose result was found in the world."""
    open: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPreview:
    """What would happen. ``steps`` leaves out SAME; ``drift`` is kept apart; ``outputs`` as far as they are known now.

    ``state_digest`` is over the normalised state read before the preview; equal digests mean that nobody wrote.
    ``program_digest`` is not here: it comes from Git.
    """

    steps: tuple[ResourceStep, ...]
    drift: tuple[ResourceStep, ...]
    outputs: Mapping[str, Output]
    state_digest: str
    unchanged: int
    engine: str
    """Name and version of the engine and of each provider used, for example ``pulumi 3.230.0; ismgr 0.1.0``."""
    update_plan: UpdatePlan | None = None
    """What binds ``up`` to this preview, also when there is nothing to do; None from an engine that has no plans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackResult:
    """What up or destroy did; ``steps`` are those that landed. A failed resource is a *result*."""

    steps: tuple[ResourceStep, ...]
    failed: tuple[str, ...]
    """Sentences, one per failed resource, beginning with the resource's name."""
    outputs: Mapping[str, Output]
    state_digest: str
    unplanned: tuple[str, ...] = ()
    """Sentences, one per step that the engine refused because the update plan does not hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """What the engine remembers, read without running a program. Empty for a stack that was never applied."""

    outputs: Mapping[str, Output]
    resources: int
    state_digest: str


class StackEngine(Protocol):
    """A provisioning engine. Raises ``EngineError``; ``InputError`` when the program itself is wrong."""

    def state(self, request: StackRequest) -> StackState:
        """Read outputs and digest from the state; starts no program and changes nothing."""
        ...

    def preview(self, request: StackRequest, context: Context) -> StackPreview:
        """Look at the world and run the program; changes nothing, the state included."""
        ...

    def up(self, request: StackRequest, context: Context, update_plan: UpdatePlan | None = None) -> StackResult:
        """Refresh, then make the world as the program says; with an update plan nothing that it does not hold."""
        ...

    def recover(self, request: StackRequest, context: Context) -> Recovery:
        """Mend what a dead run left behind: locks of dead owners, and pending operations by looking at the world.

        Locks of living or unknown owners are never touched.
        """
        ...

    def destroy(self, request: StackRequest, context: Context) -> StackResult:
        """Delete every resource of the stack, then the stack itself."""
        ...
