"""JSON Schemas of the documents, for editors: generated from the models and their docstrings, never written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.documents import KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMBINED = "Document"
"""The name of the schema that takes any kind."""


def schemas() -> Mapping[str, JsonObject]:
    """One schema for each kind by its name, and the combined one."""
    return {**{kind: schema(kind) for kind in KINDS}, COMBINED: combined()}


def schema(kind: str) -> JsonObject:
    """The schema of one kind. Raises ``SettingsError`` for a kind that does not exist."""
    if kind == COMBINED:
        return combined()
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS)
        hint = f" Did you mean {near}?" if near else ""
        raise SettingsError(f"There is no kind {kind!r}.{hint}", next_step=f"Kinds are {', '.join(KINDS)}.")
    body = KINDS[kind].model_json_schema(ref_template="#/$defs/{model}")
    return {"$schema": DIALECT, **_spoken(body), "title": kind}


def combined() -> JsonObject:
    """A schema for a file that holds documents of any kind; which one counts is chosen by ``kind``."""
    definitions: dict[str, Any] = {}
    branches: list[JsonObject] = []
    for kind, model in KINDS.items():
        body = _spoken(model.model_json_schema(ref_template="#/$defs/{model}"))
        definitions.update(body.pop("$defs", {}))
        definitions[kind] = {**body, "title": kind}
        branches.append({"$ref": f"#/$defs/{kind}"})
    return {
        "$schema": DIALECT,
        "title": COMBINED,
        "description": "A document of an estate.",
        "type": "object",
        "required": ["kind", "name"],
        "properties": {"kind": {"enum": list(KINDS)}},
        "anyOf": branches,
        "$defs": dict(sorted(definitions.items())),
    }


def text(body: JsonObject) -> str:
    """A schema as the text of a file."""
    return json.dumps(body, indent=2) + "\n"


def _spoken(body: dict[str, Any]) -> dict[str, Any]:
    """Line breaks inside descriptions are those of our source; editors break lines themselves. What our loader tells
    apart by its only key is ``anyOf`` to an editor: a reference is plain JSON as well."""

    def visit(value: Any) -> Any:
        if isinstance(value, list):
            return [visit(item) for item in value]
        if not isinstance(value, dict):
            return value
        seen = {"anyOf" if key == "oneOf" else key: visit(item) for key, item in value.items()}
        words = seen.get("description")
        return {**seen, "description": " ".join(words.split())} if isinstance(words, str) else seen

    spoken: dict[str, Any] = visit(body)
    return spoken
