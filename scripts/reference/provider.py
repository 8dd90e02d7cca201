"""The page of the Pulumi provider, from the schema that it serves."""

from __future__ import annotations

import json
from typing import Any

from scripts.reference import markdown


def page() -> str:
    """Every resource with its inputs and outputs."""
    schema = _schema()
    types = schema.get("types", {})
    return markdown.page(
        "The provider `pulumi-resource-ismgr`",
        str(schema.get("description", "")),
        *[_resource(token, body, types) for token, body in sorted(schema["resources"].items())],
        *(["## Types"] if types else []),
        *[_type(token, body) for token, body in sorted(types.items())],
    )


def _schema() -> dict[str, Any]:
    from ismgr_automation.provider.schema import schema

    body = schema()
    return json.loads(body) if isinstance(body, str) else dict(body)


def _resource(token: str, body: dict[str, Any], _types: dict[str, Any]) -> str:
    parts = [
        f"## {token}",
        body.get("description", ""),
        "Inputs:",
        _properties(body.get("inputProperties", {}), set(body.get("requiredInputs", ()))),
        "Outputs:",
        _properties(body.get("properties", {}), set()),
    ]
    return "\n\n".join(part for part in parts if part)


def _type(token: str, body: dict[str, Any]) -> str:
    parts = [f"### {token}", body.get("description", "")]
    parts.append(_properties(body.get("properties", {}), set(body.get("required", ()))))
    return "\n\n".join(part for part in parts if part)


def _properties(properties: dict[str, Any], required: set[str]) -> str:
    rows = [
        (f"`{name}`", _kind(spec), "yes" if name in required else "", _notes(spec)) for name, spec in properties.items()
    ]
    return markdown.table(("property", "type", "required", "says"), rows)


def _kind(spec: dict[str, Any]) -> str:
    if "$ref" in spec:
        return f"`{spec['$ref'].rpartition('/')[2]}`"
    if "items" in spec:
        return f"list of {_kind(spec['items'])}"
    if "additionalProperties" in spec:
        return f"map of {_kind(spec['additionalProperties'])}"
    return str(spec.get("type", ""))


def _notes(spec: dict[str, Any]) -> str:
    notes = [str(spec.get("description", ""))]
    if spec.get("secret"):
        notes.append("Secret.")
    if spec.get("replaceOnChanges") or spec.get("willReplaceOnChanges"):
        notes.append("A change replaces the resource.")
    return " ".join(note for note in notes if note)
