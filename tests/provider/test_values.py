"""Values on their way through Pulumi's wire and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pulumi.provider.experimental.property_value import PropertyValue

from ismgr_automation.provider.values import UNKNOWN, has_unknown, hide, known_part, plain, plain_map, property_value

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.just(UNKNOWN),
)
NAMES = st.text("abcdefgh.", min_size=1)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20)


@given(VALUES)
def test_every_value_comes_back_from_the_wire(value):
    assert plain(PropertyValue.unmarshal(property_value(value).marshal())) == value


@given(VALUES)
def test_secrecy_changes_no_value(value):
    assert plain(property_value(value).with_secret(True)) == value  # noqa: FBT003


@given(st.dictionaries(NAMES, VALUES))
def test_the_known_part_of_inputs_has_no_unknowns(inputs):
    assert not has_unknown(known_part(inputs))


def test_a_secret_is_marked_at_its_path_only():
    inputs = {"key": property_value({"name": "k", "secret": "s"}), "zone": property_value("z")}
    hidden = hide(inputs, [("key", "secret"), ("password",)])
    assert hidden["key"].value["secret"].is_secret
    assert not hidden["key"].value["name"].is_secret
    assert not hidden["zone"].is_secret
    assert plain_map(hidden) == plain_map(inputs)
