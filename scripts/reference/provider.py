"""The page of the Pulumi provider, from the schema that it serves."""

from __future__ import annotations

from typing import Any

from scripts.reference import markdown


def page() -> str:
    """Every resource with its inputs and outputs, then the types that they use, then the provider's own settings."""
    from ismgr_automation.provider.schema import package

    schema = package()
    types = schema["types"]
    return markdown.page(
        "The provider `pulumi-resource-ismgr`",
        str(schema["description"]),
        "Typed Python classes for programs are in `ismgr_automation.resources`.",
        *[_resource(token, body) for token, body in sorted(schema["resources"].items())],
        *(["## Types"] if types else []),
        *[_type(token, body) for token, body in sorted(types.items())],
        "## Settings of the provider",
        _properties(schema["provider"]["inputProperties"]),
    )


def _resource(token: str, body: dict[str, Any]) -> str:
    parts = [
        f"## {token}",
        body.get("description", ""),
        "Inputs:",
        _properties(body.get("inputProperties", {}), set(body.get("requiredInputs", ()))),
        "Outputs:",
        _properties(body.get("properties", {})),
    ]
    return "\n\n".join(part for part in parts if part)


def _type(token: str, body: dict[str, Any]) -> str:
    parts = [f"### {token}", body.get("description", "")]
    parts.append(_properties(body.get("properties", {}), set(body.get("required", ()))))
    return "\n\n".join(part for part in parts if part)


def _properties(properties: dict[str, Any], required: set[str] | None = None) -> str:
    if required is None:
        rows = [(f"`{name}`", _kind(spec), _notes(spec)) for name, spec in properties.items()]
        return markdown.table(("property", "type", "says"), rows)
    marked = [
        (f"`{name}`", _kind(spec), "yes" if name in required else "", _notes(spec)) for name, spec in properties.items()
    ]
    return markdown.table(("property", "type", "required", "says"), marked)


def _kind(spec: dict[str, Any]) -> str:
    if spec.get("$ref", "").endswith("#/Any"):
        return "any value"
    if "$ref" in spec:
        return f"`{spec['$ref'].rpartition('/')[2]}`"
    if "items" in spec:
        return f"list of {_kind(spec['items'])}"
    if "additionalProperties" in spec:
        return f"map of {_kind(spec['additionalProperties'])}"
    return str(spec.get("type", "any value"))


def _notes(spec: dict[str, Any]) -> str:
    notes = [str(spec.get("description", ""))]
    replaces = spec.get("replaceOnChanges") or spec.get("willReplaceOnChanges")
    if spec.get("secret"):
        notes.append("Secret.")
    if replaces and "replacement" not in notes[0]:
        notes.append("A change replaces the resource.")
    return " ".join(note for note in notes if note)
