"""The ``records`` config value of a program that publishes names, read into values. No resource is made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRecords:
    """All records of one type at one name; ``ttl`` is in seconds."""

    name: str
    type: str
    ttl: int
    records: tuple[str, ...]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    type: str
    ttl: int = Field(default=300, ge=0)
    records: tuple[str, ...] = Field(validation_alias=AliasChoices("records", "values"), min_length=1)


class _NamedEntry(_Entry):
    name: str


_LIST = TypeAdapter(tuple[_NamedEntry, ...])
_MAP = TypeAdapter(Mapping[str, _Entry])


def records_of(config: object) -> tuple[WantedRecords, ...]:
    """Read a list of ``{name, type, ttl, values}`` or a map from name to ``{type, ttl, records}``; sorted by name and
    type. Raises ``ValueError`` naming each field that is wrong, or the name that is there twice with one type.

    >>> records_of({"www": {"type": "A", "ttl": 60, "records": ["192.0.2.1"]}})
    (WantedRecords(name='www', type='A', ttl=60, records=('192.0.2.1',)),)
    """
    try:
        if isinstance(config, Mapping):
            pairs = list(_MAP.validate_python(config).items())
        else:
            pairs = [(one.name, one) for one in _LIST.validate_python(config)]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'records'}: {one['msg']}" for one in error.errors())
        raise ValueError(f"the config value 'records' is wrong: {wrong}") from error
    wanted = {(name, one.type.upper()): one for name, one in pairs}
    if len(wanted) < len(pairs):
        raise ValueError("the config value 'records' has one name and type twice; put all its records into one entry")
    return tuple(
        WantedRecords(name=name, type=kind, ttl=one.ttl, records=one.records)
        for (name, kind), one in sorted(wanted.items(), key=lambda item: item[0])
    )
