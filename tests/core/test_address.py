"""Addresses: the one identity that crosses rooms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import Address, Kind, group, host, stack


@given(st.sampled_from(Kind), st.text(min_size=1))
def test_an_address_reads_what_it_writes(kind: Kind, name: str) -> None:
    assert Address.parse(str(Address(kind, name))) == Address(kind, name)


@pytest.mark.parametrize("text", ["", "stack", "stack/", "/names", "stacks/names", "Stack/names", "host:db1"])
def test_what_is_no_address_is_refused_with_how_one_looks(text: str) -> None:
    with pytest.raises(ValueError, match=r"stack/NAME, group/NAME, host/NAME"):
        Address.parse(text)


def test_addresses_are_ordered_by_kind_and_name() -> None:
    assert sorted([stack("b"), host("z"), stack("a"), group("m")]) == [
        group("m"),
        host("z"),
        stack("a"),
        stack("b"),
    ]


def test_a_name_may_hold_a_slash() -> None:
    assert Address.parse("host/rack1/db1").name == "rack1/db1"
