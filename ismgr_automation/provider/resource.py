"""What every resource of the provider is: checked inputs, a difference, and five verbs that run in a thread.

Only ``create``, ``read``, ``update`` and ``delete`` speak to the world; ``check``, ``diff`` and ``preview`` may not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Protocol

from pulumi.provider.experimental.provider import PropertyDiffKind
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.provider.settings import Settings
from ismgr_automation.provider.values import Plain, PlainMap, known_part


class Part(BaseModel):
    """Inputs or outputs of a resource: frozen, camelCase outside, no unknown keys, descriptions from docstrings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # an input may be a password
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One wrong input: the path of the property (``timeouts.readSeconds``, empty for the whole) and a sentence."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What an update would change: property paths with their kind. ``replaces`` are those that no update can change."""

    changed: Mapping[str, PropertyDiffKind] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()
    delete_first: bool = False
    """Whether a replacement deletes the old one before it creates the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call: the resource's name for errors, the settings, who may stop it, and how long it may take."""

    subject: str
    settings: Settings
    cancelled: threading.Event
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A resource as it is in the world now."""

    id: str
    inputs: PlainMap
    outputs: PlainMap


class PartlyDone(Exception):
    """A create or update failed after its effect had begun: Pulumi must remember the resource, or it is orphaned."""

    def __init__(self, *, id: str, outputs: PlainMap, cause: IsmgrError) -> None:  # noqa: A002
        super().__init__(str(cause))
        self.id = id
        self.outputs = outputs
        self.cause = cause


class Resource(Protocol):
    """One kind of resource. Methods are synchronous; the provider calls those that block in a thread."""

    kind: ClassVar[str]
    inputs: ClassVar[type[Part]]
    outputs: ClassVar[type[Part]]
    secrets: ClassVar[tuple[tuple[str, ...], ...]]
    replaced_by: ClassVar[tuple[str, ...]]

    def check(self, inputs: PlainMap, settings: Settings) -> list[Complaint]:
        """Everything that is wrong with the inputs; unknown values are taken on trust."""
        ...

    def diff(self, old_outputs: PlainMap, new_inputs: PlainMap) -> Difference:
        """What differs between the world as last seen and the inputs."""
        ...

    def preview(self, inputs: PlainMap, old_outputs: PlainMap | None) -> PlainMap:
        """The outputs as far as they can be known before an apply."""
        ...

    def create(self, job: Job, inputs: PlainMap) -> tuple[str, PlainMap]:
        """Make it; returns id and outputs. Raises ``PartlyDone`` once something may have changed."""
        ...

    def read(self, job: Job, id: str, inputs: PlainMap, outputs: PlainMap) -> Found | None:  # noqa: A002
        """Look at it; without inputs it is an import. None: it is gone."""
        ...

    def update(self, job: Job, id: str, inputs: PlainMap) -> PlainMap:  # noqa: A002
        """Change it in place; returns outputs. Raises ``PartlyDone`` once something may have changed."""
        ...

    def delete(self, job: Job, id: str, inputs: PlainMap) -> None:  # noqa: A002
        """Remove it; fine when it is gone."""
        ...


def validate(model: type[Part], inputs: PlainMap) -> list[Complaint]:
    """What the model says against the known inputs. A required input that is unknown yet is no complaint."""
    try:
        model.model_validate(known_part(inputs))
    except ValidationError as error:
        return [
            _complaint(model, tuple(one["loc"]), one["type"], one["msg"])
            for one in error.errors(include_url=False, include_input=False)
            if not (one["type"] == "missing" and _present(inputs, one["loc"]))
        ]
    return []


def path_of(parts: tuple[str | int, ...]) -> str:
    """A property path as Pulumi writes it.

    >>> path_of(("biosAttributes", "Boot.Mode")), path_of(("records", 0))
    ('biosAttributes["Boot.Mode"]', 'records[0]')
    """
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}" if path else part
        else:
            path += f'["{part}"]'
    return path


def _complaint(model: type[Part], place: tuple[str | int, ...], kind: str, message: str) -> Complaint:
    if kind == "extra_forbidden":
        near = did_you_mean(str(place[-1]), [field.alias or name for name, field in model.model_fields.items()])
        message = f"is not a property of this resource{f' (did you mean {near!r}?)' if near else ''}"
    return Complaint(path=path_of(place), reason=message.removeprefix("Value error, "))


def _present(inputs: Plain, place: tuple[str | int, ...]) -> bool:
    for part in place:
        if not isinstance(inputs, Mapping) or part not in inputs:
            return False
        inputs = inputs[str(part)]
    return True
