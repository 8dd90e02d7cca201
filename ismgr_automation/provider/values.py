"""Pulumi's property values as plain Python values and back. Every oddity of the wire is known here and nowhere else.

Unknowns arrive as a sentinel string; numbers are floats; a secret is unequal to the same plain value and cannot be
hashed. Past this module a value is None, bool, int, float, str, UNKNOWN, or a list or mapping of those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime.rpc import UNKNOWN as UNKNOWN_SENTINEL


class Unknown(Enum):
    """The one value that stands for "known after apply"."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Plain = None | bool | int | float | str | Unknown | Sequence["Plain"] | Mapping[str, "Plain"]
PlainMap = Mapping[str, Plain]


def plain(value: PropertyValue) -> Plain:
    """The value without secrecy and dependencies. Whole numbers become ``int``.

    Raises ``ValueError`` for assets, archives and resource references: no property of ours is one.
    """
    inner = value.value
    match inner:
        case None | bool():
            return inner
        case str():
            return UNKNOWN if inner == UNKNOWN_SENTINEL else inner
        case int() | float():
            return int(inner) if float(inner).is_integer() else float(inner)
        case Mapping():
            return {name: plain(item) for name, item in inner.items()}
        case list() | tuple():
            return [plain(item) for item in inner]
        case _:
            raise ValueError(f"a property cannot be of type {type(inner).__name__}")


def plain_map(values: Mapping[str, PropertyValue]) -> dict[str, Plain]:
    """All properties as plain values."""
    return {name: plain(value) for name, value in values.items()}


def property_value(value: Plain) -> PropertyValue:
    """The value as Pulumi wants it: numbers as floats, UNKNOWN as the sentinel."""
    match value:
        case Unknown():
            return PropertyValue(UNKNOWN_SENTINEL)
        case None | bool() | str():
            return PropertyValue(value)
        case int() | float():
            return PropertyValue(float(value))
        case Mapping():
            return PropertyValue({name: property_value(item) for name, item in value.items()})
        case _:
            return PropertyValue([property_value(item) for item in value])


def property_map(values: PlainMap) -> dict[str, PropertyValue]:
    """All properties as Pulumi wants them."""
    return {name: property_value(value) for name, value in values.items()}


def hide(values: Mapping[str, PropertyValue], paths: Collection[tuple[str, ...]]) -> dict[str, PropertyValue]:
    """The same properties with those at ``paths`` marked secret, whatever the program forgot."""
    hidden = dict(values)
    for head, *rest in paths:
        value = hidden.get(head)
        if value is None:
            continue
        if not rest:
            hidden[head] = value.with_secret(True)  # noqa: FBT003 - Pulumi's signature
        elif isinstance(value.value, Mapping):
            inner = PropertyValue(hide(value.value, [tuple(rest)]))
            hidden[head] = inner.with_secret(value.is_secret).with_dependencies(value.dependencies)
    return hidden


def has_unknown(value: Plain) -> bool:
    """Whether something in it is known only after apply."""
    match value:
        case Unknown():
            return True
        case str():
            return False
        case Mapping():
            return any(map(has_unknown, value.values()))
        case Sequence():
            return any(map(has_unknown, value))
        case _:
            return False


def known_part(values: PlainMap) -> dict[str, Plain]:
    """The properties that are known; a list with an unknown member is left out as a whole."""
    known: dict[str, Plain] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            known[name] = known_part(value)
        elif not has_unknown(value):
            known[name] = value
    return known
