"""The page of document kinds, from the models of `estate/documents.py`."""

from __future__ import annotations

import collections.abc
import enum
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from ismgr_automation.estate import documents
from scripts.reference import markdown

WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    JsonValue: "any value",
}


def page() -> str:
    """Every kind, then the parts that they are made of."""
    kinds = dict(documents.KINDS)
    parts = list(_parts(kinds.values()))
    return markdown.page(
        "Kinds of documents",
        "An estate is a folder of YAML files; every document has a `kind` and a `name`. Unknown keys are mistakes. "
        "`ismgr schema` prints the same as JSON Schema, for editors.",
        markdown.table(
            ("kind", "says"), [(f"[{name}](#{name.lower()})", _first(model)) for name, model in kinds.items()]
        ),
        *[_section(name, model, "##") for name, model in kinds.items()],
        "## Parts",
        *[_section(model.__name__, model, "###") for model in parts],
    )


def _first(model: type[BaseModel]) -> str:
    return markdown.first_sentence(model.__doc__)


def _section(name: str, model: type[BaseModel], level: str) -> str:
    docs = markdown.attribute_docs(model)
    rows = [_row(key, field, docs.get(key, "")) for key, field in model.model_fields.items()]
    parts = [
        f"{level} {name}",
        markdown.prose(model.__doc__),
        markdown.table(("key", "holds", "default", "says"), rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _row(key: str, field: FieldInfo, doc: str) -> tuple[str, ...]:
    says = [markdown.first_sentence(doc), _limits(field)]
    if field.description and field.description != doc:
        says.append(f"({field.description})")
    return (
        f"`{field.alias or key}`",
        _type(field.annotation),
        _default(field),
        " ".join(part for part in says if part),
    )


def _limits(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(one, name)}" for one in field.metadata for name, sign in signs.items() if hasattr(one, name)
    ]
    return f"[{', '.join(found)}]" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", (), {}) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else _plain(value)}`"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _type(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in WORDS or origin is None:
        return WORDS[annotation] if annotation in WORDS else _class(annotation)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    parts = list(dict.fromkeys(_type(one) for one in inner if one not in {type(None), Ellipsis}))
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(parts)
    if origin is collections.abc.Mapping:
        return f"map of text to {parts[-1]}"
    return f"list of {parts[0]}" if origin is tuple else parts[0]


def _class(annotation: Any) -> str:
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{one.value}`" for one in annotation)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return str(getattr(annotation, "__name__", annotation))


def _parts(models: collections.abc.Iterable[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Every model that a kind mentions and that is no kind itself, in the order of meeting."""
    kinds = list(models)
    seen = set(kinds)
    waiting = list(kinds)
    while waiting:
        for field in waiting.pop(0).model_fields.values():
            for model in _mentioned(field.annotation):
                if model not in seen:
                    seen.add(model)
                    waiting.append(model)
                    yield model


def _mentioned(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif annotation != JsonValue:
        for inner in typing.get_args(annotation):
            yield from _mentioned(inner)
