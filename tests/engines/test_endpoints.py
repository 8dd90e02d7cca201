"""Endpoints as people write them."""

from __future__ import annotations

import pytest

from ismgr_automation.engines.endpoints import place


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("db", ("db", 53)),
        ("db:5353", ("db", 5353)),
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("2001:db8::1", ("2001:db8::1", 53)),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert place(text, 53) == found
