"""The few shapes that schemas are made of, and schemas of our own types. Knows no format."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.json import JsonObject

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT: JsonObject = {"type": "string"}
WHOLE: JsonObject = {"type": "integer"}
NUMBER: JsonObject = {"type": "number"}
YES_OR_NO: JsonObject = {"type": "boolean"}
ANYTHING: JsonObject = {}
MOMENT: JsonObject = {"type": "string", "format": "date-time"}
DIGEST: JsonObject = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
ADDRESS: JsonObject = {"type": "string", "pattern": f"^({'|'.join(Kind)})/.+$"}
PLAIN: Mapping[Any, JsonObject] = {
    str: TEXT,
    int: WHOLE,
    float: NUMBER,
    bool: YES_OR_NO,
    datetime: MOMENT,
    Address: ADDRESS,
    type(None): {"type": "null"},
}


def document(title: str, description: str, body: JsonObject) -> JsonObject:
    """A whole schema: dialect, title and what it is for, then its body."""
    return {"$schema": DIALECT, "title": title, "description": " ".join(description.split()), **body}


def record(properties: Mapping[str, JsonObject], *, optional: Sequence[str] = (), closed: bool = False) -> JsonObject:
    """An object with these properties. Within a format properties are only added: readers let others pass, unless it is
    ``closed`` because a digest or signature covers it."""
    body: dict[str, Any] = {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": dict(properties),
    }
    return {**body, "additionalProperties": False} if closed else body


def listed(items: JsonObject) -> JsonObject:
    """A list of something."""
    return {"type": "array", "items": items}


def named(values: JsonObject) -> JsonObject:
    """An object whose keys are names."""
    return {"type": "object", "additionalProperties": values}


def choice(kind: type[StrEnum]) -> JsonObject:
    """One of the words of an enum."""
    return {"enum": [str(one) for one in kind]}


def one_of(*bodies: JsonObject) -> JsonObject:
    """Any of several shapes."""
    return {"anyOf": list(bodies)}


def of(kind: Any) -> JsonObject:
    """The schema of one of our types: a dataclass, an enum, a plain value or a collection of such."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return one_of(*map(of, inner))
    if origin is tuple:
        return listed(of(inner[0]))
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object"} if "Json" in str(inner[1]) else named(of(inner[1]))
    if inspect.isclass(kind) and issubclass(kind, StrEnum):
        return choice(kind)
    if is_dataclass(kind):
        return dataclass_of(typing.cast("type", kind))
    raise TypeError(f"there is no schema of {kind}")


def dataclass_of(kind: type) -> JsonObject:
    """An object with the fields of a dataclass."""
    hints = typing.get_type_hints(kind)
    body = record({one.name: of(hints[one.name]) for one in fields(kind)})
    return {"description": " ".join((kind.__doc__ or "").split()), **body}
