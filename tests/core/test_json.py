"""Canonical JSON: one byte string for each value, and digests over it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import Kind
from ismgr_automation.core.json import Json, _plain, canonical, digest, keyed_digest

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(allow_nan=False, width=32)
VALUES = st.recursive(
    LEAVES.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _reversed(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _reversed(value[key]) for key in reversed(list(value))}
    if isinstance(value, list):
        return tuple(map(_reversed, value))
    return value


@given(VALUES)
def test_the_order_of_keys_and_the_kind_of_sequence_do_not_matter(value: Json) -> None:
    assert canonical(value) == canonical(_reversed(value))
    assert digest(value) == digest(_reversed(value))


@given(VALUES)
def test_canonical_bytes_are_json_of_the_same_value(value: Json) -> None:
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(VALUES | st.lists(st.text('\x00\x1f "\\/\x7f\x80\u2028\ud7ff\ue000\U0001f600', min_size=1), min_size=1))
def test_the_short_way_gives_the_bytes_of_the_standard(value: Json) -> None:
    assert canonical(value) == rfc8785.dumps(_plain(value))


@given(VALUES, VALUES)
def test_different_values_have_different_digests(one: Json, other: Json) -> None:
    assert (digest(one) == digest(other)) == (canonical(one) == canonical(other))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        (1.0, "1"),
        (-0.0, "0"),
        (1e21, "1e+21"),
        ("\u20ac", '"\u20ac"'),
        (Kind.STACK, '"stack"'),
        (2**53 - 1, "9007199254740991"),
        (2**60, "1152921504606847000"),
        ("\udcff", '"\\\\udcff"'),
    ],
)
def test_values_are_written_as_the_standard_says(value: Json, text: str) -> None:
    assert canonical(value) == text.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, b"bytes", {1: 2}, {"a": [object()]}])
def test_what_json_cannot_hold_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError):
        canonical(value)  # type: ignore[arg-type]


def test_a_keyed_digest_depends_on_the_key_and_never_shows_it() -> None:
    one, other = keyed_digest(b"first-key", "hunter2"), keyed_digest(b"other-key", "hunter2")
    assert one != other
    assert one.startswith("hmac-sha256:")
    assert "first-key" not in one
