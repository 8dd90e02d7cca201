"""JSON Schemas: every kind, every key with words, and nothing that forbids what our loader takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.estate.documents import KINDS
from ismgr_automation.estate.schema import COMBINED, schema, schemas, text


def _values(body: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield key, value
            yield from _values(value)
    if isinstance(body, list):
        for value in body:
            yield from _values(value)


def test_there_is_a_schema_for_each_kind_and_one_for_all():
    assert set(schemas()) == {*KINDS, COMBINED}
    assert set(schema(COMBINED)["properties"]["kind"]["enum"]) == set(KINDS)
    assert len(schema(COMBINED)["anyOf"]) == len(KINDS)


@pytest.mark.parametrize("name", [*KINDS, COMBINED])
def test_every_reference_leads_somewhere_and_unknown_keys_are_refused(name):
    body = json.loads(text(schema(name)))
    definitions = body.get("$defs", {})
    for key, value in _values(body):
        if key == "$ref":
            assert value.removeprefix("#/$defs/") in definitions
        assert key != "oneOf", "a reference to a secret is plain JSON as well: exactly one would refuse it"
    if name != COMBINED:
        assert body["additionalProperties"] is False
        assert body["properties"]["kind"]["const"] == name


def test_descriptions_come_from_docstrings_on_one_line():
    group = schema("HostGroup")
    assert group["description"] == "Hosts that are configured alike."
    assert "CEL expression" in group["properties"]["selector"]["description"]
    assert all(
        "\n" not in value for key, value in _values(schemas()) if key == "description" and isinstance(value, str)
    )


def test_an_unknown_kind_is_an_error_with_the_near_one():
    with pytest.raises(SettingsError, match="Did you mean Stack"):
        schema("Stak")
