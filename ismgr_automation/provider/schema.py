"""The provider's Pulumi schema, made from the same models that check the inputs. It computes and speaks to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ismgr_automation import __version__
from ismgr_automation.provider.record_set import RecordSet
from ismgr_automation.provider.resource import Part, Resource
from ismgr_automation.provider.server import Server
from ismgr_automation.provider.settings import OPTIONS, SECRET_OPTIONS

RESOURCES: tuple[Resource, ...] = (Server(), RecordSet())
"""Every resource that the provider has."""

Spec = dict[str, Any]
"""A piece of Pulumi's package schema, as JSON."""


def package() -> Spec:
    """The whole schema, as ``GetSchema`` answers it and the reference documentation prints it."""
    types: Spec = {}
    resources = {resource.kind: _resource(resource, types) for resource in RESOURCES}
    options = {
        name: {
            "type": "string",
            "description": f"{text} Environment: `{variable}`.",
            "defaultInfo": {"environment": [variable]},
            **({"secret": True} if name in SECRET_OPTIONS else {}),
        }
        for name, (variable, text) in OPTIONS.items()
    }
    return {
        "name": "ismgr",
        "displayName": "ismgr",
        "version": __version__,
        "description": "Machines over Redfish and DNS record sets over signed updates, for ismgr and for plain Pulumi.",
        "license": "MIT",
        "keywords": ["redfish", "bmc", "dns", "rfc2136", "category/infrastructure"],
        "meta": {"moduleFormat": "(.*)"},
        "config": {"variables": options},
        "provider": {"description": "What resources use when they do not say it.", "inputProperties": options},
        "types": types,
        "resources": resources,
    }


def _resource(resource: Resource, types: Spec) -> Spec:
    module = resource.kind.split(":")[1]
    inputs, required_inputs = _properties(resource.inputs, module, types)
    outputs, _ = _properties(resource.outputs, module, types)
    for name in resource.replaced_by:
        inputs[name] |= {"willReplaceOnChanges": True}
    return {
        "description": _sentence(resource.inputs),
        "inputProperties": inputs,
        "requiredInputs": required_inputs,
        "properties": outputs,
        "required": sorted(
            alias for alias, field in _fields(resource.outputs) if field.is_required() or field.default is not None
        ),
    }


def _fields(model: type[Part]) -> list[tuple[str, Any]]:
    return [(field.alias or name, field) for name, field in model.model_fields.items()]


def _properties(model: type[Part], module: str, types: Spec) -> tuple[Spec, list[str]]:
    """Properties and the required ones; nested models are added to ``types`` on the way."""
    document = model.model_json_schema(by_alias=True)
    definitions = document.get("$defs", {})
    properties = {name: _property(body, definitions, module, types) for name, body in document["properties"].items()}
    return properties, sorted(document.get("required", []))


def _property(body: Mapping[str, Any], definitions: Mapping[str, Any], module: str, types: Spec) -> Spec:
    described = {"description": " ".join(body["description"].split())} if "description" in body else {}
    secret = {"secret": True} if body.get("secret") else {}
    default = {"default": body["default"]} if isinstance(body.get("default"), str | bool | int | float) else {}
    if default.get("default") == "":
        default = {}
    return {**_type(body, definitions, module, types), **described, **secret, **default}


def _type(body: Mapping[str, Any], definitions: Mapping[str, Any], module: str, types: Spec) -> Spec:
    if "$ref" in body:
        return _reference(body["$ref"].rsplit("/", 1)[-1], definitions, module, types)
    if "allOf" in body:
        return _type(body["allOf"][0], definitions, module, types)
    if "anyOf" in body:
        choices = [_type(one, definitions, module, types) for one in body["anyOf"] if one.get("type") != "null"]
        unique = [one for n, one in enumerate(choices) if one not in choices[:n]]
        return unique[0] if len(unique) == 1 else {"oneOf": unique}
    match body.get("type"):
        case "array":
            return {"type": "array", "items": _type(body["items"], definitions, module, types)}
        case "object":
            return {
                "type": "object",
                "additionalProperties": _type(body["additionalProperties"], definitions, module, types),
            }
        case kind:
            return {"type": kind}


def _reference(name: str, definitions: Mapping[str, Any], module: str, types: Spec) -> Spec:
    definition, token = definitions[name], f"ismgr:{module}:{name}"
    text = " ".join(definition.get("description", "").split())
    if "enum" in definition:
        types[token] = {"type": "string", "description": text, "enum": [{"value": one} for one in definition["enum"]]}
    else:
        nested = {key: _property(body, definitions, module, types) for key, body in definition["properties"].items()}
        required = sorted(definition.get("required", []))
        types[token] = {"type": "object", "description": text, "properties": nested, "required": required}
    return {"$ref": f"#/types/{token}"}


def _sentence(model: type[Part]) -> str:
    return " ".join((model.__doc__ or "").split())
